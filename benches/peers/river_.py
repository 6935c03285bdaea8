"""river, round by round: pull, then update."""

from importlib.metadata import version

from river import bandit

from common import ARMS, CONTEXTS, DIM, reward, say

ROUNDS = 500
NAMES = [f"x{i}" for i in range(DIM)]


def run():
    policy = bandit.LinUCBDisjoint(alpha=1.0, seed=1)
    arms = list(range(ARMS))
    for context in CONTEXTS[:ROUNDS]:
        row = dict(zip(NAMES, map(float, context)))
        arm = policy.pull(arms, context=row)
        policy.update(arm, row, reward(context, arm))


say("LinUCB, a model an arm", f"river {version('river')}", run, ROUNDS)
