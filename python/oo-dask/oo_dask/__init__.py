"""Drives the cells of an `oo-sim` comparison through a Dask cluster.

A task is one cell: it runs `oo-sim compare … --shard I/N` in a fresh folder and gives back the files that came of it.
Dask may run a task more than once, when a worker dies or is thought to have died. That harms nothing: a cell's Parquet
file has the same bytes whoever makes it, and files are renamed into place. At the end `oo-sim merge` checks that every
cell is there and writes the results.
"""

from .drive import Failed, drive

__all__ = ["Failed", "drive"]
