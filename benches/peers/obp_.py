"""Open Bandit Pipeline: its online policies round by round, and seven off-policy estimators over one log."""

from importlib.metadata import version

import numpy as np
from obp import ope
from obp.policy import LinEpsilonGreedy, LinTS, LinUCB

from common import ARMS, CONTEXTS, DIM, FOLDER, reward, say

ROUNDS = 500
WHO = f"Open Bandit Pipeline {version('obp')}"


def run(make):
    policy = make()
    for context in CONTEXTS[:ROUNDS]:
        row = context[None, :].astype(float)
        arm = int(policy.select_action(row)[0])
        policy.update_params(arm, reward(context, arm), row)


for what, make in [
    ("LinUCB, a model an arm", lambda: LinUCB(dim=DIM, n_actions=ARMS, epsilon=1.0, random_state=1)),
    ("LinTS, a model an arm", lambda: LinTS(dim=DIM, n_actions=ARMS, random_state=1)),
    ("ε-greedy over ridge, a model an arm", lambda: LinEpsilonGreedy(dim=DIM, n_actions=ARMS, epsilon=0.1, random_state=1)),
]:
    say(what, WHO, lambda: run(make), ROUNDS)

action = np.fromfile(FOLDER / "action.u32", dtype="<u4").astype(int)
rows = len(action)


def column(name):
    return np.fromfile(FOLDER / f"{name}.f64", dtype="<f8")


log = {
    "action": action,
    "reward": column("reward"),
    "pscore": column("propensity"),
    "action_dist": column("target").reshape(rows, -1, 1),
    "estimated_rewards_by_reg_model": column("model").reshape(rows, -1, 1),
    "position": np.zeros(rows, dtype=int),
}
seven = [
    ope.InverseProbabilityWeighting(),
    ope.SelfNormalizedInverseProbabilityWeighting(),
    ope.DirectMethod(),
    ope.DoublyRobust(),
    ope.SelfNormalizedDoublyRobust(),
    ope.SwitchDoublyRobust(lambda_=10.0),
    ope.DoublyRobustWithShrinkage(lambda_=10.0),
]
say(
    "seven estimators over a log, rows",
    f"{WHO}, without standard errors",
    lambda: [estimator.estimate_policy_value(**log) for estimator in seven],
    rows,
)
