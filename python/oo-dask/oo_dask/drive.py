"""Hands cells to a cluster and collects what they make."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cloudpickle
from distributed import Client, as_completed

from . import cell
from .cell import Job, run

# Workers are sent the code, so that they need nothing but Dask and oo-sim.
cloudpickle.register_pickle_by_value(cell)


class Failed(Exception):
    """A comparison that did not come to its end; what was finished is kept."""


def drive(
    client: Client,
    experiment: Path,
    out: str,
    *,
    flags: Sequence[str] = (),
    oo_sim: str = "oo-sim",
    worker_oo_sim: str | None = None,
    shared: bool = False,
    retries: int = 2,
) -> str:
    """Runs every cell of `experiment` that `out` does not hold yet, merges, and returns the table of results.

    `shared` says that all workers reach `out`; it is so on object storage. Otherwise files come back through Dask.
    `retries` is how often a cell may fail by itself; a worker that dies does not count.

    Raises `Failed` with what `oo-sim` said.
    """
    shared = shared or out.startswith("s3://")
    job = Job(
        program=worker_oo_sim or oo_sim,
        name=experiment.name,
        text=experiment.read_text(encoding="utf-8"),
        flags=tuple(flags),
        out=out if shared else None,
    )
    listed = call([oo_sim, "compare", str(experiment), *flags, "--list", "--out", out])
    cells = [line.split("\t") for line in listed.splitlines()]
    say(f"{len(cells)} cells to run on {len(client.scheduler_info()['workers'])} workers")
    futures = {client.submit(run, job, c[0], c[1], pure=False, retries=retries): c for c in cells}
    finished = 0
    for future in as_completed(futures):
        shard, _, env, policy, seed = futures.pop(future)
        if future.status != "finished":
            error = future.exception()
            client.cancel(list(futures))
            raise Failed(f"{policy} in {env}, seed {seed} (--shard {shard}): {error}")
        keep(Path(out), future.result())
        # Lets the cluster forget the files.
        future.release()
        finished += 1
        if finished * 10 // len(cells) != (finished - 1) * 10 // len(cells):
            say(f"{finished} of {len(cells)} cells")
    if not cells and not shared and not Path(out, "experiment.toml").exists():
        raise Failed(f"nothing to run and no run in {out}")
    return call([oo_sim, "merge", out, "--out", out])


def keep(out: Path, files: dict[str, bytes]) -> None:
    """Writes files, each under a temporary name first; a cell's Parquet file, which makes it finished, comes last."""
    for name, content in files.items():
        target = out / name
        if name == "experiment.toml" and target.exists() and target.read_bytes() != content:
            raise Failed(f"{out} holds another experiment; choose another folder with --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            # Temporary files are for the owner alone; results have the usual rights.
            os.chmod(temporary, 0o666 & ~umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise


def umask() -> int:
    """The process's mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def call(command: list[str]) -> str:
    """What a command prints; `Failed` with its errors when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as e:
        raise Failed(f"cannot run {command[0]}: {e}; name it with --oo-sim") from e
    if done.returncode != 0:
        raise Failed(done.stderr.strip().removeprefix("error: "))
    return done.stdout


def say(text: str) -> None:
    """Progress; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)
