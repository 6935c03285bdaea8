"""What happened in one run: means, learning curves, reactions, persons."""

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
    # Explore a run

    Reads the folder in `OO_RUN`, `runs/compare` by default. `oo-sim compare` writes it.
    """)


@app.cell
def load():
    run = reading.folder("OO_RUN", "runs/compare")
    asked = reading.experiment(run)
    policies = reading.policies(run)
    return asked, policies, run


@app.cell
def _(asked):
    mo.md(f"""
    **{asked["name"]}**: {len(asked["policies"])} policies in {", ".join(asked["env"])}, {asked["seeds"]} seeds from
    {asked["seed"]}.
    """)


@app.cell
def means(policies):
    points = alt.Chart(policies).encode(y=alt.Y("policy:N", sort=None, title=None))
    mean_chart = (
        points.mark_rule().encode(x=alt.X("low:Q", title="mean reward, 95 % interval"), x2="high:Q")
        + points.mark_point(filled=True, size=60).encode(x="mean:Q", tooltip=["policy", "mean", "low", "high"])
    ).properties(width=560)
    mean_chart = mean_chart.facet(row=alt.Row("env:N", title=None)) if policies["env"].n_unique() > 1 else mean_chart
    mean_chart
    return (mean_chart,)


@app.cell
def courses(run):
    curves = reading.curves(run)
    band = alt.Chart(curves).transform_calculate(
        low="datum.reward - 2 * datum.error", high="datum.reward + 2 * datum.error"
    )
    curve_chart = (
        band.mark_area(opacity=0.15).encode(
            x=alt.X("until:Q", title="rounds"), y=alt.Y("low:Q", title="reward"), y2="high:Q", color="policy:N"
        )
        + band.mark_line().encode(x="until:Q", y="reward:Q", color=alt.Color("policy:N", title=None))
    ).properties(width=560, height=260)
    curve_chart = curve_chart.facet(row=alt.Row("env:N", title=None)) if curves["env"].n_unique() > 1 else curve_chart
    curve_chart
    return curve_chart, curves


@app.cell
def _():
    mo.md("Bands are two standard errors of the mean over seeds, a stretch of rounds at a time.")


@app.cell
def shares(run):
    reactions = (
        reading.rounds(run)
        .filter(pl.col("reaction").is_not_null())
        .group_by("policy", "reaction")
        .agg(n=pl.len())
        .with_columns(share=pl.col("n") / pl.col("n").sum().over("policy"))
        .sort("policy", "reaction")
        .collect()
    )
    reactions.pivot("reaction", index="policy", values="share") if len(reactions) else mo.md("Nobody reacts here.")
    return (reactions,)


@app.cell
def persons(run):
    groups = (
        reading.rounds(run)
        .filter(pl.col("group").is_not_null())
        .group_by("group", "policy")
        .agg(reward=pl.col("reward").mean())
        .sort("group", "policy")
        .collect()
    )
    groups.pivot("policy", index="group", values="reward") if len(groups) else mo.md("There are no groups here.")
    return (groups,)


@app.function
def test_the_notebook_agrees_with_the_summary():
    """Means from the rounds are those that oo-sim printed."""
    _, found = app.run()
    from_rounds = (
        reading.rounds(found["run"])
        .group_by("env", "policy")
        .agg(mean=pl.col("reward").mean(), rounds=pl.len())
        .collect()
    )
    both = found["policies"].join(from_rounds, on=["env", "policy"], suffix="_again")
    assert len(both) == len(found["policies"]) > 0
    assert ((both["mean"] - both["mean_again"]).abs() < 1e-9).all()
    assert (both["rounds"] == both["rounds_again"]).all()


@app.function
def test_shares_sum_to_one():
    _, found = app.run()
    sums = found["reactions"].group_by("policy").agg(pl.col("share").sum())
    assert ((sums["share"] - 1).abs() < 1e-9).all()


if __name__ == "__main__":
    app.run()
