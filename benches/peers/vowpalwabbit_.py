"""Vowpal Wabbit over its own text format, read by its own parser: a decision's probabilities and one step a round.

The log is of a uniform policy, so it learns about arms that it would not choose; the work is the same.
"""

from importlib.metadata import version

from vowpalwabbit import Workspace

from common import CONTEXTS, FOLDER, say


def run(options):
    command = f"--cb_explore_adf {options} -q xa --cb_type mtr --quiet --no_stdin -d {FOLDER / 'vw.txt'}"
    # The file is read and learned as the workspace opens.
    Workspace(command).finish()


for what, options in [
    ("ε-greedy over SGD, a model an arm", "--epsilon 0.1"),
    ("SquareCB over SGD, a model an arm", "--squarecb"),
]:
    say(what, f"Vowpal Wabbit {version('vowpalwabbit')}, parsing text", lambda: run(options), len(CONTEXTS))
