"""`python -m oo_dask EXPERIMENT --out RUN`: a comparison on a Dask cluster."""

import argparse
import os
import sys
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from . import Failed, drive


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m oo_dask",
        description="Runs the cells of an oo-sim comparison on a Dask cluster and merges them.",
        epilog="Flags of oo-sim compare that say what to compare follow after --, such as: -- --seeds 40",
    )
    parser.add_argument("experiment", type=Path, help="experiment file")
    parser.add_argument("--out", required=True, help="folder of the results, or s3://BUCKET/PREFIX")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="a running cluster, such as tcp://head:8786")
    where.add_argument("--workers", type=int, metavar="N", help="workers on this machine; as many as cores by default")
    parser.add_argument("--shared", action="store_true", help="all workers reach --out; write there directly")
    parser.add_argument("--oo-sim", default="oo-sim", metavar="PATH", help="the program, here")
    parser.add_argument("--worker-oo-sim", metavar="PATH", help="the program on the workers, where it lies elsewhere")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    args = parser.parse_args(given[:end])
    args.flags = given[end + 1 :]
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers: expected at least 1, got {args.workers}")
    return args


def connect(args: argparse.Namespace) -> Client:
    """The cluster that was named, or one of this machine that nobody else can reach."""
    if args.scheduler:
        return Client(args.scheduler, timeout="20s")
    # No pages of statistics: they would need packages, and a port.
    dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []})
    cluster = LocalCluster(
        n_workers=args.workers or os.cpu_count() or 1,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
    )
    return Client(cluster)


def main() -> int:
    args = arguments()
    try:
        with connect(args) as client:
            try:
                table = drive(
                    client,
                    args.experiment,
                    args.out,
                    flags=args.flags,
                    oo_sim=args.oo_sim,
                    worker_oo_sim=args.worker_oo_sim,
                    shared=args.shared,
                )
            finally:
                if client.cluster is not None:
                    client.cluster.close()
    except (Failed, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
