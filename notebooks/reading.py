"""Reads what oo-sim wrote: the folder of a run, and the answer of `oo-sim ope --format json`."""

import json
import os
import tomllib
from pathlib import Path

import polars as pl


def folder(variable: str, default: str) -> Path:
    """The folder or file named by an environment variable, or the default, seen from the project's folder."""
    path = Path(os.environ.get(variable, default))
    if not path.is_absolute():
        # Notebooks are opened from anywhere.
        path = Path(__file__).resolve().parent.parent / path
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; make it, or set {variable}")
    return path


def experiment(run: Path) -> dict:
    """What was asked."""
    return tomllib.loads((run / "experiment.toml").read_text(encoding="utf-8"))


def summary(run: Path) -> dict:
    """What oo-sim answered: `policies`, `pairs`, `groups`, `weeks`."""
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def policies(run: Path) -> pl.DataFrame:
    """A row for each policy in each environment: mean reward with its interval, regret, rounds."""
    rows = [
        {
            "env": line["env"],
            "policy": line["policy"],
            "mean": line["mean_reward"],
            "low": line["ci"][0] if line["ci"] else None,
            "high": line["ci"][1] if line["ci"] else None,
            "regret": line["mean_regret"],
            "rounds": line["rounds"],
        }
        for line in summary(run)["policies"]
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def pairs(run: Path) -> pl.DataFrame:
    """A row for each pair: the difference a − b, its interval, the adjusted p value, the verdict."""
    rows = [
        {
            "env": pair["env"],
            "pair": f"{pair['a']} − {pair['b']}",
            "difference": pair["diff"],
            "low": pair["ci"][0] if pair["ci"] else None,
            "high": pair["ci"][1] if pair["ci"] else None,
            "p": pair["p_adjusted"],
            "verdict": pair["verdict"],
        }
        for pair in summary(run)["pairs"]
    ]
    schema = {"env": pl.String, "pair": pl.String, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=schema | {"p": pl.Float64, "verdict": pl.String})


def rounds(run: Path) -> pl.LazyFrame:
    """Every round of every cell, with `env`, `policy` and `seed`; read when it is collected."""
    frames = []
    for info in sorted((run / "cells").glob("*.json")):
        cell = json.loads(info.read_text(encoding="utf-8"))
        names = [pl.lit(cell[key]).alias(key) for key in ("env", "policy", "seed")]
        frames.append(pl.scan_parquet(info.with_suffix(".parquet")).with_columns(names))
    if not frames:
        raise FileNotFoundError(f"{run} holds no cells; give the folder that `oo-sim compare` wrote")
    return pl.concat(frames)


def curves(run: Path, points: int = 40) -> pl.DataFrame:
    """The mean reward over time: a row for each policy, environment and stretch of rounds, averaged over seeds."""
    return (
        rounds(run)
        .with_columns(length=pl.len().over("env", "policy", "seed"))
        .with_columns(part=(pl.col("index") * points // pl.col("length")).clip(0, points - 1))
        .group_by("env", "policy", "seed", "part")
        .agg(reward=pl.col("reward").mean(), until=pl.col("index").max() + 1)
        .group_by("env", "policy", "part")
        .agg(
            reward=pl.col("reward").mean(),
            error=pl.col("reward").std() / pl.len().sqrt(),
            until=pl.col("until").mean(),
        )
        .sort("env", "policy", "part")
        .collect()
    )


def answer(file: Path) -> list[dict]:
    """The policies of an off-policy answer, each with `estimates` and `diagnostics`."""
    return json.loads(file.read_text(encoding="utf-8"))["policies"]


def estimates(policy: dict) -> pl.DataFrame:
    """A row for each estimator: its parameter, the value, the interval."""
    rows = []
    for line in policy["estimates"]:
        # A number, or a number and how it was chosen.
        parameter = line["parameter"]
        low, high = line["ci"] or (None, None)
        rows.append(
            {
                "estimator": line["estimator"] + ("" if parameter is None else f" {parameter}"),
                "value": line["value"],
                "low": low,
                "high": high,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
