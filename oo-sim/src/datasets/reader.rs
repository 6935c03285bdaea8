//! Tables of numbers from CSV, CSV.gz and Parquet files whose last column is `label`.

use anyhow::{Context, bail, ensure};
use polars_core::prelude::*;
use polars_io::prelude::*;
use std::fs::File;
use std::path::Path;

/// A classification set in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Names of the feature columns.
    pub names: Vec<String>,
    /// `rows × names`, row-major.
    pub features: Vec<f32>,
    /// The class of each row, in `0..classes`.
    pub labels: Vec<u32>,
    /// The number of classes; each occurs.
    pub classes: usize,
}

impl Table {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The features of row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        let d = self.names.len();
        &self.features[i * d..(i + 1) * d]
    }
}

/// Reads a file; `.parquet` says Parquet, everything else is CSV, compressed or not.
///
/// # Errors
/// A file that cannot be read, a last column that is not `label`, a cell that is missing or not a finite number,
/// labels that are not 0..K-1. Rows count from 1 below the header.
pub fn read(path: &Path) -> anyhow::Result<Table> {
    frame(path)
        .and_then(|f| table(&f))
        .with_context(|| format!("data file {}", path.display()))
}

fn frame(path: &Path) -> anyhow::Result<DataFrame> {
    let file = File::open(path)?;
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")) {
        return Ok(ParquetReader::new(file).finish()?);
    }
    // Text first: an inferred type would turn a bad cell far below into an error without its place.
    let options = CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0));
    Ok(options.into_reader_with_file_handle(file).finish()?)
}

fn table(frame: &DataFrame) -> anyhow::Result<Table> {
    let columns = frame.columns();
    let Some((label, features)) = columns.split_last() else {
        bail!("there is no column")
    };
    ensure!(
        label.name().as_str() == "label",
        "the last column is `{}`; expected `label` with the class of each row, 0 to K-1",
        label.name()
    );
    let rows = frame.height();
    ensure!(rows > 0, "there is no row below the header");
    ensure!(!features.is_empty(), "there is no feature column before `label`");
    let width = features.len();
    let mut out = vec![0f32; rows * width];
    for (j, column) in features.iter().enumerate() {
        for (i, x) in numbers(column)?.into_iter().enumerate() {
            let x = x as f32;
            ensure!(
                x.is_finite(),
                "column `{}` holds {x} in row {}; features must be finite",
                column.name(),
                i + 1
            );
            out[i * width + j] = x;
        }
    }
    let (labels, classes) = labels(&numbers(label)?)?;
    let names = features.iter().map(|c| c.name().to_string()).collect();
    Ok(Table {
        names,
        features: out,
        labels,
        classes,
    })
}

/// A column as numbers; NaN and infinities pass.
fn numbers(column: &Column) -> anyhow::Result<Vec<f64>> {
    let name = column.name();
    let missing = |i: usize| {
        format!(
            "column `{name}` has no value in row {}; fill it in or drop the row",
            i + 1
        )
    };
    if let Ok(text) = column.str() {
        let cell = |(i, cell): (usize, Option<&str>)| {
            let cell = cell
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .with_context(|| missing(i))?;
            cell.parse().ok().with_context(|| {
                format!(
                    "column `{name}` holds `{cell}` in row {}; expected a number (encode categories first)",
                    i + 1
                )
            })
        };
        return text.iter().enumerate().map(cell).collect();
    }
    let dtype = column.dtype();
    ensure!(
        dtype.is_primitive_numeric() || dtype.is_bool(),
        "column `{name}` is of type {dtype}; expected numbers (encode categories first)"
    );
    let cast = column.cast(&DataType::Float64)?;
    cast.f64()?
        .iter()
        .enumerate()
        .map(|(i, x)| x.with_context(|| missing(i)))
        .collect()
}

