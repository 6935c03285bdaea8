//! The `.Z` files of Unix compress: LZW with codes from 9 up to 16 bits, least significant bit first.
//!
//! Two habits of the original program are part of the format. Codes come in groups of eight, and where the width
//! changes the rest of the group is left out. In block mode, code 256 empties the table.
//!
//! Welch (1984), A technique for high-performance data compression; the details after ncompress.

use anyhow::{Context, Result, ensure};

const CLEAR: usize = 256;

/// Unpacks a whole file.
///
/// # Errors
/// Bytes that are no such file, or more than `largest` bytes of content.
pub(super) fn decompress(bytes: &[u8], largest: usize) -> Result<Vec<u8>> {
    let (header, bytes) = bytes.split_first_chunk::<3>().context("a .Z file without a header")?;
    let widest = usize::from(header[2] & 0x1f);
    let block_mode = header[2] & 0x80 != 0;
    ensure!(
        header[..2] == [0x1f, 0x9d] && (10..=16).contains(&widest), // programs disagree on 9
        "expected a .Z file with codes of up to 10 to 16 bits, got {header:02x?}"
    );
    let first_free = if block_mode { CLEAR + 1 } else { CLEAR };
    // Of each code from 256 on: the code it continues, and its last byte.
    let mut table: Vec<(usize, u8)> = vec![(0, 0); first_free - CLEAR];
    let (mut width, mut at, mut group) = (9, 0, 0); // bit positions
    let mut previous: Option<usize> = None;
    let mut first = 0;
    let mut out = Vec::new();
    let mut text = Vec::new(); // of one code, backwards
    loop {
        let free = CLEAR + table.len();
        if free >= 1 << width && width < widest {
            at = next_group(group, at, width);
            group = at;
            width += 1;
        }
        let Some(code) = read(bytes, at, width) else { break };
        at += width;
        if block_mode && code == CLEAR {
            at = next_group(group, at, width);
            group = at;
            width = 9;
            table.truncate(first_free - CLEAR);
            previous = None;
            continue;
        }
        let known = if previous.is_some() { free } else { CLEAR - 1 };
        ensure!(code <= known, "damaged .Z file: code {code} before its text is known");
        let mut walk = code;
        if code == free {
            // The text of the code that is only now being entered: the last text and its own first byte.
            text.push(first);
            walk = previous.unwrap_or(code);
        }
        while walk >= CLEAR {
            let (before, last) = table[walk - CLEAR];
            text.push(last);
            walk = before;
        }
        first = walk as u8;
        text.push(first);
        ensure!(
            out.len() + text.len() <= largest,
            "it unpacks to more than {largest} bytes"
        );
        out.extend(text.drain(..).rev());
        if let Some(previous) = previous.filter(|_| free < 1 << widest) {
            table.push((previous, first));
        }
        previous = Some(code);
    }
    Ok(out)
}

/// The first bit behind the group of eight codes that is being read.
fn next_group(group: usize, at: usize, width: usize) -> usize {
    group + (at - group).next_multiple_of(8 * width)
}

fn read(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    if at + width > 8 * bytes.len() {
        return None;
    }
    let window = bytes[at / 8..].iter().take(4);
    let bits = window.rev().fold(0, |bits, &byte| bits << 8 | usize::from(byte));
    Some(bits >> (at % 8) & ((1 << width) - 1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Compress, as the original program does it; `clear_at` codes empty the table.
    pub(in super::super) fn compress(text: &[u8], widest: usize, clear_at: usize) -> Vec<u8> {
        let mut out = vec![0x1f, 0x9d, 0x80 | widest as u8];
        let (mut bits, mut group, mut width) = (Vec::<bool>::new(), 0, 9);
        let mut table: HashMap<(usize, u8), usize> = HashMap::new();
        let mut free = CLEAR + 1;
        let pad = |bits: &mut Vec<bool>, group: &mut usize, width: usize| {
            bits.resize(next_group(*group, bits.len(), width), false);
            *group = bits.len();
        };
        let mut code = usize::from(text[0]);
        let emit = |bits: &mut Vec<bool>, code: usize, width: usize| {
            bits.extend((0..width).map(|i| code >> i & 1 == 1));
        };
        for &byte in &text[1..] {
            if let Some(&longer) = table.get(&(code, byte)) {
                code = longer;
                continue;
            }
            emit(&mut bits, code, width);
            if free >= 1 << width && width < widest {
                pad(&mut bits, &mut group, width);
                width += 1;
            }
            if free < 1 << widest {
                table.insert((code, byte), free);
                free += 1;
            }
            code = usize::from(byte);
            if free == clear_at {
                emit(&mut bits, CLEAR, width);
                pad(&mut bits, &mut group, width);
                (width, free) = (9, CLEAR + 1);
                table.clear();
            }
        }
        emit(&mut bits, code, width);
        out.extend(
            bits.chunks(8)
                .map(|byte| byte.iter().rev().fold(0, |b, &bit| b << 1 | u8::from(bit))),
        );
        out
    }

    fn sample() -> Vec<u8> {
        let mut state = 1u32;
        (0..200_000)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i % 700 < 90 {
                    b'a'
                } else {
                    b'0' + (state >> 28) as u8 % 12
                }
            })
            .collect()
    }

    #[test]
    fn every_width_and_a_cleared_table() {
        let text = sample();
        for (widest, clear_at) in [(10, 0), (12, 0), (16, 0), (16, 5000), (12, 4096), (10, 400)] {
            let packed = compress(&text, widest, clear_at);
            assert!(
                decompress(&packed, text.len()).unwrap() == text,
                "{widest} bits, cleared at {clear_at}"
            );
        }
        assert_eq!(decompress(&compress(b"aaaaaaaa", 16, 0), 8).unwrap(), b"aaaaaaaa");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        assert!(decompress(&[0x1f, 0x9d], 10).is_err());
        assert!(decompress(&[0x1f, 0x9d, 0x80 | 30, 0, 0], 10).is_err());
        assert!(decompress(&[0x1f, 0x9d, 0x90, 0xff, 0xff, 0xff], 10).is_err());
        let packed = compress(&sample()[..5000], 12, 0);
        assert!(decompress(&packed, 100).is_err());
        for i in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[i] ^= 0x55;
            let _ = decompress(&damaged, 1 << 16);
        }
    }
}
