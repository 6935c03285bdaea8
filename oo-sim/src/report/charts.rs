//! The charts: courses with bands, stacked shares, and dots with intervals.
//!
//! Every policy has a number. Classes `p0`, `p1`, … give it one of seven colours that colour-blind people can tell
//! apart, and one of three dash patterns from the eighth policy on, so that colour never stands alone.

use super::axis::{Axis, number, signed, spread};
use super::svg::{Anchor, Svg};
use super::traces::{Point, Slice};
use crate::across::Across;
use crate::summary::Shares;

const WIDTH: f64 = 480.0;
/// Left of the plot: the widest tick label.
const LEFT: f64 = 54.0;
/// The width of a character of the small text in a wide font, at the size that narrow screens get.
const CHARACTER: f64 = 7.6;
const COLOURS: usize = 7;
const DASHES: usize = 3;

/// The classes of policy `i`.
pub fn style(i: usize) -> String {
    format!("p{} d{}", i % COLOURS, i / COLOURS % DASHES)
}

/// What stands at the end of the lines: names where all are short and few, otherwise the numbers of the legend.
fn labels(names: &[&str]) -> Vec<String> {
    let named = names.len() <= COLOURS && names.iter().all(|n| n.chars().count() <= 12);
    let label = |(i, name): (usize, &&str)| if named { (*name).into() } else { (i + 1).to_string() };
    names.iter().enumerate().map(label).collect()
}

/// A sample of the line of policy `i`, for a legend.
pub fn sample(i: usize) -> String {
    let mut svg = Svg::new(26.0, 10.0, "");
    svg.line(&format!("line {}", style(i)), (1.0, 5.0), (25.0, 5.0));
    svg.finish()
}

/// What a chart of courses says about itself.
pub struct Course<'a> {
    /// For screen readers.
    pub title: &'a str,
    /// What is on the vertical axis, with its unit.
    pub unit: &'a str,
    /// Whether 0 belongs on the vertical axis.
    pub from_zero: bool,
}

/// Courses with bands: one line a policy, labelled at its end.
pub fn courses(about: &Course<'_>, names: &[&str], lines: &[&[Point]]) -> String {
    let height = 300.0;
    let (top, bottom) = (30.0, height - 40.0);
    let labels = labels(names);
    let widest = labels.iter().map(|l| l.chars().count()).max();
    let right = WIDTH - 20.0 - CHARACTER * widest.unwrap_or(1) as f64;
    let end = lines.iter().flat_map(|l| l.last()).map(|p| p.x).fold(0.0, f64::max);
    let x = Axis::new((0.0, end), (LEFT, right));
    let (low, high) = extent(lines, about.from_zero);
    let y = Axis::new((low, high), (bottom, top));
    let mut svg = Svg::new(WIDTH, height, about.title);
    svg.text("small", (4.0, 14.0), Anchor::Start, about.unit);
    for (value, text) in y.ticks(5) {
        svg.line("grid", (LEFT, y.at(value)), (right, y.at(value)));
        svg.text("small", (LEFT - 6.0, y.at(value) + 4.0), Anchor::End, &text);
    }
    for (value, text) in x.ticks(4) {
        svg.line("tick", (x.at(value), bottom), (x.at(value), bottom + 4.0));
        svg.text("small", (x.at(value), bottom + 17.0), Anchor::Middle, &text);
    }
    svg.line("tick", (LEFT, bottom), (right, bottom));
    svg.text("small", (right, bottom + 33.0), Anchor::End, "decisions a seed");
    // The window's origin is the plot's corner.
    let place = |p: &Point, value: f64| (x.at(p.x) - LEFT, y.at(value) - top);
    // Many bands on top of each other would hide the lines' colours.
    let band = if lines.len() > 6 { "band pale" } else { "band" };
    svg.window((LEFT, top), (right - LEFT, bottom - top), |svg| {
        for (i, points) in lines.iter().enumerate() {
            let upper = points.iter().filter_map(|p| Some(place(p, p.band?.1)));
            let lower = points.iter().rev().filter_map(|p| Some(place(p, p.band?.0)));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            if !outline.is_empty() {
                svg.area(&format!("{band} {}", style(i)), &outline);
            }
        }
        // Lines over all bands.
        for (i, points) in lines.iter().enumerate() {
            let line: Vec<(f64, f64)> = points.iter().map(|p| place(p, p.y)).collect();
            svg.path(&format!("line {}", style(i)), &line);
        }
    });
    let ends: Vec<(usize, &Point)> = lines
        .iter()
        .enumerate()
        .filter_map(|(i, l)| Some((i, l.last()?)))
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|(_, p)| y.at(p.y)).collect();
    for (&(i, p), at) in ends.iter().zip(spread(&wanted, 13.0, (top, bottom))) {
        svg.dot(&format!("dot {}", style(i)), (x.at(p.x), y.at(p.y)), 2.5, names[i]);
        svg.line(
            &format!("lead {}", style(i)),
            (x.at(p.x), y.at(p.y)),
            (right + 13.0, at),
        );
        svg.text("small", (right + 15.0, at + 4.0), Anchor::Start, &labels[i]);
    }
    svg.finish()
}

