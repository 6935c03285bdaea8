//! Rows of text with separators: the files of UCI, ARFF and CSV.
//!
//! A number is written in its shortest form. A nominal column becomes one 0/1 column a value, or one column where it
//! has two values. The label is the position of its class in the list of classes.

use super::selection;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How the rows are to be read and what becomes of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Between cells; a blank stands for any number of blanks. Blanks around a cell never count.
    #[serde(default = "comma")]
    separator: char,
    /// Whether the first line names the columns.
    #[serde(default)]
    header: bool,
    /// The line behind which the rows begin, in any case: `@data` in ARFF.
    after: Option<String>,
    /// Lines that begin with this are left out.
    comment: Option<char>,
    /// The columns of the original by our names; `label` is the class, `-` is left out.
    columns: Vec<String>,
    /// The classes as the original writes them; the position of each is its label.
    labels: Vec<String>,
    /// What may end a class and does not count.
    label_ending: Option<String>,
    /// The values of each nominal column, in the order of our columns; `?` is a missing value.
    #[serde(default)]
    nominal: BTreeMap<String, Vec<String>>,
    /// Columns that the original maps to [0, 1], and what 0 and 1 stand for; the result is rounded.
    #[serde(default)]
    scaled: BTreeMap<String, [f64; 2]>,
    /// Which rows are kept; all without it.
    rows: Option<String>,
}

fn comma() -> char {
    ','
}

enum Column<'a> {
    Skipped,
    Label,
    Number,
    Scaled([f64; 2]),
    Nominal(&'a [String]),
}

/// Converts the parts one after another into one table.
///
/// # Errors
/// A row with another number of cells, a cell that is no number, an unknown value or class; with its row, which counts
/// from 1 over all parts.
pub(super) fn convert(layout: &Layout, parts: &[Vec<u8>]) -> Result<Vec<u8>> {
    let columns: Vec<(&str, Column<'_>)> = layout
        .columns
        .iter()
        .map(|name| (name.as_str(), layout.kind(name)))
        .collect();
    let kept = layout.rows.as_deref().map(selection::named).transpose()?;
    let mut out = header(&columns);
    let mut row = 0;
    for part in parts {
        let text = std::str::from_utf8(part).context("expected text in UTF-8")?;
        for line in layout.lines(text)? {
            row += 1;
            if let Some(kept) = &kept {
                let chosen = kept
                    .get(row - 1)
                    .with_context(|| format!("expected at most {} rows, there are more", kept.len()))?;
                if !chosen {
                    continue;
                }
            }
            layout
                .convert_row(line, &columns, &mut out)
                .with_context(|| format!("row {row} of the original"))?;
        }
    }
    ensure!(row > 0, "the original holds no row");
    Ok(out.into_bytes())
}

impl Layout {
    fn kind(&self, name: &str) -> Column<'_> {
        match name {
            "-" => Column::Skipped,
            "label" => Column::Label,
            _ if self.nominal.contains_key(name) => Column::Nominal(&self.nominal[name]),
            _ => self
                .scaled
                .get(name)
                .map_or(Column::Number, |&ends| Column::Scaled(ends)),
        }
    }

    /// The lines that hold rows.
    fn lines<'t>(&self, text: &'t str) -> Result<impl Iterator<Item = &'t str>> {
        let mut lines = text.lines();
        if let Some(mark) = &self.after {
            ensure!(
                lines.any(|line| line.trim().eq_ignore_ascii_case(mark)),
                "expected a line `{mark}` before the rows, there is none"
            );
        }
        let comment = self.comment;
        Ok(lines
            .skip(usize::from(self.header))
            .map(str::trim)
            .filter(move |line| !line.is_empty() && !comment.is_some_and(|mark| line.starts_with(mark))))
    }

    fn convert_row(&self, line: &str, columns: &[(&str, Column<'_>)], out: &mut String) -> Result<()> {
        let cells: Vec<&str> = match self.separator {
            ' ' => line.split_whitespace().collect(),
            separator => line.split(separator).map(str::trim).collect(),
        };
        ensure!(
            cells.len() == columns.len(),
            "expected {} cells, got {}",
            columns.len(),
            cells.len()
        );
        let mut label = None;
        for (cell, (name, column)) in cells.into_iter().zip(columns) {
            match column {
                Column::Skipped => {}
                Column::Label => label = Some(self.label(cell)?),
                Column::Number => out.push_str(&format!("{},", shortest(number(cell, name)?))),
                Column::Scaled([low, high]) => {
                    write!(out, "{},", (number(cell, name)? * (high - low) + low).round() + 0.0)?;
                }
                Column::Nominal(values) => {
                    let position = values.iter().position(|value| value == cell);
                    let position = position.with_context(|| {
                        format!("column `{name}` holds `{cell}`; expected one of {}", values.join(", "))
                    })?;
                    for i in shown(values) {
                        out.push_str(if i == position { "1," } else { "0," });
                    }
                }
            }
        }
        writeln!(out, "{}", label.context("the rule names no column `label`")?)?;
        Ok(())
    }

    fn label(&self, cell: &str) -> Result<usize> {
        let ending = self.label_ending.as_deref().unwrap_or("");
        let class = cell.strip_suffix(ending).unwrap_or(cell);
        let found = self.labels.iter().position(|label| label == class);
        found.with_context(|| format!("the class is `{cell}`; expected one of {}", self.labels.join(", ")))
    }
}

/// Zero loses its sign: the shortest form of a number has none there.
fn number(cell: &str, column: &str) -> Result<f64> {
    match cell.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x + 0.0),
        _ => bail!("column `{column}` holds `{cell}`; expected a number"),
    }
}

