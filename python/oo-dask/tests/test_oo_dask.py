"""Against a real cluster of this machine: shards, Dask with a killed worker, and one run give the same bytes.

Environment: `OO_SIM` is the program.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from oo_dask import Failed, drive

OO_SIM = os.environ["OO_SIM"]
CELLS = 24
EXPERIMENT = """
env = ["linear{d=20}"]
policies = ["uniform", "lin-ucb", "lin-ts", "egreedy"]
rounds = 8000
seeds = 6
"""


def oo_sim(*args: object) -> str:
    done = subprocess.run([OO_SIM, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(run: Path) -> dict[str, bytes]:
    """The files of a run without what a clock wrote: timings.json, and the CPU time in the notes of cells."""
    files = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name != "timings.json"):
        data = path.read_bytes()
        if path.parent.name == "cells" and path.suffix == ".json":
            note = json.loads(data)
            del note["cpu_us"]
            data = json.dumps(note).encode()
        files[str(path.relative_to(run))] = data
    return files


def cluster(workers: int) -> LocalCluster:
    dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []})
    return LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)


class Cells(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.experiment = self.folder / "mine.toml"
        self.experiment.write_text(EXPERIMENT)

    def drive(self, client: Client, out: Path, **more: object) -> str:
        return drive(client, self.experiment, str(out), oo_sim=OO_SIM, **more)

    def test_shards_a_killed_worker_and_one_run_give_the_same_bytes(self) -> None:
        whole, shards, dask_run = (self.folder / name for name in ("whole", "shards", "dask"))
        oo_sim("compare", self.experiment, "--out", whole)
        for i in range(1, 5):
            oo_sim("compare", self.experiment, "--shard", f"{i}/4", "--out", self.folder / f"part-{i}")
        oo_sim("merge", *(self.folder / f"part-{i}" for i in range(1, 5)), "--out", shards)
        with cluster(2) as local, Client(local) as client:
            before = client.run(os.getpid)
            left_at_kill: list[int] = []

            def kill() -> None:
                done = 0
                while done < 3:
                    time.sleep(0.01)
                    done = len(list(dask_run.glob("cells/*.parquet")))
                os.kill(next(iter(before.values())), signal.SIGKILL)
                left_at_kill.append(CELLS - done)

            killer = threading.Thread(target=kill, daemon=True)
            killer.start()
            table = self.drive(client, dask_run)
            killer.join(timeout=60)
            self.assertTrue(left_at_kill and left_at_kill[0] >= 6, left_at_kill)
            with self.assertRaises(ProcessLookupError):
                os.kill(next(iter(before.values())), 0)
            # Nothing is left to do, and asking again gives the same.
            again = self.drive(client, dask_run)
        self.assertEqual(table, again)
        self.assertIn("lin-ucb", table)
        expected = content(whole)
        self.assertEqual(len(expected), 2 + 2 * CELLS)
        self.assertEqual(content(shards), expected)
        self.assertEqual(content(dask_run), expected)
        print(f"killed with {left_at_kill[0]} of {CELLS} cells to go")

    def test_a_folder_that_workers_share(self) -> None:
        self.experiment.write_text(EXPERIMENT.replace("8000", "100"))
        with cluster(2) as local, Client(local) as client:
            self.drive(client, self.folder / "shared", shared=True, flags=["--seeds", "2"])
        oo_sim("compare", self.experiment, "--seeds", "2", "--out", self.folder / "whole")
        self.assertEqual(content(self.folder / "shared"), content(self.folder / "whole"))

    def test_errors_say_what_is_wrong(self) -> None:
        with cluster(1) as local, Client(local) as client:
            with self.assertRaisesRegex(Failed, "cannot run /nowhere/oo-sim on"):
                self.drive(client, self.folder / "x", worker_oo_sim="/nowhere/oo-sim", retries=0)
            self.experiment.write_text(EXPERIMENT.replace("lin-ucb", "linucb"))
            with self.assertRaisesRegex(Failed, "did you mean `lin-ucb`"):
                self.drive(client, self.folder / "x")
            self.experiment.write_text(EXPERIMENT + "max_seeds = 9\n")
            with self.assertRaisesRegex(Failed, "until-decided"):
                self.drive(client, self.folder / "x")

    def test_the_program_listens_on_this_machine_alone(self) -> None:
        self.experiment.write_text(EXPERIMENT.replace("8000", "100"))
        command = ["python3", "-m", "oo_dask", str(self.experiment), "--out", str(self.folder / "run")]
        command += ["--oo-sim", OO_SIM, "--workers", "2", "--", "--seeds", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("lin-ucb", done.stdout)
        with cluster(2) as local:
            addresses = [local.scheduler_address, *(w["nanny"] for w in local.scheduler_info["workers"].values())]
            self.assertTrue(all(a.startswith("tcp://127.0.0.1:") for a in addresses), addresses)
            # Every socket that listens, of this process and its children, is on the loopback.
            import psutil

            me = psutil.Process()
            for process in [me, *me.children(recursive=True)]:
                for socket in process.net_connections("inet"):
                    if socket.status == psutil.CONN_LISTEN:
                        self.assertEqual(socket.laddr.ip, "127.0.0.1", socket)


if __name__ == "__main__":
    unittest.main()