/// The values after the first tenth, and the bands of the last three quarters: at the beginning few rounds make
/// swings so wide that they would flatten everything else.
fn extent(lines: &[&[Point]], from_zero: bool) -> (f64, f64) {
    let mut range = if from_zero {
        (0.0, 0.0)
    } else {
        (f64::INFINITY, f64::NEG_INFINITY)
    };
    let mut include = |v: f64| range = (range.0.min(v), range.1.max(v));
    for points in lines {
        points.iter().skip(points.len() / 10).for_each(|p| include(p.y));
        for (low, high) in points.iter().skip(points.len() / 4).filter_map(|p| p.band) {
            include(low);
            include(high);
        }
    }
    let margin = 0.03 * (range.1 - range.0);
    if from_zero {
        (range.0.min(0.0), range.1 + margin)
    } else {
        (range.0 - margin, range.1 + margin)
    }
}

/// At most so many characters of a name.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.into();
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// One bar a policy, split into its reactions.
pub fn shares(names: &[&str], shares: &[Option<Shares>]) -> String {
    const ROW: f64 = 40.0;
    const KINDS: [&str; 3] = ["done", "snooze", "dismiss"];
    let top = 24.0;
    let mut svg = Svg::new(WIDTH, top + ROW * names.len() as f64, "Shares of reactions");
    let mut at = 4.0;
    for kind in KINDS {
        svg.bar(kind, (at, 4.0), (11.0, 11.0), kind);
        svg.text("small", (at + 16.0, 14.0), Anchor::Start, kind);
        at += 40.0 + CHARACTER * kind.len() as f64;
    }
    let scale = Axis::new((0.0, 1.0), (4.0, WIDTH - 4.0));
    for (i, (name, shares)) in names.iter().zip(shares).enumerate() {
        let y = top + ROW * i as f64;
        // Names are as long as they like; the row is theirs, and the whole name is in the table.
        let name = shortened(&format!("{} {name}", i + 1), 70);
        svg.text("small", (4.0, y + 14.0), Anchor::Start, &name);
        let Some(s) = shares else {
            svg.text("small", (4.0, y + 31.0), Anchor::Start, "no reactions");
            continue;
        };
        let mut from = 0.0;
        for (kind, share) in KINDS.iter().zip([s.done, s.snooze, s.dismiss]) {
            let (left, right) = (scale.at(from), scale.at(from + share));
            let percent = format!("{} %", number(100.0 * share, 1));
            // A gap between segments separates them without colour.
            let tip = format!("{}: {kind} {percent}", names[i]);
            svg.bar(kind, (left, y + 19.0), (right - left - 1.5, 17.0), &tip);
            if right - left > 44.0 {
                let middle = f64::midpoint(left, right);
                svg.text(
                    &format!("small on-{kind}"),
                    (middle, y + 31.5),
                    Anchor::Middle,
                    &percent,
                );
            }
            from += share;
        }
    }
    svg.finish()
}

