//! What is printed for people, as wide as they can read it: prose is wrapped, tables are narrowed.
//!
//! A table keeps its columns and its numbers whole. Text in it is wrapped, and where the numbers alone are too wide, the
//! table goes on below, with its first column again.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle, Width};
use std::fmt::{self, Display, Formatter};

/// The widest line that is printed, and the width of everything that goes elsewhere than to a terminal.
const WIDEST: usize = 100;

/// Text is not squeezed below this.
const NARROWEST: usize = 16;

/// Columns of the page.
pub(crate) fn width() -> usize {
    let terminal = comfy_table::Table::new().width();
    terminal.map_or(WIDEST, |columns| usize::from(columns).clamp(2 * NARROWEST, WIDEST))
}

/// Wraps the lines that are too wide at spaces; what follows is indented as its beginning. Words stay whole.
pub(crate) fn prose(text: &str) -> String {
    wrapped(text, width())
}

fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if length(line) <= width {
            out.extend([line, end]);
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut at = 0;
        for word in line.split_whitespace() {
            if at == 0 {
                out.push_str(indent);
                at = length(indent);
            } else if at + 1 + length(word) > width {
                out.push('\n');
                out.push_str(indent);
                at = length(indent);
            } else {
                out.push(' ');
                at += 1;
            }
            out.push_str(word);
            at += length(word);
        }
        out.push_str(end);
    }
    out
}

/// Names and words of ours are one column a character.
fn length(text: &str) -> usize {
    text.chars().count()
}

fn longest_word(text: &str) -> usize {
    text.split_whitespace().map(length).max().unwrap_or(0)
}

/// A table: a line under the header and nothing else, since numbers are read down the columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    /// The columns of numbers.
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

/// An empty table; the columns in `right` hold numbers.
pub(crate) fn table<T: Into<String>>(header: impl IntoIterator<Item = T>, right: &[usize]) -> Table {
    Table {
        header: header.into_iter().map(Into::into).collect(),
        right: right.to_vec(),
        rows: Vec::new(),
    }
}

