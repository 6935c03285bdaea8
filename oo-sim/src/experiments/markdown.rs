//! Tables in Markdown: those of a README are read, those of a run are written.

use super::findings::{Finding, Said};
use std::fmt::Write;

/// A table as it stands in Markdown, without its marks.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// The headings.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}

/// The tables of a text, in their order; what stands in fences is no table.
pub fn tables(text: &str) -> Vec<Table> {
    let mut all: Vec<Table> = Vec::new();
    let (mut fenced, mut header, mut inside) = (false, None, false);
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let cells = if fenced { None } else { cells(line) };
        let Some(cells) = cells else {
            (header, inside) = (None, false);
            continue;
        };
        let rule = cells
            .iter()
            .all(|c| !c.is_empty() && c.chars().all(|c| "-:".contains(c)));
        match (header.take(), all.last_mut()) {
            (Some(header), _) if rule => {
                all.push(Table { header, rows: vec![] });
                inside = true;
            }
            (_, Some(table)) if inside => {
                let mut row = cells;
                row.resize(table.header.len(), String::new());
                table.rows.push(row);
            }
            _ => header = Some(cells),
        }
    }
    all
}

/// The cells of a row, without marks of code, emphasis and escape; `None` where the line is no row.
fn cells(line: &str) -> Option<Vec<String>> {
    let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '|' if !escaped => cells.push(String::new()),
            '`' if !escaped => {}
            c => cells.last_mut()?.push(c),
        }
        escaped = false;
    }
    Some(cells.iter().map(|c| c.trim().replace("**", "")).collect())
}

/// The number that a cell begins with, and what follows `±`: `0.85 ± 0.01`, `−5,125`, `62 %`. `None` where there is none.
pub fn number(cell: &str) -> Option<(f64, Option<f64>)> {
    let (value, rest) = leading(cell)?;
    let half = rest
        .trim_start()
        .strip_prefix('±')
        .and_then(|r| leading(r.trim_start()));
    Some((value, half.map(|(x, _)| x)))
}

/// A number at the beginning, with commas between thousands and either minus sign, and what follows it.
fn leading(text: &str) -> Option<(f64, &str)> {
    let end = text
        .char_indices()
        .find(|&(i, c)| !(c.is_ascii_digit() || ".,".contains(c) || i == 0 && "+-−".contains(c)))
        .map_or(text.len(), |(i, _)| i);
    let (number, _) = text.split_at(end);
    let number = number.trim_end_matches([',', '.']);
    let plain = number.replace('−', "-").replace(',', "");
    Some((plain.parse().ok()?, &text[number.len()..]))
}

/// The findings of a step as one table: a column for each of theirs, a row for each of theirs.
pub fn table(findings: &[Finding]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for finding in findings {
        for (list, name) in [(&mut columns, &finding.column), (&mut rows, &finding.row)] {
            if !list.contains(&name.as_str()) {
                list.push(name);
            }
        }
    }
    let bar = |text: &str| text.replace('|', "\\|");
    let mut out = String::from("| |");
    for column in &columns {
        // Writing to a String cannot fail.
        let _ = write!(out, " {} |", bar(column));
    }
    out += "\n|---|";
    out += &"---|".repeat(columns.len());
    out += "\n";
    for row in rows {
        let _ = write!(out, "| `{}` |", bar(row));
        for column in &columns {
            let cell = findings.iter().find(|f| f.row == row && f.column == *column);
            let _ = write!(out, " {} |", cell.map_or_else(String::new, |f| bar(&said(&f.said))));
        }
        out += "\n";
    }
    out
}

fn said(said: &Said) -> String {
    match said {
        Said::Number(x, None) => format!("{x:.4}"),
        Said::Number(x, Some(half)) => format!("{x:.4} ± {half:.4}"),
        Said::Word(word) => word.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let finding = |column: &str, row: &str, said| Finding {
            column: column.into(),
            row: row.into(),
            said,
        };
        let text = table(&[
            finding("x|y", "a{b=1}", Said::Number(0.5, Some(0.25))),
            finding("z", "a{b=1}", Said::Word("none".into())),
            finding("z", "c", Said::Number(-1.0, None)),
        ]);
        let all = tables(&format!("words\n\n{text}\nmore | words\n```\n| no |\n|---|\n```\n"));
        assert_eq!(all.len(), 1, "{text}");
        assert_eq!(all[0].header, ["", "x|y", "z"]);
        assert_eq!(
            all[0].rows,
            [["a{b=1}", "0.5000 ± 0.2500", "none"], ["c", "", "-1.0000"]]
        );
    }

    #[test]
    fn two_tables_and_short_rows() {
        let all = tables("| a | b |\n|---|:-:|\n| 1 |\n\n| c |\n|---|\n| `x` **y** \\* |\n");
        assert_eq!(all[0].rows, [["1", ""]]);
        assert_eq!(all[1].rows, [["x y *"]]);
        assert!(tables("| a |\n| b |\n").is_empty());
    }

    #[test]
    fn numbers_of_people() {
        for (cell, want) in [
            ("0.8497 ± 0.0003", Some((0.8497, Some(0.0003)))),
            ("+0.0135*", Some((0.0135, None))),
            ("−5,125 errors", Some((-5125.0, None))),
            ("-0.02", Some((-0.02, None))),
            ("0.0056, 21 %", Some((0.0056, None))),
            ("96 (1.9)", Some((96.0, None))),
            ("3.20 ± 0.14", Some((3.2, Some(0.14)))),
            ("–", None),
            ("", None),
            ("all", None),
            ("±", None),
        ] {
            assert_eq!(number(cell), want, "{cell}");
        }
    }
}
