//! Rows of f32 numbers and their rewards, in as few bytes as they take: most features of most rows are 0, and a 0 takes a
//! bit.
//!
//! A row is its reward, 8 bytes; a bit a feature that is set where the feature is not 0, in whole bytes, lowest bit first;
//! and these features, 4 bytes each. All little-endian. −0 is not 0: what comes back has the same bits.

use crate::regress::symmetric::padded;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    len: u32,
    bytes: Vec<u8>,
}

/// A row as it is kept.
struct Kept<'b> {
    reward: f64,
    /// A bit a feature.
    marks: &'b [u8],
    /// The features that are not 0.
    values: &'b [[u8; 4]],
}

/// A row, taken off the front.
fn first<'b>(dim: usize, bytes: &mut &'b [u8]) -> Option<Kept<'b>> {
    let (reward, rest) = bytes.split_first_chunk()?;
    let (marks, rest) = rest.split_at_checked(dim.div_ceil(8))?;
    let nonzero: usize = marks.iter().map(|m| m.count_ones() as usize).sum();
    let (values, rest) = rest.split_at_checked(4 * nonzero)?;
    *bytes = rest;
    Some(Kept {
        reward: f64::from_le_bytes(*reward),
        marks,
        values: values.as_chunks().0,
    })
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, as they are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a row, and takes no more room than that.
    pub fn push(&mut self, x: impl Iterator<Item = f32> + Clone, reward: f64) {
        let marked = |v: f32| v.to_bits() != 0;
        let nonzero = x.clone().filter(|v| marked(*v));
        let (dim, kept) = (x.clone().count(), nonzero.clone().count());
        self.bytes.reserve_exact(8 + dim.div_ceil(8) + 4 * kept);
        self.bytes.extend(reward.to_le_bytes());
        let marks = self.bytes.len();
        self.bytes.resize(marks + dim.div_ceil(8), 0);
        for (j, v) in x.enumerate() {
            self.bytes[marks + j / 8] |= u8::from(marked(v)) << (j % 8);
        }
        self.bytes.extend(nonzero.flat_map(f32::to_le_bytes));
        self.len += 1;
    }

    /// Shows every row of `dim` features, padded, and its reward.
    pub fn each(&self, dim: usize, mut show: impl FnMut(&[f64], f64)) {
        let mut x = vec![0.0; padded(dim)];
        let mut bytes = &self.bytes[..];
        while let Some(Kept { reward, marks, values }) = first(dim, &mut bytes) {
            let mut values = values.iter();
            for (x, &mark) in x.chunks_mut(8).zip(marks) {
                for (bit, x) in x.iter_mut().enumerate() {
                    let value = if mark >> bit & 1 == 1 { values.next() } else { None };
                    *x = value.map_or(0.0, |v| f64::from(f32::from_le_bytes(*v)));
                }
            }
            show(&x, reward);
        }
    }

    /// Takes `len` rows of `dim` features off the front of [`bytes`](Rows::bytes) of some; `None` where there are not so
    /// many, or where a bit is set beyond `dim`.
    pub fn take(len: usize, dim: usize, bytes: &mut &[u8]) -> Option<Rows> {
        let all = *bytes;
        for _ in 0..len {
            let row = first(dim, bytes)?;
            if !dim.is_multiple_of(8) && row.marks.last()? >> (dim % 8) != 0 {
                return None;
            }
        }
        Some(Rows {
            len: u32::try_from(len).ok()?,
            bytes: all[..all.len() - bytes.len()].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn rows_come_back_bit_for_bit() {
        for dim in [1usize, 7, 8, 9, 40] {
            let mut draws = Key::root(dim as u64).draws();
            let (mut rows, mut plain) = (Rows::default(), Vec::new());
            for _ in 0..30 {
                let x: Vec<f32> = (0..dim)
                    .map(|_| [0.0, -0.0, 1.0, draws.normal() as f32][draws.below(4)])
                    .collect();
                let reward = draws.normal();
                let room = rows.bytes.capacity();
                rows.push(x.iter().copied(), reward);
                let nonzero = x.iter().filter(|v| v.to_bits() != 0).count();
                assert_eq!(rows.bytes.capacity() - room, 8 + dim.div_ceil(8) + 4 * nonzero);
                plain.push((x, reward));
            }
            let compare = |rows: &Rows, plain: &[(Vec<f32>, f64)]| {
                assert_eq!((rows.len(), rows.is_empty()), (plain.len(), plain.is_empty()));
                let mut expected = plain.iter();
                rows.each(dim, |x, reward| {
                    let (plain, told) = expected.next().unwrap();
                    let same = |(x, p): (&f64, &f32)| x.to_bits() == f64::from(*p).to_bits();
                    assert!(x.iter().zip(plain).all(same) && x[dim..].iter().all(|v| *v == 0.0));
                    assert_eq!(reward, *told);
                });
                assert!(expected.next().is_none());
            };
            compare(&rows, &plain);
            let mut bytes = rows.bytes();
            compare(&Rows::take(10, dim, &mut bytes).unwrap(), &plain[..10]);
            compare(&Rows::take(20, dim, &mut bytes).unwrap(), &plain[10..]);
            assert!(bytes.is_empty() && Rows::take(1, dim, &mut bytes).is_none());
            // Cut anywhere, the last row is not there.
            for end in 0..rows.bytes.len() {
                assert!(Rows::take(30, dim, &mut &rows.bytes[..end]).is_none());
            }
        }
        let mut beyond = vec![0; 8];
        beyond.push(0b10);
        beyond.extend([0; 4]);
        assert!(Rows::take(1, 1, &mut &beyond[..]).is_none());
    }
}
