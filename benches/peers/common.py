"""How the peers are measured: the stream that our side wrote, CPU time of the process, the best of three tries."""

import sys
import time
from pathlib import Path

import numpy as np

FOLDER = Path(sys.argv[1])
DIM, ARMS = 20, 10
CONTEXTS = np.fromfile(FOLDER / "contexts.f32", dtype="<f4").reshape(-1, DIM)


def reward(context, arm):
    """What our side pays as well."""
    return float(context[0] > 0.5 * arm)


def say(what, who, work, units):
    """Runs `work` three times from a blank start and prints how many units it does a CPU-second."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    print(f"{what}\t{who}\t{units / best:.0f}", flush=True)
