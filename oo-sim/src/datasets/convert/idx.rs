//! The IDX format of MNIST: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
//! big-endian u32, then the values, the last dimension fastest.

use anyhow::{Context, Result, ensure};
use std::io::Write;

/// One row an image: its pixels by row and column, then its label.
pub(super) fn convert(images: &[u8], labels: &[u8]) -> Result<Vec<u8>> {
    let ([count, height, width], pixels) = read(images).context("IDX file of images")?;
    let ([labelled], labels) = read(labels).context("IDX file of labels")?;
    ensure!(count == labelled, "there are {count} images but {labelled} labels");
    ensure!(
        height > 0 && width > 0,
        "expected images with pixels, got {height} × {width}"
    );
    let mut out = Vec::with_capacity(3 * pixels.len());
    for row in 0..height {
        for column in 0..width {
            write!(out, "p{row:02}_{column:02},")?;
        }
    }
    out.extend_from_slice(b"label\n");
    for (image, label) in pixels.chunks_exact(height * width).zip(labels) {
        for pixel in image {
            write!(out, "{pixel},")?;
        }
        writeln!(out, "{label}")?;
    }
    Ok(out)
}

fn read<const N: usize>(bytes: &[u8]) -> Result<([usize; N], &[u8])> {
    let (magic, mut rest) = bytes
        .split_first_chunk::<4>()
        .context("it is shorter than its header")?;
    ensure!(
        *magic == [0, 0, 8, N as u8],
        "expected bytes in {N} dimensions, which begins with {:?}, got {magic:?}",
        [0, 0, 8, N]
    );
    let mut shape = [0; N];
    for size in &mut shape {
        let (number, after) = rest.split_first_chunk::<4>().context("it is shorter than its header")?;
        *size = u32::from_be_bytes(*number) as usize;
        rest = after;
    }
    let values = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    ensure!(
        values == Some(rest.len()),
        "the header promises {shape:?} values, {} follow",
        rest.len()
    );
    Ok((shape, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_small_images() {
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255, 7, 8]].concat();
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];
        let csv = convert(&images, &labels).unwrap();
        assert_eq!(csv, b"p00_00,p00_01,label\n0,255,1\n7,8,0\n");
    }

    #[test]
    fn damaged_files_are_refused() {
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];
        let says = |images: &[u8], text: &str| {
            let e = format!("{:#}", convert(images, &labels).unwrap_err());
            assert!(e.contains(text), "{e}");
        };
        says(&[], "shorter than its header");
        says(&[0, 0, 8, 1], "3 dimensions");
        says(
            &[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            "0 follow",
        );
        says(
            &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9],
            "1 images but 2 labels",
        );
    }
}
