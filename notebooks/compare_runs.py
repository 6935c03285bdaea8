"""Two runs side by side: does the answer of one hold in the other?"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")

with app.setup:
    import altair as alt
    import marimo as mo
    import polars as pl
    import reading


@app.cell
def _():
    mo.md("""
    # Compare runs

    Reads the folders in `OO_RUN` and `OO_OTHER` (`runs/compare` by default) and compares the policies that both have.
    A pair that is decided one way in one run and the other way in the other is the first thing to explain.
    """)


@app.cell
def load():
    run = reading.folder("OO_RUN", "runs/compare")
    other = reading.folder("OO_OTHER", "runs/compare")
    return other, run


@app.cell
def means(other, run):
    both = pl.concat(
        [
            reading.policies(run).with_columns(run=pl.lit(f"1: {run.name}")),
            reading.policies(other).with_columns(run=pl.lit(f"2: {other.name}")),
        ]
    )
    points = alt.Chart(both).encode(y=alt.Y("run:N", title=None), color=alt.Color("run:N", legend=None))
    chart = (
        (
            points.mark_rule().encode(x=alt.X("low:Q", title="mean reward, 95 % interval"), x2="high:Q")
            + points.mark_point(filled=True, size=60).encode(x="mean:Q")
        )
        .properties(width=520)
        .facet(row=alt.Row("policy:N", title=None, sort=None))
    )
    chart
    return both, chart


@app.cell
def verdicts(other, run):
    compared = (
        reading.pairs(run)
        .join(reading.pairs(other), on=["env", "pair"], suffix="_2")
        .select("env", "pair", "difference", "difference_2", "verdict", "verdict_2")
        .with_columns(
            turned=(pl.col("difference") * pl.col("difference_2") < 0)
            & pl.col("verdict").str.ends_with("is better")
            & pl.col("verdict_2").str.ends_with("is better")
        )
    )
    compared
    return (compared,)


@app.cell
def _(compared):
    turned = compared["turned"].sum()
    mo.md(
        f"**{turned} of {len(compared)} pairs are decided in opposite ways.**"
        if turned
        else f"No pair of {len(compared)} is decided in opposite ways."
    )


@app.function
def test_pairs_of_both_runs_are_compared():
    """With the same run twice every pair is there twice, and none is turned."""
    _, found = app.run()
    compared = found["compared"]
    assert len(compared) > 0
    if found["run"] == found["other"]:
        assert len(compared) == len(reading.pairs(found["run"]))
        assert (compared["difference"] == compared["difference_2"]).all()
        assert not compared["turned"].any()


if __name__ == "__main__":
    app.run()
