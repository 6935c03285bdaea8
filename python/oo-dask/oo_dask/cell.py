"""What runs on a worker. Only the standard library is used, and nothing of the machine that asks."""

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """What all cells of a comparison have in common."""

    program: str
    """`oo-sim` on the workers: a path, or a name that is looked up there."""
    name: str
    """The experiment file's name: a run is named after it where it names itself nothing else."""
    text: str
    """The experiment file's text."""
    flags: tuple[str, ...] = field(default=())
    """More flags of `oo-sim compare`."""
    out: str | None = None
    """A folder that all workers reach, to write to directly; without one, files are given back."""


def run(job: Job, shard: str, name: str) -> dict[str, bytes]:
    """Runs the cell that is `shard`, whose files are called `name`; gives back its files by their names in the run.

    Raises `RuntimeError` with what `oo-sim` said, or when it made another cell than the one asked for.
    """
    with tempfile.TemporaryDirectory(prefix="oo-dask-") as folder:
        experiment = Path(folder, job.name)
        experiment.write_text(job.text, encoding="utf-8")
        out = job.out or str(Path(folder, "run"))
        command = [job.program, "compare", str(experiment), *job.flags]
        command += ["--threads", "1", "--shard", shard, "--out", out]
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        except OSError as e:
            raise RuntimeError(f"cannot run {job.program} on {os.uname().nodename}: {e}; name it with --oo-sim") from e
        if done.returncode != 0:
            raise RuntimeError(f"shard {shard} on {os.uname().nodename}: {done.stderr.strip()}")
        if job.out:
            return {}
        files = [f"cells/{name}.json", f"cells/{name}.parquet"]
        made = {f"cells/{path.name}" for path in Path(out, "cells").iterdir()}
        if made != set(files):
            raise RuntimeError(
                f"shard {shard} on {os.uname().nodename} made another cell than {name}: "
                "oo-sim or its data differ from those here"
            )
        return {file: Path(out, file).read_bytes() for file in ["experiment.toml", *files]}
