//! Parquet, a block of rows at a time.
//!
//! A log may be larger than memory, and so may a row group: some writers put a million rows of two hundred columns into
//! one. So flat columns are read page by page, and of each column only the pages that the block touches are in memory.
//! Columns of lists are read a row group at a time, since their pages need not end where rows end. The file is not
//! mapped into memory: pages that were touched would count as ours.

use anyhow::{Context, Result, ensure};
use polars_buffer::Buffer;
use polars_core::prelude::{ArrowSchema, Series};
use polars_parquet::parquet::compression::Compression;
use polars_parquet::parquet::metadata::{ColumnChunkMetadata, Descriptor};
use polars_parquet::parquet::read::{BasicDecompressor, PageMetaData, PageReader};
use polars_parquet::read::{FileMetadata, Filter, column_iter_to_arrays, infer_schema, read_metadata};
use polars_parquet_format::PageHeader;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

/// A header of a page with statistics of long texts is larger than this; then more is read.
const HEADER: u64 = 1 << 10;

/// A header beyond this is no header.
const LONGEST_HEADER: u64 = 1 << 24;

/// A Parquet file that is read block by block, some columns of it.
pub struct Parquet {
    file: File,
    metadata: FileMetadata,
    schema: ArrowSchema,
    selected: Vec<usize>,
    group: usize,
    /// Rows of the current group that were given out.
    given: usize,
    /// The selected columns of the current group.
    chunks: Vec<Chunk>,
}

impl Parquet {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// A file that is not there, or whose end is no Parquet footer (cut off, or of another format).
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let metadata = guarded(|| Ok(read_metadata(&mut file)?))
            .context("expected a whole Parquet file; it is cut off, damaged or of another format")?;
        let schema = guarded(|| Ok(infer_schema(&metadata)?))?;
        Ok(Parquet {
            file,
            metadata,
            schema,
            selected: Vec::new(),
            group: 0,
            given: 0,
            chunks: Vec::new(),
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.schema.iter_names().map(ToString::to_string).collect()
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.metadata.num_rows as u64
    }

    /// A text that the writer left in the file.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.key_value_metadata.as_ref()?;
        notes.iter().find(|n| n.key == key)?.value.as_deref()
    }

    /// Chooses the columns that [`next`](Self::next) gives, by position; to be called before the first block.
    ///
    /// # Errors
    /// A column of records, which no log has.
    pub fn select(&mut self, columns: &[usize]) -> Result<()> {
        for &column in columns {
            let name = self.name(column);
            for group in &self.metadata.row_groups {
                let parts = group.columns_under_root_iter(name).map_or(0, |parts| parts.count());
                ensure!(
                    parts == 1,
                    "column `{name}`: expected values or lists of values, got records of {parts} parts"
                );
            }
        }
        self.selected = columns.to_vec();
        Ok(())
    }

    fn name(&self, column: usize) -> &str {
        self.schema.get_at_index(column).map_or("", |(name, _)| name.as_str())
    }

    /// The next rows, at most `most`, one series a selected column; `None` at the end. A block never crosses the border
    /// between two row groups.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn next(&mut self, most: usize) -> Result<Option<Vec<Series>>> {
        let rows = loop {
            let Some(group) = self.metadata.row_groups.get(self.group) else {
                return Ok(None);
            };
            if self.given < group.num_rows() {
                break group.num_rows();
            }
            (self.group, self.given) = (self.group + 1, 0);
            self.chunks.clear();
        };
        if self.chunks.is_empty() {
            let group = &self.metadata.row_groups[self.group];
            for &column in &self.selected {
                let meta = group.columns_under_root_iter(self.name(column));
                let meta = meta
                    .and_then(|mut parts| parts.next())
                    .context("a column without data")?;
                self.chunks.push(Chunk::new(meta));
            }
        }
        let block = self.given..rows.min(self.given.saturating_add(most));
        for chunk in &mut self.chunks {
            chunk.read(&mut self.file, &block)?;
        }
        let schema = &self.schema;
        let decode = |(chunk, &column): (&Chunk, &usize)| -> Result<Series> {
            let (name, field) = schema.get_at_index(column).context("a column without a type")?;
            let series = guarded(|| chunk.decode(field, &block));
            let series = series.with_context(|| format!("column `{name}` is damaged"))?;
            ensure!(
                series.len() == block.len(),
                "column `{name}` is damaged: expected {} rows, got {}",
                block.len(),
                series.len()
            );
            Ok(series)
        };
        let series = self
            .chunks
            .par_iter()
            .zip(&self.selected)
            .map(decode)
            .collect::<Result<_>>()?;
        self.given = block.end;
        Ok(Some(series))
    }
}

