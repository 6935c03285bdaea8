//! Drawings that stand alone: a table of numbers as dots with intervals, or as lines.

use super::axis::{Axis, number, spread};
use super::charts::style;
use super::svg::{Anchor, Svg};

/// A number with half the width of its interval, where that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// The number.
    pub value: f64,
    /// Half the width of its interval.
    pub half: Option<f64>,
}

/// A table of marks.
pub struct Plot<'a> {
    /// For screen readers.
    pub title: &'a str,
    /// What the numbers are.
    pub unit: &'a str,
    /// The headings of the columns.
    pub columns: Vec<&'a str>,
    /// The rows with their names; each has a mark a column, or none where there is no number.
    pub rows: &'a [(String, Vec<Option<Mark>>)],
}

/// The width of a character of the small text, in a wide font.
const CHARACTER: f64 = 6.9;
/// The most that the name of a row takes.
const LABEL: f64 = 420.0;
/// Space around everything.
const EDGE: f64 = 12.0;

/// Its own colours, since no page is around it. The paper is drawn too: a page may be dark where the reader's system is
/// light.
const STYLE: &str = "\
svg{--paper:#fff;--ink:#1b1f23;--quiet:#5b646d;--rule:#d9dee3;--blue:#0072b2}
@media(prefers-color-scheme:dark){svg{--paper:#15181b;--ink:#e6e9ec;--quiet:#9aa4ad;--rule:#343a40;--blue:#1a86cc}}
text{fill:var(--ink);font:12px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif}
.paper{fill:var(--paper)}.quiet{fill:var(--quiet)}.strong{font-weight:600}
.grid{stroke:var(--rule)}.tick{stroke:var(--quiet)}.zero{stroke:var(--quiet);stroke-width:1.3}
.p0{--c:var(--blue)}.p1{--c:#d55e00}.p2{--c:#009e73}.p3{--c:#cc79a7}.p4{--c:#e69f00}.p5{--c:#56b4e9}.p6{--c:var(--ink)}
.line{stroke:var(--c);stroke-width:2;fill:none;stroke-linejoin:round}.lead{stroke:var(--c)}.dot{fill:var(--c)}
.line.d1{stroke-dasharray:7 3}.line.d2{stroke-dasharray:2 2.5}
.dot.d1,.dot.d2{fill:var(--paper);stroke:var(--c);stroke-width:2}
";

fn width_of(text: &str) -> f64 {
    CHARACTER * text.chars().count() as f64
}

/// At most as many characters as fit.
fn fitted(text: &str, width: f64) -> String {
    if width_of(text) <= width {
        return text.into();
    }
    let most = (width / CHARACTER) as usize;
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The least and the largest of the marks with their intervals.
fn extent<'a>(marks: impl Iterator<Item = &'a Mark>) -> (f64, f64) {
    let ends = marks.flat_map(|m| {
        let half = m.half.unwrap_or(0.0);
        [m.value - half, m.value + half]
    });
    ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    })
}

fn begin(width: f64, height: f64, plot: &Plot<'_>) -> Svg {
    let mut svg = Svg::new(width, height, plot.title);
    svg.bar("paper", (0.0, 0.0), (width, height), plot.title);
    svg.text("quiet", (EDGE, 20.0), Anchor::Start, plot.unit);
    svg
}

/// A panel a column, with a dot a row.
pub fn dots(plot: &Plot<'_>, same_scale: bool) -> String {
    const ROW: f64 = 17.0;
    const PANEL: f64 = 150.0;
    const GAP: f64 = 22.0;
    const ABREAST: usize = 5;
    let abreast = plot.columns.len().clamp(1, ABREAST);
    let longest = plot.rows.iter().map(|(name, _)| width_of(name)).fold(0.0, f64::max);
    let left = EDGE + longest.min(LABEL) + 10.0;
    let width = left + abreast as f64 * (PANEL + GAP) + EDGE;
    let (top, bottom) = (26.0, ROW * plot.rows.len() as f64 + 4.0);
    let tall = top + bottom + 26.0;
    let lines = plot.columns.len().div_ceil(abreast);
    let mut svg = begin(width, 30.0 + tall * lines as f64 + EDGE, plot);
    let all = extent(plot.rows.iter().flat_map(|(_, marks)| marks.iter().flatten()));
    for (c, column) in plot.columns.iter().enumerate() {
        let y0 = 30.0 + tall * (c / abreast) as f64;
        let x0 = left + (PANEL + GAP) * (c % abreast) as f64;
        let marks = || plot.rows.iter().map(|(_, marks)| marks.get(c).copied().flatten());
        let own: Vec<Mark> = marks().flatten().collect();
        let range = if same_scale { all } else { extent(own.iter()) };
        let x = Axis::new(range, (x0 + 6.0, x0 + PANEL - 6.0));
        svg.text("strong", (x0, y0 + 14.0), Anchor::Start, &fitted(column, PANEL + GAP));
        // One tick alone gives no scale.
        let ticks = Some(x.ticks(3)).filter(|t| t.len() > 1).unwrap_or_else(|| x.ticks(5));
        for (value, text) in ticks {
            let class = if value == 0.0 { "zero" } else { "grid" };
            svg.line(class, (x.at(value), y0 + top), (x.at(value), y0 + top + bottom));
            svg.text("quiet", (x.at(value), y0 + top + bottom + 15.0), Anchor::Middle, &text);
        }
        for (i, ((name, _), mark)) in plot.rows.iter().zip(marks()).enumerate() {
            let y = y0 + top + 2.0 + ROW * (i as f64 + 0.5);
            if c % abreast == 0 {
                svg.text("label", (left - 10.0, y + 4.0), Anchor::End, &fitted(name, LABEL));
            }
            let Some(mark) = mark else { continue };
            let mut tip = format!("{name}, {column}: {}", number(mark.value, 4));
            if let Some(half) = mark.half {
                tip += &format!(" ± {}", number(half, 4));
                svg.line("line p0", (x.at(mark.value - half), y), (x.at(mark.value + half), y));
            }
            svg.dot("dot p0", (x.at(mark.value), y), 3.5, &tip);
        }
    }
    svg.finish_alone(STYLE)
}

/// Where the columns lie: at the numbers in their headings, where these rise, else at equal distances.
fn places(columns: &[&str]) -> Vec<f64> {
    let numbers: Option<Vec<f64>> = columns
        .iter()
        .map(|text| {
            let start = text.find(|c: char| c.is_ascii_digit())?;
            let rest = &text[start..];
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
                .unwrap_or(rest.len());
            rest[..end].replace(',', "").parse().ok()
        })
        .collect();
    match numbers {
        Some(numbers) if numbers.windows(2).all(|w| w[0] < w[1]) => numbers,
        _ => (0..columns.len()).map(|i| i as f64).collect(),
    }
}

/// A line a row, from column to column; `along` says what the columns are.
pub fn lines(plot: &Plot<'_>, along: &str) -> String {
    let places = places(&plot.columns);
    let (left, top, bottom, height) = (64.0, 34.0, 330.0, 372.0);
    let longest = plot.rows.iter().map(|(name, _)| width_of(name)).fold(0.0, f64::max);
    let right = left + 420.0;
    let mut svg = begin(right + 20.0 + longest.min(LABEL) + EDGE, height, plot);
    let ends = (
        places.first().copied().unwrap_or(0.0),
        places.last().copied().unwrap_or(1.0),
    );
    let x = Axis::new(ends, (left, right));
    let (low, high) = extent(plot.rows.iter().flat_map(|(_, marks)| marks.iter().flatten()));
    let margin = 0.03 * (high - low);
    let y = Axis::new((low - margin, high + margin), (bottom, top));
    for (value, text) in y.ticks(6) {
        let class = if value == 0.0 { "zero" } else { "grid" };
        svg.line(class, (left, y.at(value)), (right, y.at(value)));
        svg.text("quiet", (left - 6.0, y.at(value) + 4.0), Anchor::End, &text);
    }
    svg.line("tick", (left, bottom), (right, bottom));
    for (column, place) in plot.columns.iter().zip(&places) {
        svg.line("tick", (x.at(*place), bottom), (x.at(*place), bottom + 4.0));
        svg.text("quiet", (x.at(*place), bottom + 17.0), Anchor::Middle, column);
    }
    svg.text("quiet", (right, bottom + 34.0), Anchor::End, along);
    let mut last: Vec<(usize, f64, f64)> = Vec::new();
    for (i, (name, marks)) in plot.rows.iter().enumerate() {
        let points = places
            .iter()
            .zip(marks)
            .filter_map(|(p, m)| Some((x.at(*p), y.at((*m)?.value))));
        let points: Vec<(f64, f64)> = points.collect();
        for (&(px, py), mark) in points.iter().zip(marks.iter().flatten()) {
            if let Some(half) = mark.half {
                let class = format!("lead {}", style(i));
                svg.line(&class, (px, y.at(mark.value - half)), (px, y.at(mark.value + half)));
            }
            svg.dot(
                &format!("dot {}", style(i)),
                (px, py),
                3.0,
                &format!("{name}: {}", number(mark.value, 4)),
            );
        }
        svg.path(&format!("line {}", style(i)), &points);
        last.extend(points.last().map(|&(px, py)| (i, px, py)));
    }
    let wanted: Vec<f64> = last.iter().map(|l| l.2).collect();
    for (&(i, px, py), at) in last.iter().zip(spread(&wanted, 14.0, (top - 8.0, bottom + 8.0))) {
        svg.line(&format!("lead {}", style(i)), (px, py), (right + 14.0, at));
        svg.text(
            "label",
            (right + 18.0, at + 4.0),
            Anchor::Start,
            &fitted(&plot.rows[i].0, LABEL),
        );
    }
    svg.finish_alone(STYLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(value: f64) -> Option<Mark> {
        Some(Mark { value, half: Some(0.5) })
    }

    #[test]
    fn columns_lie_at_their_numbers_where_these_rise() {
        assert_eq!(places(&["week 1", "week 2", "week 4"]), [1.0, 2.0, 4.0]);
        assert_eq!(places(&["δ = 0.5", "0.7", "1,000 rows"]), [0.5, 0.7, 1000.0]);
        assert_eq!(places(&["week 2", "week 1"]), [0.0, 1.0]);
        assert_eq!(places(&["men", "women"]), [0.0, 1.0]);
    }

    #[test]
    fn gaps_and_odd_names_are_drawn() {
        let rows = [
            ("<a>".to_string(), vec![mark(1.0), None]),
            ("b".repeat(200), vec![mark(-1.0), mark(2.0)]),
        ];
        let plot = Plot {
            title: "t",
            unit: "reward",
            columns: vec!["x", "y"],
            rows: &rows,
        };
        for svg in [dots(&plot, false), dots(&plot, true), lines(&plot, "worlds")] {
            assert!(svg.starts_with("<svg xmlns="), "{svg}");
            assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
            assert!(
                svg.contains("&lt;a&gt;") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
            assert!(svg.contains("bbb…</text>"), "{svg}");
        }
        let none = Plot {
            rows: &[],
            columns: vec![],
            ..plot
        };
        assert!(!lines(&none, "").contains("NaN") && !dots(&none, true).contains("inf"));
    }
}
