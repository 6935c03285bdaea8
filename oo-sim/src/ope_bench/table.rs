//! The report for people.

use super::{Cell, Report};
use crate::sheet::{Table, table};
use std::fmt::Write;

/// Lays the report out: a table a world and size, with two columns a logger.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let setup = &report.setup;
    let _ = writeln!(
        out,
        "Value of {}, estimated from {} logs a cell; reward model {}, {} folds.\nerror: mean |estimate − truth| / \
         |truth|, in %. held: share of the 95 % intervals that hold the truth, in %.\n",
        setup.target, setup.logs, setup.model, setup.folds
    );
    for world in &setup.worlds {
        for &size in &setup.sizes {
            let cells: Vec<&Cell> = report
                .cells
                .iter()
                .filter(|c| c.world == *world && c.size == size)
                .collect();
            let _ = writeln!(out, "{world}, {size} rows a log; truth {}", truths(&cells));
            for (i, cell) in cells.iter().enumerate() {
                let learns = if cell.learns { ", which learns" } else { "" };
                let _ = writeln!(
                    out,
                    "  [{}] logged by {}{learns}: effective size {:.0}, largest weight {:.3}",
                    i + 1,
                    cell.logger,
                    cell.effective_size,
                    cell.max_weight
                );
            }
            let _ = writeln!(out, "{}\n", lines(&cells));
        }
    }
    out
}

fn truths(cells: &[&Cell]) -> String {
    match cells.first() {
        None => String::new(),
        Some(cell) => match cell.truth_error {
            Some(0.0) => format!("{:.5}, exact over the set", cell.truth),
            Some(error) => format!("{:.5} ± {error:.5}", cell.truth),
            None => format!("{:.5} on the contexts of the logs, exact for each", cell.truth),
        },
    }
}

fn lines(cells: &[&Cell]) -> Table {
    let mut header = vec!["estimator".to_string()];
    for i in 1..=cells.len() {
        header.push(format!("[{i}] error"));
        header.push("held".into());
    }
    let right: Vec<usize> = (1..header.len()).collect();
    let mut t = table(header, &right);
    for (row, line) in cells.first().map_or(&[][..], |c| &c.lines).iter().enumerate() {
        let mut texts = vec![line.name.clone()];
        for cell in cells {
            let line = &cell.lines[row];
            let percent = |x: Option<f64>, digits| x.map_or("–".into(), |x| format!("{:.digits$}", 100.0 * x));
            texts.push(percent(line.relative_error, 2));
            texts.push(percent(line.coverage, 0));
        }
        t.add_row(texts);
    }
    t
}