/// One column of one row group, of which a window is in memory.
struct Chunk {
    /// Where in the file the column stands.
    place: Range<u64>,
    values: i64,
    compression: Compression,
    descriptor: Descriptor,
    /// Where in the file the next page begins.
    at: u64,
    /// The dictionary's page, where there is one.
    dictionary: Vec<u8>,
    /// The pages in memory, end to end.
    bytes: Vec<u8>,
    /// Length and number of values of each.
    pages: VecDeque<(usize, usize)>,
    /// The row of the first value in memory.
    first: usize,
}

impl Chunk {
    fn new(meta: &ColumnChunkMetadata) -> Self {
        Chunk {
            place: meta.byte_range(),
            values: meta.num_values(),
            compression: meta.compression(),
            descriptor: meta.descriptor().descriptor.clone(),
            at: meta.byte_range().start,
            dictionary: Vec::new(),
            bytes: Vec::new(),
            pages: VecDeque::new(),
            first: 0,
        }
    }

    /// Values are rows.
    fn is_flat(&self) -> bool {
        self.descriptor.max_rep_level == 0
    }

    /// Drops the pages before the rows and reads on until the rows are in memory.
    fn read(&mut self, file: &mut File, rows: &Range<usize>) -> Result<()> {
        if !self.is_flat() {
            if self.bytes.is_empty() {
                let length = self.place.end - self.place.start;
                fill(file, self.place.start, length, &mut self.bytes)?;
                self.pages.push_back((self.bytes.len(), self.values as usize));
            }
            return Ok(());
        }
        while let Some(&(length, values)) = self.pages.front()
            && self.first + values <= rows.start
        {
            self.bytes.drain(..length);
            self.pages.pop_front();
            self.first += values;
        }
        let mut known = self.first + self.pages.iter().map(|p| p.1).sum::<usize>();
        let end = self.place.end;
        while known < rows.end {
            ensure!(
                self.at < end,
                "a column ends after {known} rows; expected at least {}",
                rows.end
            );
            let (header, length) = header(file, self.at, end)?;
            let size = u64::try_from(header.compressed_page_size).context("a page of negative size")?;
            let total = length + size;
            ensure!(
                total <= end - self.at,
                "a page of {total} bytes where {} are left",
                end - self.at
            );
            let values = header.data_page_header.as_ref().map(|h| h.num_values);
            let values = values.or(header.data_page_header_v2.as_ref().map(|h| h.num_values));
            match values {
                Some(values) => {
                    let values = usize::try_from(values).context("a page with a negative number of values")?;
                    fill(file, self.at, total, &mut self.bytes)?;
                    self.pages.push_back((total as usize, values));
                    known += values;
                }
                None => {
                    self.dictionary.clear();
                    fill(file, self.at, total, &mut self.dictionary)?;
                }
            }
            self.at += total;
        }
        Ok(())
    }

    fn decode(&self, field: &polars_core::prelude::ArrowField, rows: &Range<usize>) -> Result<Series> {
        let bytes = [self.dictionary.as_slice(), &self.bytes].concat();
        let primitive = &self.descriptor.primitive_type;
        let about = PageMetaData {
            column_start: 0,
            num_values: self.pages.iter().map(|p| p.1 as i64).sum(),
            compression: self.compression,
            descriptor: self.descriptor.clone(),
        };
        let pages = PageReader::new_with_page_meta(Cursor::new(Buffer::from_vec(bytes)), about, vec![], usize::MAX);
        let pages = BasicDecompressor::new(pages, vec![]);
        let filter = Filter::new_ranged(rows.start - self.first, rows.end - self.first);
        let (arrays, _) = column_iter_to_arrays(vec![pages], vec![primitive], field.clone(), Some(filter))?;
        Ok(Series::try_from((field, arrays))?)
    }
}