impl Table {
    /// Adds a row; it has as many cells as the header.
    pub(crate) fn add_row<T: Into<String>>(&mut self, row: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = row.into_iter().map(Into::into).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row[column].as_str())
    }

    fn longest_word(&self, column: usize) -> usize {
        let cells = self.cells(column).map(longest_word).max().unwrap_or(0);
        cells.max(longest_word(&self.header[column]))
    }

    /// As wide as its widest cell.
    fn natural(&self, column: usize) -> usize {
        let cells = self.cells(column).map(length).max().unwrap_or(0);
        cells.max(length(&self.header[column]))
    }

    /// As narrow as can be: numbers stay whole, headers and text are wrapped.
    fn least(&self, column: usize) -> usize {
        if self.right.contains(&column) {
            let cells = self.cells(column).map(length).max().unwrap_or(0);
            cells.max(longest_word(&self.header[column]))
        } else {
            self.natural(column).min(NARROWEST)
        }
    }

    fn fitted(&self, width: usize) -> String {
        let all: Vec<usize> = (0..self.header.len()).collect();
        let natural: Vec<usize> = all.iter().map(|&c| self.natural(c)).collect();
        // Three spaces between columns, and one at either end.
        if 2 + natural.iter().sum::<usize>() + 3 * natural.len().saturating_sub(1) <= width {
            return self.drawn(&all, &natural, 1);
        }
        // Two between, and one before.
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut taken = 0;
        for column in all {
            let least = self.least(column) + 2;
            match parts.last_mut() {
                Some(part) if part.len() < 2 || taken + least <= width => {
                    part.push(column);
                    taken += least;
                }
                Some(_) => {
                    parts.push(vec![0, column]);
                    taken = self.least(0) + 1 + least;
                }
                None => {
                    parts.push(vec![column]);
                    taken = least - 1;
                }
            }
        }
        let drawn = parts.iter().map(|part| {
            let room = width.saturating_sub(1 + 2 * (part.len() - 1));
            self.drawn(part, &self.shared(part, room), 0)
        });
        drawn.collect::<Vec<_>>().join("\n\n")
    }

    /// Widths that fill the room: what is narrow gets all that it wants, and the wide share the rest.
    fn shared(&self, part: &[usize], room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = part.iter().map(|&c| self.least(c)).collect();
        let mut left = room.saturating_sub(widths.iter().sum());
        // Whole words before whole cells.
        let words: Vec<usize> = part.iter().map(|&c| self.longest_word(c)).collect();
        let cells: Vec<usize> = part.iter().map(|&c| self.natural(c)).collect();
        for wanted in [words, cells] {
            while let Some(narrowest) = (0..part.len())
                .filter(|&i| left > 0 && widths[i] < wanted[i])
                .min_by_key(|&i| widths[i])
            {
                widths[narrowest] += 1;
                left -= 1;
            }
        }
        widths
    }

    /// A space before each column, one between two, and `after` each.
    fn drawn(&self, columns: &[usize], widths: &[usize], after: u16) -> String {
        const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
        let of = |row: &[String]| columns.iter().map(|&c| row[c].clone()).collect::<Vec<_>>();
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::MAX);
        table.set_header(of(&self.header));
        for row in &self.rows {
            table.add_row(of(row));
        }
        for (i, (&column, &width)) in columns.iter().zip(widths).enumerate() {
            let Some(shown) = table.column_mut(i) else { continue };
            shown.set_padding((1, after));
            let width = u16::try_from(width).unwrap_or(u16::MAX).saturating_add(1 + after);
            shown.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            if self.right.contains(&column) {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
        lines.join("\n")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted(width()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(text: &str) -> usize {
        text.lines().map(length).max().unwrap_or(0)
    }

    #[test]
    fn prose_is_wrapped_at_spaces_and_keeps_its_indent() {
        assert_eq!(
            wrapped("one two three\n\n  four five six", 9),
            "one two\nthree\n\n  four\n  five\n  six"
        );
        assert_eq!(wrapped("a  b\n", 9), "a  b\n");
        assert_eq!(wrapped("indivisible-word is", 5), "indivisible-word\nis");
    }

    #[test]
    fn a_table_that_fits_is_left_alone() {
        let mut t = table(["name", "n"], &[1]);
        t.add_row(["a", "1.5"]);
        assert_eq!(t.fitted(100), " name     n\n────────────\n a      1.5");
    }

    #[test]
    fn text_is_wrapped_and_numbers_stay_whole() {
        let mut t = table(["policy", "mean reward", "verdict"], &[1]);
        t.add_row(["lin-ucb", "0.0659 ± 0.0195", &"not decided ".repeat(9)]);
        for width in [50, 70, 100] {
            let shown = t.fitted(width);
            assert!(widest(&shown) <= width, "{width}\n{shown}");
            assert!(
                shown.contains("lin-ucb") && shown.contains("0.0659 ± 0.0195"),
                "{shown}"
            );
            assert_eq!(shown.matches("decided").count(), 9, "{shown}");
        }
    }

    #[test]
    fn what_is_too_wide_goes_on_below() {
        let numbers: Vec<usize> = (1..=20).collect();
        let header = std::iter::once("policy".to_string()).chain(numbers.iter().map(|i| format!("week {i}")));
        let mut t = table(header, &numbers);
        t.add_row(std::iter::once("lin-ts".to_string()).chain(numbers.iter().map(|i| format!("0.{i:04}"))));
        let shown = t.fitted(60);
        assert!(widest(&shown) <= 60, "{shown}");
        let parts = shown.split("\n\n").count();
        assert!(parts > 1 && shown.matches("lin-ts").count() == parts, "{shown}");
        for i in numbers {
            assert_eq!(shown.matches(&format!("0.{i:04}")).count(), 1, "{shown}");
        }
        // At any width, however silly.
        assert!(t.fitted(1).contains("0.0020"));
    }
}
