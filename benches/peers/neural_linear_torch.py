"""NeuralLinear in PyTorch, one thread: the peer of `benches/neural.rs`, with the same network, batch and schedule.

A 54-100-100-7 ReLU network predicts rewards; each arm has a Bayesian linear head on the last hidden layer and a
constant. A round: forward pass, one draw a head from its posterior predictive, argmax, rank-one update of the chosen
head; every 16 rounds one Adam step on 64 rows of the replay buffer. Prints rounds per CPU-second, the best of 3.
"""

import sys
import time

import torch

torch.set_num_threads(1)
D, ARMS, WIDTH, BATCH, EVERY = 54, 7, 100, 64, 16


def run(rounds: int) -> float:
    torch.manual_seed(1)
    body = torch.nn.Sequential(
        torch.nn.Linear(D, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()
    )
    last = torch.nn.Linear(WIDTH, ARMS)
    optimiser = torch.optim.Adam([*body.parameters(), *last.parameters()], lr=0.003)
    contexts = torch.randn(2000, D)
    # In single precision, which is to the peer's advantage: half the memory of ours.
    inverse = torch.eye(WIDTH + 1).repeat(ARMS, 1, 1) / 0.25
    theta = torch.zeros(ARMS, WIDTH + 1)
    phi = torch.ones(WIDTH + 1)
    rows = torch.zeros(rounds, D)
    actions = torch.zeros(rounds, dtype=torch.int64)
    rewards = torch.zeros(rounds)
    start = time.process_time()
    for t in range(rounds):
        x = contexts[t % 2000]
        with torch.no_grad():
            phi[:WIDTH] = body(x)
            turned = inverse @ phi
            values = theta @ phi + torch.randn(ARMS) * (turned @ phi).sqrt()
            a = int(values.argmax())
            reward = float(x[0] > 0.5 * a)
            g = turned[a]
            scale = 1.0 / (1.0 + float(g @ phi))
            theta[a].add_(g, alpha=scale * (reward - float(theta[a] @ phi)))
            inverse[a].addr_(g, g, alpha=-scale)
            rows[t], actions[t], rewards[t] = x, a, reward
        if (t + 1) % EVERY == 0:
            pick = torch.randint(0, t + 1, (BATCH,))
            predicted = last(body(rows[pick])).gather(1, actions[pick, None])[:, 0]
            loss = 0.5 * (predicted - rewards[pick]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return rounds / (time.process_time() - start)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    run(1000)
    print(f"{max(run(rounds) for _ in range(3)):.0f}")