thread_local! {
    /// Whether a panic of this thread is caught and told as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic into an error: the decoder panics on some files that are damaged where it expects them whole.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |about| {
            if !GUARDED.get() {
                usual(about);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(anyhow::anyhow!("the file is damaged: {}", said.unwrap_or_default()))
    })
}

/// The header of the page at `at`, and its length.
fn header(file: &mut File, at: u64, end: u64) -> Result<(PageHeader, u64)> {
    let mut window = HEADER;
    loop {
        let length = window.min(end - at);
        let mut bytes = Vec::new();
        fill(file, at, length, &mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut protocol = TCompactInputProtocol::new(&mut rest, length as usize);
        match PageHeader::read_from_in_protocol(&mut protocol) {
            Ok(header) => {
                let left = rest.len() as u64;
                return Ok((header, length - left));
            }
            Err(e) if length < window || window >= LONGEST_HEADER => {
                return Err(anyhow::anyhow!("a page's header cannot be read: {e}"));
            }
            Err(_) => window *= 16,
        }
    }
}

/// Appends so many bytes of the file.
fn fill(file: &mut File, at: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let got = file.take(length).read_to_end(out)?;
    ensure!(
        got as u64 == length,
        "the file ends early: expected {length} bytes at {at}, got {got}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars_core::prelude::{Column, DataFrame};
    use polars_io::parquet::write::{ParquetCompression, ParquetWriter};

    /// 50,000 rows: a column of few values (it becomes a dictionary), a long one, one with gaps, one of texts.
    fn frame() -> DataFrame {
        let n = 50_000u64;
        let few: Vec<f64> = (0..n).map(|i| f64::from((i * i % 7) as u32)).collect();
        let long: Vec<f64> = (0..n).map(|i| (i as f64).sqrt()).collect();
        let gaps: Vec<Option<u32>> = (0..n).map(|i| (i % 11 != 3).then_some(i as u32)).collect();
        let texts: Vec<String> = (0..n).map(|i| format!("row {}", i / 3)).collect();
        let columns = vec![
            Column::new("few".into(), few),
            Column::new("long".into(), long),
            Column::new("gaps".into(), gaps),
            Column::new("texts".into(), texts),
        ];
        DataFrame::new(n as usize, columns).unwrap()
    }

    #[test]
    fn any_block_of_any_page_is_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let mut frame = frame();
        for (i, compression) in [
            ParquetCompression::Zstd(None),
            ParquetCompression::Snappy,
            ParquetCompression::Uncompressed,
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(format!("{i}.parquet"));
            // Pages of different rows in each column, in one row group of 50,000 rows or in several.
            ParquetWriter::new(File::create(&path).unwrap())
                .with_compression(compression)
                .with_data_page_size(Some(5000))
                .with_row_group_size(Some([50_000, 20_000, 50_000][i]))
                .finish(&mut frame)
                .unwrap();
            for most in [1 << 20, 7777, 512] {
                let mut file = Parquet::open(&path).unwrap();
                assert_eq!((file.rows(), file.names().len()), (50_000, 4));
                file.select(&[3, 0, 2, 1]).unwrap();
                let mut all: Option<Vec<Series>> = None;
                while let Some(block) = file.next(most).unwrap() {
                    match &mut all {
                        None => all = Some(block),
                        Some(all) => all.iter_mut().zip(&block).for_each(|(a, b)| {
                            a.append(b).unwrap();
                        }),
                    }
                }
                for (series, name) in all.unwrap().iter().zip(["texts", "few", "gaps", "long"]) {
                    let expected = frame.column(name).unwrap().as_materialized_series();
                    assert!(series.equals_missing(expected), "{name} in blocks of {most}");
                }
            }
        }
    }

    #[test]
    fn only_the_pages_of_a_block_are_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        ParquetWriter::new(File::create(&path).unwrap())
            .with_data_page_size(Some(5000))
            .finish(&mut frame())
            .unwrap();
        let mut file = Parquet::open(&path).unwrap();
        file.select(&[1]).unwrap();
        let mut most = 0;
        while file.next(512).unwrap().is_some() {
            most = most.max(file.chunks.iter().map(|c| c.bytes.len()).sum());
        }
        // 512 numbers of 8 bytes and the pages at either end; the column has 400,000 bytes.
        assert!(0 < most && most < 25_000, "{most}");
    }
}
