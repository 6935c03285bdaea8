"""Whether to believe an off-policy estimate: agreement of estimators, weights, support, propensities."""

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
    # Off-policy diagnostics

    Reads the file in `OO_OPE`, `ope.json` by default: `oo-sim ope LOG --policy P --format json --out ope.json`.
    Warnings come first. If there are any, believe the estimators that they name, or none.
    """)


@app.cell
def load():
    answered = reading.answer(reading.folder("OO_OPE", "ope.json"))
    return (answered,)


@app.cell
def warned(answered):
    lines = [f"- **{p['diagnostics']['policy']}**: {w}" for p in answered for w in p["diagnostics"]["warnings"]]
    mo.md("\n".join(lines) if lines else "No warnings.")
    return (lines,)


@app.cell
def agreement(answered):
    values = pl.concat(
        [
            reading.estimates(p).with_columns(
                policy=pl.lit(p["diagnostics"]["policy"]), logged=pl.lit(p["diagnostics"]["logged_mean"])
            )
            for p in answered
        ]
    )
    points = alt.Chart(values).encode(y=alt.Y("estimator:N", sort=None, title=None))
    chart = (
        (
            points.mark_rule().encode(x=alt.X("low:Q", title="value; dashed: what was logged"), x2="high:Q")
            + points.mark_point(filled=True).encode(x="value:Q")
            + alt.Chart(values).mark_rule(strokeDash=[4, 4], opacity=0.4).encode(x="logged:Q")
        )
        .properties(width=520)
        .facet(row=alt.Row("policy:N", title=None))
    )
    chart
    return chart, values


@app.cell
def weights(answered):
    checks = pl.DataFrame(
        [
            {
                "policy": d["policy"],
                "rows": d["rows"],
                "worth": d["effective_rows"],
                "mean weight": d["mean_weight"],
                "p": d["mean_weight_p"],
                "largest": d["max_weight"],
                "tail index": d["tail_index"],
                "unsupported": d["unsupported"],
                "failed checks": len(d["failed"]),
            }
            for d in (p["diagnostics"] for p in answered)
        ],
        infer_schema_length=None,
    )
    checks
    return (checks,)


@app.cell
def _():
    mo.md("""
    `worth` is the effective sample size, (Σw)² / Σw². The mean weight must be 1: where `p` is small, the logged propensities
    are wrong, and no estimate means anything. Above a tail index of ½ the variance of the weights is in doubt.
    """)


@app.function
def test_the_diagnostics_are_consistent():
    _, found = app.run()
    checks = found["checks"]
    assert len(checks) == len(found["answered"]) > 0
    assert (checks["worth"] <= checks["rows"] + 1e-9).all()
    inside = found["values"].drop_nulls(["low", "high"])
    assert len(inside) > 0
    assert ((inside["low"] <= inside["high"])).all()


if __name__ == "__main__":
    app.run()