fn labels(numbers: &[f64]) -> anyhow::Result<(Vec<u32>, usize)> {
    let mut labels = Vec::with_capacity(numbers.len());
    // Every class occurs, so a label cannot reach the number of rows; this also bounds the memory below.
    let mut seen = vec![false; numbers.len()];
    for (i, &x) in numbers.iter().enumerate() {
        ensure!(
            x >= 0.0 && x.fract() == 0.0 && x < numbers.len() as f64 && x < f64::from(u32::MAX),
            "column `label` holds {x} in row {}; expected a whole number from 0 to K-1 (K classes, each in use)",
            i + 1
        );
        seen[x as usize] = true;
        labels.push(x as u32);
    }
    let classes = seen.iter().rposition(|&s| s).map_or(0, |k| k + 1);
    if let Some(gap) = seen[..classes].iter().position(|&s| !s) {
        bail!(
            "column `label` goes up to {} but never holds {gap}; number the classes from 0 without a gap",
            classes - 1
        );
    }
    Ok((labels, classes))
}

#[cfg(test)]
mod tests {
    use super::super::{cache, manifest};
    use super::*;
    use std::io::Write;

    fn csv(text: &str) -> anyhow::Result<Table> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    const GOOD: &str = "a,b,label\n1,0.5,0\n-2e1,3,1\n0,0,1\n";

    #[test]
    fn csv_gz_and_parquet_agree() {
        let plain = csv(GOOD).unwrap();
        assert_eq!(plain.names, ["a", "b"]);
        assert_eq!(plain.features, [1.0, 0.5, -20.0, 3.0, 0.0, 0.0]);
        assert_eq!((plain.labels.as_slice(), plain.classes), ([0, 1, 1].as_slice(), 2));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gz.write_all(GOOD.as_bytes()).unwrap();
        gz.finish().unwrap();
        assert_eq!(read(&path).unwrap(), plain);
        let path = dir.path().join("t.parquet");
        let columns = vec![
            Column::new("a".into(), [1.0, -20.0, 0.0]),
            Column::new("b".into(), [0.5f32, 3.0, 0.0]),
            Column::new("label".into(), [0i32, 1, 1]),
        ];
        let mut frame = DataFrame::new(3, columns).unwrap();
        ParquetWriter::new(File::create(&path).unwrap())
            .finish(&mut frame)
            .unwrap();
        assert_eq!(read(&path).unwrap(), plain);
    }

    #[test]
    fn bad_cells_are_named_with_row_and_column() {
        let cases = [
            ("a,b,label\n1,2,0\n1,,1\n", "column `b` has no value in row 2"),
            ("a,b,label\n1,2,0\nred,2,1\n", "column `a` holds `red` in row 2"),
            ("a,b,label\n1,2,0\n1,NaN,1\n", "column `b` holds NaN"),
            ("a,b,label\n1,inf,0\n1,2,1\n", "column `b` holds inf"),
            ("a,b,label\n1,1e39,0\n1,2,1\n", "column `b` holds inf"),
            ("a,b,label\n1,2,0\n1,2,0.5\n", "column `label` holds 0.5 in row 2"),
            ("a,b,label\n1,2,-1\n1,2,0\n", "column `label` holds -1 in row 1"),
            ("a,label\n1,1\n1,2\n1,2\n", "never holds 0"),
            ("label,a\n1,2\n", "the last column is `a`"),
            ("label\n0\n", "no feature column"),
            ("a,label\n", "no row"),
            ("", "data file"),
        ];
        for (text, expected) in cases {
            let e = format!("{:#}", csv(text).unwrap_err());
            assert!(e.contains(expected), "{text:?}: {e}");
        }
    }

    #[test]
    fn real_sets_are_what_the_manifest_says() {
        for set in manifest::sets().iter().filter(|s| s.task == "classification") {
            let path = match cache::locate(&set.name) {
                Ok(path) => path,
                Err(e) => {
                    assert!(std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1"), "{e}");
                    // Straight to stderr: the test harness swallows `eprintln!` of a test that passes.
                    writeln!(
                        std::io::stderr(),
                        "NOT TESTED, DATA SET {} IS MISSING: {e}",
                        set.name.to_uppercase()
                    )
                    .unwrap();
                    continue;
                }
            };
            cache::verify(set, &path).unwrap();
            let table = read(&path).unwrap();
            assert_eq!(
                (table.rows(), table.names.len(), table.classes),
                (set.rows, set.features, set.classes),
                "{}",
                set.name
            );
        }
    }
}
