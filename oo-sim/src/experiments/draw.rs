//! The plots of an experiment, drawn from the tables of its README, so that the two cannot disagree.

use super::folder::{Figure, Folder, Shape};
use super::markdown::{Table, number, tables};
use crate::report::plots::{self, Mark, Plot};
use anyhow::{Context, Result, bail, ensure};

/// The file and the drawing of every figure.
///
/// # Errors
/// A table, column or row that the README does not have; a table without numbers.
pub fn figures(folder: &Folder) -> Result<Vec<(String, String)>> {
    if folder.manifest.figures.is_empty() {
        return Ok(vec![]);
    }
    let tables = tables(&folder.readme()?);
    let draw = |figure: &Figure| {
        let table = figure.table.checked_sub(1).and_then(|i| tables.get(i));
        let drawing =
            table.with_context(|| format!("expected 1 to {} as its table, got {}", tables.len(), figure.table));
        let drawing = drawing.and_then(|table| drawing_of(figure, table));
        let drawing = drawing.with_context(|| format!("experiment {}, figure {}", folder.name, figure.file))?;
        Ok((figure.file.clone(), drawing))
    };
    folder.manifest.figures.iter().map(draw).collect()
}

fn drawing_of(figure: &Figure, table: &Table) -> Result<String> {
    ensure!(
        (1..table.header.len()).contains(&figure.labels),
        "labels: expected 1 to {}, got {}",
        table.header.len() - 1,
        figure.labels
    );
    let wanted: Vec<usize> = match figure.columns.as_slice() {
        [] => (figure.labels..table.header.len()).collect(),
        names => names.iter().map(|n| column(table, n)).collect::<Result<_>>()?,
    };
    let mut labels: Vec<String> = vec![String::new(); figure.labels];
    let mut rows = Vec::new();
    for row in &table.rows {
        // An empty cell says what the one above it says.
        for (label, cell) in labels.iter_mut().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            *label = cell.clone();
        }
        let name = labels
            .iter()
            .filter(|l| !l.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let marks = wanted.iter().map(|&c| {
            let (value, half) = number(&row[c])?;
            Some(Mark { value, half })
        });
        let marks: Vec<Option<Mark>> = marks.collect();
        if !figure.without.contains(&name) && marks.iter().any(Option::is_some) {
            rows.push((name, marks));
        }
    }
    ensure!(!rows.is_empty(), "expected a table with numbers, got none");
    let plot = Plot {
        title: &figure.title,
        unit: &figure.unit,
        columns: wanted.iter().map(|&c| table.header[c].as_str()).collect(),
        rows: &rows,
    };
    Ok(match figure.shape {
        Shape::Dots => plots::dots(&plot, figure.same_scale),
        Shape::Lines => plots::lines(&plot, &figure.along),
    })
}

fn column(table: &Table, name: &str) -> Result<usize> {
    match table.header.iter().position(|h| h == name) {
        Some(found) => Ok(found),
        None => bail!("no column `{name}`; there are: {}", table.header.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::parse_toml;

    fn drawn(more: &str, text: &str) -> Result<String> {
        let figure: Figure = parse_toml(&format!("table = 1\nunit = 'reward'\ntitle = 't'\n{more}")).unwrap();
        drawing_of(&figure, &tables(text)[0])
    }

    const TABLE: &str = "| who | what | x | y |\n|---|---|---|---|\n| a | one | 1 ± 0.5 | 2 |\n| | two | 3 | |\n";

    #[test]
    fn empty_labels_are_those_above() {
        let svg = drawn("labels = 2\n", TABLE).unwrap();
        assert!(svg.contains(">a, one<") && svg.contains(">a, two<"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        let svg = drawn(
            "labels = 2\ncolumns = ['x']\nwithout = ['a, two']\nshape = 'lines'\n",
            TABLE,
        )
        .unwrap();
        assert!(!svg.contains("a, two"), "{svg}");
    }

    #[test]
    fn errors_say_what_there_is() {
        let error = |more| drawn(more, TABLE).unwrap_err().to_string();
        assert_eq!(error("columns = ['z']\n"), "no column `z`; there are: who, what, x, y");
        assert_eq!(error("labels = 4\n"), "labels: expected 1 to 3, got 4");
        assert!(error("columns = ['what']\n").starts_with("expected a table with numbers"));
    }
}
