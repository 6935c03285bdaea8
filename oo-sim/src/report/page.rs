//! What the template is given: texts, numbers as text, and finished charts.

use super::axis::{number, signed};
use super::charts::{self, Course};
use super::traces::{Point, Slice, Trace};
use super::verdict::{Verdict, verdict};
use crate::across::{Across, Tally};
use crate::experiment::Experiment;
use crate::pairs::PairLine;
use crate::summary::{PolicyLine, Summary, Timings};
use crate::table::{self, thousands};
use anyhow::Result;
use minijinja::{UndefinedBehavior, value::Serde};
use serde::Serialize;

/// Everything that the page is made from.
pub struct Source<'a> {
    /// As it was resolved.
    pub experiment: &'a Experiment,
    /// The policy that the others are compared with.
    pub baseline: Option<&'a str>,
    /// The results.
    pub summary: &'a Summary,
    /// One a policy in every environment, in the order of the summary.
    pub traces: &'a [Vec<Trace>],
    /// CPU times, which no result depends on.
    pub timings: Option<&'a Timings>,
}

/// The template's variables.
#[derive(Serialize)]
pub struct Page {
    name: String,
    version: &'static str,
    method: Vec<String>,
    overall: Option<Overall>,
    has_margin: bool,
    envs: Vec<Section>,
    settings: Vec<(&'static str, String)>,
    toml: String,
    /// The same as a `data:` address, so that it can be saved without a network.
    toml_link: String,
    timings: Option<Vec<Timing>>,
}

/// One environment.
#[derive(Serialize)]
struct Section {
    id: String,
    name: String,
    verdict: Verdict,
    legend: Vec<Legend>,
    charts: Vec<Chart>,
    policies: Vec<Row>,
    has_regret: bool,
    has_best: bool,
    matrix: Option<Matrix>,
}

/// Over several environments.
#[derive(Serialize)]
struct Overall {
    environments: usize,
    chart: String,
    note: String,
    tallies: &'static str,
    heads: Vec<Head>,
    rows: Vec<OverallRow>,
}

#[derive(Serialize)]
struct OverallRow {
    number: usize,
    name: String,
    rank: String,
    tallies: Vec<String>,
}

#[derive(Serialize)]
struct Legend {
    number: usize,
    sample: String,
    name: String,
}

#[derive(Serialize)]
struct Chart {
    title: &'static str,
    /// One, or many small ones.
    svgs: Vec<String>,
    note: String,
}

#[derive(Serialize)]
struct Row {
    number: usize,
    sample: String,
    name: String,
    mean: String,
    interval: String,
    best: String,
    regret: String,
    rounds: String,
}

#[derive(Serialize)]
struct Matrix {
    heads: Vec<Head>,
    rows: Vec<MatrixRow>,
}

#[derive(Serialize)]
struct Head {
    number: usize,
    name: String,
}

#[derive(Serialize)]
struct MatrixRow {
    number: usize,
    name: String,
    cells: Vec<Cell>,
}

/// `kind` is a class: `better`, `worse`, `same`, `open`, `none`.
#[derive(Serialize)]
struct Cell {
    kind: &'static str,
    sign: &'static str,
    word: &'static str,
    diff: String,
    interval: String,
}

#[derive(Serialize)]
struct Timing {
    env: String,
    policy: String,
    time: String,
}

pub(super) const TEMPLATE: &str = include_str!("page.html");

impl Page {
    /// Puts everything into words, numbers and charts.
    ///
    /// # Errors
    /// An experiment that TOML cannot hold.
    pub fn new(source: &Source<'_>) -> Result<Page> {
        let experiment = source.experiment;
        let summary = source.summary;
        let mut names: Vec<&str> = summary.policies.iter().map(|p| p.env.as_str()).collect();
        names.dedup();
        let sections = names.iter().enumerate().map(|(i, name)| {
            let traces = source.traces.get(i).map_or(&[][..], Vec::as_slice);
            section(i, name, source, traces)
        });
        let toml = experiment.to_toml()?;
        let timings = source.timings.map(|t| {
            let line = |t: &crate::summary::TimingLine| Timing {
                env: t.env.clone(),
                policy: t.policy.clone(),
                time: number(t.cpu_us_per_round, 1),
            };
            t.policies.iter().map(line).collect()
        });
        Ok(Page {
            name: summary.experiment.clone(),
            version: env!("CARGO_PKG_VERSION"),
            method: summary.method.lines().map(String::from).collect(),
            overall: summary.across.as_ref().map(overall),
            has_margin: experiment.margin.is_some(),
            envs: sections.collect(),
            settings: settings(experiment),
            toml_link: format!("data:application/toml;charset=utf-8,{}", percent_encoded(&toml)),
            toml,
            timings,
        })
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// A template that asks for what is not there.
    pub fn render(&self) -> Result<String> {
        let mut env = minijinja::Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        // The name's ending turns on escaping.
        env.add_template("page.html", TEMPLATE)?;
        Ok(env.get_template("page.html")?.render(Serde(self))?)
    }
}

fn settings(e: &Experiment) -> Vec<(&'static str, String)> {
    let seeds = match e.seeds {
        1 => e.seed.to_string(),
        n => format!("{} to {}", e.seed, e.seed + (n - 1)),
    };
    let own = |n: Option<u64>| n.map_or_else(|| "as the environment says".into(), thousands);
    let mut settings = vec![
        ("seeds", seeds),
        ("judge", e.judge.clone()),
        ("reward", e.reward.clone()),
        ("users", own(e.users.map(|n| n as u64))),
        ("days", own(e.days.map(|n| n as u64))),
        ("rounds", own(e.rounds)),
        (
            "baseline",
            e.baseline.clone().unwrap_or_else(|| "none: every pair".into()),
        ),
    ];
    if let Some(max) = e.max_seeds {
        settings.push(("seeds until decided", format!("at most {}", thousands(max))));
    }
    if let Some(margin) = e.margin {
        settings.push(("margin", margin.to_string()));
    }
    settings
}

fn section(i: usize, env: &str, source: &Source<'_>, traces: &[Trace]) -> Section {
    let lines: Vec<&PolicyLine> = source.summary.policies.iter().filter(|p| p.env == env).collect();
    let pairs: Vec<&PairLine> = source.summary.pairs.iter().filter(|p| p.env == env).collect();
    let names: Vec<&str> = lines.iter().map(|p| p.policy.as_str()).collect();
    let best = |line: &PolicyLine| source.summary.probability_of_best(env, &line.policy);
    let rows = lines.iter().enumerate().map(|(i, line)| Row {
        number: i + 1,
        sample: charts::sample(i),
        name: line.policy.clone(),
        mean: line.mean_reward.map_or_else(|| "–".into(), |m| number(m, 4)),
        interval: interval(line.ci),
        best: best(line).map_or_else(|| "–".into(), |p| format!("{} %", number(100.0 * p, 0))),
        regret: line.mean_regret.map_or_else(|| "–".into(), |r| number(r, 4)),
        rounds: thousands(line.rounds),
    });
    let legend = names.iter().enumerate().map(|(i, name)| Legend {
        number: i + 1,
        sample: charts::sample(i),
        name: (*name).into(),
    });
    Section {
        id: format!("env-{}", i + 1),
        name: env.into(),
        verdict: verdict(&lines, &pairs, source.baseline),
        legend: legend.collect(),
        charts: all_charts(&names, &lines, traces, source.experiment.seeds),
        has_regret: lines.iter().any(|l| l.mean_regret.is_some()),
        has_best: lines.iter().any(|l| best(l).is_some()),
        policies: rows.collect(),
        matrix: (!pairs.is_empty()).then(|| matrix(&names, &pairs, source.baseline)),
    }
}

fn overall(across: &Across) -> Overall {
    let names: Vec<&str> = across.policies.iter().map(String::as_str).collect();
    let head = |(i, name): (usize, &&str)| Head {
        number: i + 1,
        name: (*name).into(),
    };
    let tally =
        |t: &Option<Tally>| t.map_or_else(String::new, |t| format!("{} / {} / {}", t.better, t.worse, t.neither));
    let row = |(i, name): (usize, &&str)| OverallRow {
        number: i + 1,
        name: (*name).into(),
        rank: number(across.mean_ranks[i], 2),
        tallies: across.tallies[i].iter().map(tally).collect(),
    };
    Overall {
        environments: across.environments,
        chart: charts::ranks(&names, across),
        note: table::apart(across),
        tallies: table::TALLIES,
        heads: names.iter().enumerate().map(head).collect(),
        rows: names.iter().enumerate().map(row).collect(),
    }
}

fn interval(ci: Option<[f64; 2]>) -> String {
    ci.map_or_else(
        || "–".into(),
        |[low, high]| format!("{} … {}", signed(low, 4), signed(high, 4)),
    )
}

fn all_charts(names: &[&str], lines: &[&PolicyLine], traces: &[Trace], seeds: u64) -> Vec<Chart> {
    let points = |of: fn(&Trace) -> &Vec<Point>| -> Vec<&[Point]> { traces.iter().map(|t| of(t).as_slice()).collect() };
    let banded = traces.iter().flat_map(|t| &t.so_far).any(|p| p.band.is_some());
    let bands = match (banded, seeds) {
        (false, _) => "No bands: they need two seeds or two users.".to_string(),
        (true, 1) => "Bands: 95 % over users.".into(),
        (true, n) => format!("Bands: 95 % over {n} seeds."),
    };
    let course = |title: &'static str, unit: &str, of: fn(&Trace) -> &Vec<Point>, from_zero: bool, note: &str| Chart {
        title,
        svgs: vec![charts::courses(&Course { title, unit, from_zero }, names, &points(of))],
        note: format!("{bands} {note}"),
    };
    let mut charts = vec![];
    let note = "A line ends at the mean of the table. What leaves the plot is cut off.";
    let unit = "mean reward of all decisions so far";
    charts.push(course("Reward so far", unit, |t| &t.so_far, false, note));
    let note = "Each point stands for one twentieth of the run.";
    let unit = "mean reward in each twentieth";
    charts.push(course("Reward over the run", unit, |t| &t.windows, false, note));
    if traces.iter().any(|t| !t.regret.is_empty()) {
        let note = "Best expected reward on offer less that of the choice, summed, a seed.";
        charts.push(course(
            "Regret",
            "summed regret, in units of reward",
            |t| &t.regret,
            true,
            note,
        ));
    }
    if lines.iter().any(|l| l.reactions.is_some()) {
        let shares: Vec<_> = lines.iter().map(|l| l.reactions).collect();
        charts.push(Chart {
            title: "Reactions",
            svgs: vec![charts::shares(names, &shares)],
            note: "Shares of all reactions, over all seeds.".into(),
        });
    }
    if traces.iter().any(|t| !t.slices.is_empty()) {
        let slices: Vec<&[Slice]> = traces.iter().map(|t| t.slices.as_slice()).collect();
        let banded = slices.iter().flat_map(|s| s.iter()).any(|s| s.band.is_some());
        let bands = match (banded, seeds) {
            (false, _) => "No intervals: they need two seeds, or two users of a kind.".to_string(),
            (true, 1) => "Intervals: 95 % over users.".into(),
            (true, n) => format!("Intervals: 95 % over {n} seeds."),
        };
        charts.push(Chart {
            title: "By persona",
            svgs: charts::slices(names, &slices),
            note: format!("Mean reward a decision; numbers name the policies. {bands}"),
        });
    }
    charts
}

/// Rows less columns. With a baseline it is the only column.
fn matrix(names: &[&str], pairs: &[&PairLine], baseline: Option<&str>) -> Matrix {
    let is_column = |name: &str| baseline.is_none_or(|b| b == name);
    let cell = |row: &str, column: &str| {
        let straight = pairs.iter().find(|p| p.a == row && p.b == column);
        let turned = || pairs.iter().find(|p| p.a == column && p.b == row);
        let (pair, sign) = match straight {
            Some(pair) => (pair, 1.0),
            None => match turned() {
                Some(pair) => (pair, -1.0),
                None => {
                    return Cell {
                        kind: "none",
                        sign: "",
                        word: "",
                        diff: String::new(),
                        interval: String::new(),
                    };
                }
            },
        };
        let diff = pair.diff.map(|d| sign * d);
        let (kind, mark, word) = match (pair.better(), diff.is_some_and(|d| d > 0.0)) {
            (Some(_), true) => ("better", "▲", "better"),
            (Some(_), false) => ("worse", "▼", "worse"),
            (None, _) if pair.is_decided() => ("same", "=", "the same within the margin"),
            (None, _) => ("open", "?", "not decided"),
        };
        Cell {
            kind,
            sign: mark,
            word,
            diff: diff.map_or_else(|| "–".into(), |d| signed(d, 4)),
            interval: interval(pair.ci.map(|[a, b]| if sign < 0.0 { [-b, -a] } else { [a, b] })),
        }
    };
    let heads = names.iter().enumerate().filter(|(_, n)| is_column(n));
    let rows = names
        .iter()
        .enumerate()
        .filter(|(_, n)| baseline.is_none_or(|b| b != **n));
    Matrix {
        heads: heads
            .clone()
            .map(|(i, n)| Head {
                number: i + 1,
                name: (*n).into(),
            })
            .collect(),
        rows: rows
            .map(|(i, row)| MatrixRow {
                number: i + 1,
                name: (*row).into(),
                cells: heads.clone().map(|(_, column)| cell(row, column)).collect(),
            })
            .collect(),
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_markup() {
        const BAD: &str = "<b>\"'&";
        let line = |policy: &str| PolicyLine {
            env: BAD.into(),
            policy: policy.into(),
            mean_reward: Some(1.0),
            rounds: 10,
            reactions: Some(crate::summary::Shares {
                done: 0.5,
                snooze: 0.5,
                dismiss: 0.0,
            }),
            ..PolicyLine::default()
        };
        let pair = PairLine {
            env: BAD.into(),
            a: BAD.into(),
            b: "<i>".into(),
            diff: Some(0.0),
            verdict: "not decided".into(),
            ..PairLine::default()
        };
        let trace = Trace {
            so_far: vec![Point {
                x: 1.0,
                y: 1.0,
                band: None,
            }],
            slices: vec![Slice {
                group: BAD.into(),
                mean: 1.0,
                band: None,
            }],
            ..Trace::default()
        };
        let summary = Summary {
            experiment: BAD.into(),
            method: BAD.into(),
            stopping: None,
            across: Some(Across {
                environments: 2,
                policies: vec![BAD.into(), "<i>".into()],
                tallies: vec![vec![None; 2]; 2],
                mean_ranks: vec![1.0, 2.0],
                ranks_p: 0.5,
                critical_difference: 1.4,
                cliques: vec![vec![BAD.into(), "<i>".into()]],
            }),
            policies: vec![line(BAD), line("<i>")],
            best: vec![],
            pairs: vec![pair],
            groups: vec![],
            weeks: vec![],
            week_pairs: vec![],
        };
        let experiment = Experiment {
            name: BAD.into(),
            baseline: Some("</pre><script>".into()),
            ..Experiment::default()
        };
        let source = Source {
            experiment: &experiment,
            baseline: None,
            summary: &summary,
            traces: &[vec![trace.clone(), trace]],
            timings: None,
        };
        let html = Page::new(&source).unwrap().render().unwrap();
        for bad in ["<b>", "<i>", "<script", "\"'&"] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert!(html.contains("&lt;b&gt;") && html.contains("&lt;i&gt;"));
    }
}