/// A small chart a group, all on one scale: a dot with its interval for each policy, named by its number.
pub fn slices(names: &[&str], slices: &[&[Slice]]) -> Vec<String> {
    const WIDE: f64 = 270.0;
    const ROW: f64 = 14.0;
    let all = || slices.iter().flat_map(|s| s.iter());
    let mut groups: Vec<&str> = all().map(|s| s.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let values = all().flat_map(|s| s.band.map_or([s.mean; 2], |b| [b.0, b.1]));
    let (low, high) = values.fold((0.0, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
    let (top, left, right) = (20.0, 26.0, WIDE - 14.0);
    let bottom = top + ROW * names.len() as f64 + 4.0;
    let x = Axis::new((low, high), (left, right));
    let draw = |group: &&str| {
        let mut svg = Svg::new(WIDE, bottom + 20.0, &format!("Mean reward of {group}"));
        svg.text("small strong", (4.0, 12.0), Anchor::Start, group);
        for (value, text) in x.ticks(4) {
            let class = if value == 0.0 { "zero" } else { "grid" };
            svg.line(class, (x.at(value), top), (x.at(value), bottom));
            svg.text("small", (x.at(value), bottom + 15.0), Anchor::Middle, &text);
        }
        for (i, of_policy) in slices.iter().enumerate() {
            let Some(slice) = of_policy.iter().find(|s| s.group == *group) else {
                continue;
            };
            let y = top + 2.0 + ROW * (i as f64 + 0.5);
            svg.text("small", (left - 8.0, y + 4.0), Anchor::End, &(i + 1).to_string());
            let mut tip = format!("{}, {group}: {}", names[i], number(slice.mean, 4));
            if let Some((low, high)) = slice.band {
                tip += &format!(" ({} … {})", signed(low, 4), signed(high, 4));
                svg.line(&format!("line {}", style(i)), (x.at(low), y), (x.at(high), y));
            }
            svg.dot(&format!("dot {}", style(i)), (x.at(slice.mean), y), 4.0, &tip);
        }
        svg.finish()
    };
    groups.iter().map(draw).collect()
}

/// Mean ranks on a line, best on the left, with a bar of the critical difference and a bar under each group that it does
/// not tell apart (Demšar 2006).
pub fn ranks(names: &[&str], across: &Across) -> String {
    const ROW: f64 = 16.0;
    let (left, right) = (20.0, WIDTH - 20.0);
    let line = 62.0;
    let x = Axis::new((1.0, names.len().max(2) as f64), (left, right));
    let bars = line + 12.0;
    let first = bars + 7.0 * across.cliques.len() as f64 + 18.0;
    let mut svg = Svg::new(WIDTH, first + ROW * names.len() as f64, "Mean ranks");
    let width = x.at(1.0 + across.critical_difference) - x.at(1.0);
    let text = format!("critical difference {}", number(across.critical_difference, 2));
    svg.text("small", (left, 14.0), Anchor::Start, &text);
    let end = (left + width).min(right);
    svg.line("zero", (left, 24.0), (end, 24.0));
    svg.line("zero", (left, 20.0), (left, 28.0));
    // Wider than the line: no end to see.
    if left + width <= right {
        svg.line("zero", (end, 20.0), (end, 28.0));
    }
    svg.line("tick", (left, line), (right, line));
    for rank in 1..=names.len() {
        let at = x.at(rank as f64);
        svg.line("tick", (at, line - 5.0), (at, line));
        svg.text("small", (at, line - 10.0), Anchor::Middle, &rank.to_string());
    }
    let rank_of = |name: &String| {
        across
            .policies
            .iter()
            .position(|p| p == name)
            .map(|i| across.mean_ranks[i])
    };
    for (i, group) in across.cliques.iter().enumerate() {
        let ranks = || group.iter().filter_map(rank_of);
        let (low, high) = (ranks().fold(f64::INFINITY, f64::min), ranks().fold(0.0, f64::max));
        let at = bars + 7.0 * i as f64;
        svg.bar(
            "group",
            (x.at(low) - 4.0, at),
            (x.at(high) - x.at(low) + 8.0, 3.0),
            &group.join(", "),
        );
    }
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| across.mean_ranks[a].total_cmp(&across.mean_ranks[b]));
    for (row, i) in order.into_iter().enumerate() {
        let rank = across.mean_ranks[i];
        let name = shortened(names[i], 50);
        let text = format!("{} {name}: {}", i + 1, number(rank, 2));
        svg.dot(&format!("dot {}", style(i)), (x.at(rank), line), 4.0, names[i]);
        svg.line(
            &format!("line {}", style(i)),
            (left, first + ROW * row as f64 - 4.0),
            (left + 20.0, first + ROW * row as f64 - 4.0),
        );
        svg.text("small", (left + 26.0, first + ROW * row as f64), Anchor::Start, &text);
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(y: f64) -> Vec<Point> {
        let point = |i: u32| Point {
            x: f64::from(10 * i),
            y,
            band: Some((y - 1.0, y + 1.0 / f64::from(i))),
        };
        (1..=4).map(point).collect()
    }

    #[test]
    fn names_are_escaped_and_long_ones_become_numbers() {
        let about = Course {
            title: "t",
            unit: "reward",
            from_zero: false,
        };
        let (a, b) = (line(0.0), line(0.5));
        let svg = courses(&about, &["<b>", "a-name-that-is-too-long-to-stand-there"], &[&a, &b]);
        assert!(
            svg.contains("<title>&lt;b&gt;</title>") && svg.contains(">2</text>"),
            "{svg}"
        );
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<b>"),
            "{svg}"
        );
    }

    #[test]
    fn nothing_to_draw_is_no_failure() {
        let about = Course {
            title: "t",
            unit: "regret",
            from_zero: true,
        };
        for svg in [
            courses(&about, &["a"], &[&[]]),
            courses(&about, &[], &[]),
            shares(&["a"], &[None]),
        ] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(slices(&["a"], &[&[]]).is_empty());
    }

    #[test]
    fn policies_differ_by_more_than_colour() {
        let styles: std::collections::BTreeSet<String> = (0..COLOURS * DASHES).map(style).collect();
        assert_eq!(styles.len(), COLOURS * DASHES);
    }
}