/// The shortest text that reads back as the same number; below 0.0001 with an exponent of two digits.
fn shortest(x: f64) -> String {
    if x == 0.0 || x.abs() >= 1e-4 {
        return x.to_string();
    }
    let text = format!("{x:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

/// The positions of the values that have a column: of two values the second says all.
fn shown(values: &[String]) -> std::ops::Range<usize> {
    usize::from(values.len() == 2)..values.len()
}

fn header(columns: &[(&str, Column<'_>)]) -> String {
    let mut out = String::new();
    for (name, column) in columns {
        match column {
            Column::Skipped | Column::Label => {}
            Column::Number | Column::Scaled(_) => {
                out.push_str(name);
                out.push(',');
            }
            Column::Nominal(values) => {
                for value in &values[shown(values)] {
                    out.push_str(&format!("{name}_is_{},", word(value)));
                }
            }
        }
    }
    out + "label\n"
}

/// A value as part of a column's name: lower case, everything but letters and digits as one `_`.
fn word(value: &str) -> String {
    if value == "?" {
        return "missing".into();
    }
    let words = value
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An original, in so many parts, from which [`convert`] makes this table.
    pub(in super::super) fn undo(layout: &Layout, csv: &str, parts: usize) -> Vec<String> {
        let kept = layout.rows.as_deref().map(|name| selection::named(name).unwrap());
        let separator = if layout.separator == ' ' {
            " ".into()
        } else {
            format!("{} ", layout.separator)
        };
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        let per_part = rows.len().div_ceil(parts);
        let mut at = 0;
        let part = |rows: &[&str]| {
            let mut out = String::new();
            if let Some(mark) = layout.comment {
                out += &format!("{mark} a comment\n");
            }
            if let Some(mark) = &layout.after {
                out += &format!("anything\n{}\n", mark.to_uppercase());
            }
            if layout.header {
                out += "the, names, of, columns\n";
            }
            for row in rows {
                while kept.as_ref().is_some_and(|kept| !kept[at]) {
                    out += "not kept\n";
                    at += 1;
                }
                at += 1;
                out += &(layout.undo_row(row).join(&separator) + "\n");
            }
            out + "\n"
        };
        rows.chunks(per_part).map(part).collect()
    }

    impl Layout {
        fn undo_row(&self, row: &str) -> Vec<String> {
            let mut cells = row.split(',');
            let class = row.rsplit(',').next().unwrap().parse::<usize>().unwrap();
            let ending = self.label_ending.as_deref().unwrap_or("");
            let mut next = || cells.next().unwrap();
            let mut cell = |name: &String| match self.kind(name) {
                Column::Skipped => "x".into(),
                Column::Label => self.labels[class].clone() + ending,
                Column::Number => next().to_string(),
                Column::Scaled([low, high]) => {
                    format!("{:.6}", (next().parse::<f64>().unwrap() - low) / (high - low))
                }
                Column::Nominal(values) => {
                    let ones: Vec<usize> = shown(values).filter(|_| next() == "1").collect();
                    assert!(ones.len() == 1 || values.len() == 2, "{row}");
                    values[ones.first().copied().unwrap_or(0)].clone()
                }
            };
            self.columns.iter().map(&mut cell).collect()
        }
    }

    fn layout(text: &str) -> Layout {
        toml::from_str(text).unwrap()
    }

    fn converted(layout: &Layout, text: &str) -> Result<String> {
        Ok(String::from_utf8(convert(layout, &[text.as_bytes().to_vec()])?)?)
    }

    #[test]
    fn every_kind_of_column() {
        let layout = layout(
            "comment = '|'\ncolumns = ['size', 'label', '-', 'sex', 'work', 'height']\nlabels = ['no', 'yes']\n\
             label_ending = '.'\n[nominal]\nsex = ['F', 'M']\nwork = ['?', 'Self-emp(inc)']\n[scaled]\nheight = [-10, 10]",
        );
        let mut three = layout.clone();
        three.nominal.get_mut("work").unwrap().push("None".into());
        let text = "|comment\n1.50, yes., x, M, ?, 0.5\r\n\n-0,no,y,F,Self-emp(inc),1\n";
        assert_eq!(
            converted(&three, text).unwrap(),
            "size,sex_is_m,work_is_missing,work_is_self_emp_inc,work_is_none,height,label\n1.5,1,1,0,0,0,1\n0,0,0,1,0,10,0\n"
        );
        assert_eq!(
            converted(&layout, text).unwrap(),
            "size,sex_is_m,work_is_self_emp_inc,height,label\n1.5,1,0,0,1\n0,0,1,10,0\n"
        );
    }

    #[test]
    fn marks_headers_and_blanks() {
        let arff = layout("after = '@data'\ncomment = '%'\ncolumns = ['a', 'label']\nlabels = ['x', 'y']");
        assert_eq!(
            converted(&arff, "@relation r\n@DATA\n% c\n1,y\n").unwrap(),
            "a,label\n1,1\n"
        );
        let e = converted(&arff, "1,y\n").unwrap_err().to_string();
        assert!(e.contains("@data"), "{e}");
        let csv = layout("header = true\nseparator = ' '\ncolumns = ['a', 'label']\nlabels = ['x', 'y']");
        assert_eq!(converted(&csv, "A L\n 2e1   x \n").unwrap(), "a,label\n20,0\n");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1.0, -0.67, 1e-4, 0.000_099, -1e-5, 2.5e-11].map(shortest);
        assert_eq!(texts, ["0", "1", "-0.67", "0.0001", "9.9e-05", "-1e-05", "2.5e-11"]);
    }

    #[test]
    fn bad_rows_are_named() {
        let layout = layout("columns = ['a', 'n', 'label']\nlabels = ['x']\n[nominal]\nn = ['p', 'q']");
        for (text, expected) in [
            ("1,p,x\n1,p\n", "row 2 of the original: expected 3 cells, got 2"),
            ("?,p,x\n", "column `a` holds `?`; expected a number"),
            ("inf,p,x\n", "column `a` holds `inf`"),
            ("1,r,x\n", "column `n` holds `r`; expected one of p, q"),
            ("1,p,z\n", "the class is `z`; expected one of x"),
            ("\n", "no row"),
        ] {
            let e = format!("{:#}", converted(&layout, text).unwrap_err());
            assert!(e.contains(expected), "{e}");
        }
    }
}
