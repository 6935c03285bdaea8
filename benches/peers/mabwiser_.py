"""MABWiser, round by round: predict, then partial_fit with the one reward."""

from importlib.metadata import version

from mabwiser.mab import MAB, LearningPolicy

from common import ARMS, CONTEXTS, reward, say

ROUNDS = 500


def run(policy):
    mab = MAB(arms=list(range(ARMS)), learning_policy=policy, seed=1)
    # It must be fitted once before it predicts: one row an arm.
    mab.fit(list(range(ARMS)), [0.0] * ARMS, CONTEXTS[:ARMS])
    for context in CONTEXTS[:ROUNDS]:
        row = context[None, :]
        arm = mab.predict(row)
        mab.partial_fit([arm], [reward(context, arm)], row)


for what, policy in [
    ("LinUCB, a model an arm", LearningPolicy.LinUCB(alpha=1.0)),
    ("LinTS, a model an arm", LearningPolicy.LinTS(alpha=1.0)),
    ("ε-greedy over ridge, a model an arm", LearningPolicy.LinGreedy(epsilon=0.1)),
]:
    say(what, f"MABWiser {version('mabwiser')}", lambda: run(policy), ROUNDS)
