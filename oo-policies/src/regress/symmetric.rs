//! Symmetric matrices in blocks of eight rows, and the three loops that all linear policies spend their time in.
//!
//! Row block `I` holds rows `8I..8I+8` and columns `0..8I+8`, column after column, eight numbers each: the lower
//! triangle with full diagonal blocks. A column step is eight multiply-adds with one broadcast, no horizontal
//! sums, so the compiler turns it into vector instructions of any width with the same order of operations:
//! SSE2, AVX2, AVX-512 and NEON give the same bits. Multiply and add are separate operations for the same
//! reason: a fused one would differ where the processor has none.
//!
//! The loops are compiled three times (baseline, AVX2, AVX-512) and chosen at run time (see `kernels`): portable
//! binaries, full speed. The rest of a matrix beyond `dim` is zero.

const LANES: usize = 8;

/// A symmetric `dim × dim` matrix. About `dim² / 2` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    dim: usize,
    blocks: Vec<[f64; LANES]>,
}

/// Vectors are padded to whole blocks with zeros.
pub const fn padded(dim: usize) -> usize {
    dim.div_ceil(LANES) * LANES
}

/// The index of the first column of row block `i`.
const fn block_start(i: usize) -> usize {
    LANES * i * (i + 1) / 2
}

/// The columns of every row block that lie within `dim`, and how many of its rows do.
fn pieces(dim: usize) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
    (0..dim.div_ceil(LANES)).map(move |i| {
        let start = block_start(i);
        (start..start + dim.min(LANES * (i + 1)), LANES.min(dim - LANES * i))
    })
}

/// How many numbers [`Symmetric::pack`] appends for a matrix of this size.
pub fn packed(dim: usize) -> usize {
    pieces(dim).map(|(columns, rows)| columns.len() * rows).sum()
}

impl Symmetric {
    /// `value` on the diagonal, 0 elsewhere.
    pub fn diagonal(dim: usize, value: f64) -> Self {
        let mut m = Symmetric {
            dim,
            blocks: vec![[0.0; LANES]; block_start(padded(dim) / LANES)],
        };
        for i in 0..dim {
            m.set(i, i, value);
        }
        m
    }

    /// Rows.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The numbers as stored.
    pub fn data(&self) -> &[[f64; LANES]] {
        &self.blocks
    }

    /// The numbers as stored, to be overwritten on load.
    pub fn data_mut(&mut self) -> &mut [[f64; LANES]] {
        &mut self.blocks
    }

    /// Appends the numbers as stored, without those beyond `dim`: [`packed`] of them.
    pub fn pack(&self, out: &mut Vec<f64>) {
        for (columns, rows) in pieces(self.dim) {
            self.blocks[columns]
                .iter()
                .for_each(|c| out.extend_from_slice(&c[..rows]));
        }
    }

    /// Takes back what [`pack`](Symmetric::pack) appended for a matrix of this size.
    pub fn unpack(&mut self, from: &[f64]) {
        debug_assert_eq!(from.len(), packed(self.dim));
        let mut from = from;
        for (columns, rows) in pieces(self.dim) {
            for column in &mut self.blocks[columns] {
                let (first, rest) = from.split_at(rows);
                column[..rows].copy_from_slice(first);
                from = rest;
            }
        }
    }

    /// Element (i, j).
    pub fn get(&self, i: usize, j: usize) -> f64 {
        let (i, j) = (i.max(j), i.min(j));
        self.blocks[block_start(i / LANES) + j][i % LANES]
    }

    /// Sets (i, j) and its mirror image.
    pub fn set(&mut self, i: usize, j: usize, value: f64) {
        let (i, j) = (i.max(j), i.min(j));
        self.blocks[block_start(i / LANES) + j][i % LANES] = value;
        if i / LANES == j / LANES {
            self.blocks[block_start(j / LANES) + i][j % LANES] = value;
        }
    }

    /// The matrix over other columns: the new column `j` is this one's column `from[j]`, or has `fresh` on the diagonal
    /// and 0 elsewhere.
    #[must_use]
    pub fn onto(&self, from: &[Option<usize>], fresh: f64) -> Symmetric {
        let mut to = Symmetric::diagonal(from.len(), fresh);
        for i in 0..from.len() {
            for j in 0..=i {
                if let (Some(a), Some(b)) = (from[i], from[j]) {
                    to.set(i, j, self.get(a, b));
                }
            }
        }
        to
    }

    /// xᵀ M x. `x` is padded.
    pub fn quadratic(&self, x: &[f64]) -> f64 {
        debug_assert_eq!(x.len(), padded(self.dim));
        kernels::quadratic(&self.blocks, x, self.dim)
    }

    /// θᵀx and xᵀ M x at once, the same bits as each alone. Both vectors are padded.
    pub fn with_product(&self, theta: &[f64], x: &[f64]) -> (f64, f64) {
        debug_assert_eq!(x.len(), padded(self.dim));
        kernels::both(theta, &self.blocks, x, self.dim)
    }

    /// y = M x. Both are padded.
    pub fn times(&self, x: &[f64], y: &mut [f64]) {
        debug_assert_eq!(x.len(), padded(self.dim));
        debug_assert_eq!(y.len(), padded(self.dim));
        kernels::times(&self.blocks, x, y);
    }

    /// M ← M + scale · x xᵀ. `x` is padded.
    pub fn rank_one(&mut self, scale: f64, x: &[f64]) {
        debug_assert_eq!(x.len(), padded(self.dim));
        kernels::rank_one(&mut self.blocks, scale, x);
    }

    /// M ← factor · M.
    pub fn scale(&mut self, factor: f64) {
        self.blocks.iter_mut().flatten().for_each(|v| *v *= factor);
    }

    /// M ← M + factor · other, of the same size.
    pub fn add(&mut self, factor: f64, other: &Symmetric) {
        debug_assert_eq!(self.dim, other.dim);
        for (m, o) in self.blocks.iter_mut().zip(&other.blocks) {
            m.iter_mut().zip(o).for_each(|(m, o)| *m += factor * o);
        }
    }

    /// tr(M · other), of the same size.
    pub fn inner(&self, other: &Symmetric) -> f64 {
        debug_assert_eq!(self.dim, other.dim);
        let (mut beside, mut on) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..padded(self.dim) / LANES {
            // Of a block beside the diagonal, the mirror image is not there.
            let (start, diagonal, end) = (block_start(i), block_start(i) + LANES * i, block_start(i + 1));
            for (range, sums) in [(start..diagonal, &mut beside), (diagonal..end, &mut on)] {
                for (m, o) in self.blocks[range.clone()].iter().zip(&other.blocks[range]) {
                    (0..LANES).for_each(|l| sums[l] += m[l] * o[l]);
                }
            }
        }
        2.0 * fold(&beside) + fold(&on)
    }

    /// M ← M + value · I.
    pub fn add_diagonal(&mut self, value: f64) {
        for i in 0..self.dim {
            self.set(i, i, self.get(i, i) + value);
        }
    }

    /// The inverse by Cholesky, and the squared ratio of the factor's largest to smallest pivot, which bounds the
    /// condition number from below. `None` when the matrix is not positive definite.
    pub fn inverse(&self) -> Option<(Symmetric, f64)> {
        let mut out = Symmetric::diagonal(self.dim, 0.0);
        let condition = self.inverse_into(&mut out, &mut Vec::new())?;
        Some((out, condition))
    }

    /// The same into a matrix of the same size; `work` grows to 2 · dim² numbers, dim rounded up to whole blocks.
    pub fn inverse_into(&self, out: &mut Symmetric, work: &mut Vec<f64>) -> Option<f64> {
        let len = padded(self.dim);
        work.clear();
        work.resize(2 * len * len, 0.0);
        let (l, inverse) = work.split_at_mut(len * len);
        for i in 0..self.dim {
            for j in 0..=i {
                l[i * len + j] = self.get(i, j);
            }
        }
        let condition = factor::invert(l, inverse, self.dim)?;
        for i in 0..self.dim {
            for j in 0..=i {
                out.set(i, j, l[i * len + j]);
            }
        }
        Some(condition)
    }

    /// The lower Cholesky factor, row-major `dim × dim`, and the estimate of [`inverse`](Symmetric::inverse).
    pub fn cholesky(&self) -> Option<(Vec<f64>, f64)> {
        let mut l = vec![0.0; self.dim * self.dim];
        let condition = self.cholesky_into(&mut l)?;
        Some((l, condition))
    }

    /// The same into a buffer of `dim²` numbers, whose upper triangle is left alone.
    pub fn cholesky_into(&self, l: &mut [f64]) -> Option<f64> {
        let d = self.dim;
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for i in 0..d {
            for j in 0..=i {
                let mut s = self.get(i, j);
                for k in 0..j {
                    s -= l[i * d + k] * l[j * d + k];
                }
                if i == j {
                    if !(s > 0.0 && s.is_finite()) {
                        return None;
                    }
                    let pivot = s.sqrt();
                    low = low.min(pivot);
                    high = high.max(pivot);
                    l[i * d + i] = pivot;
                } else {
                    l[i * d + j] = s / l[j * d + j];
                }
            }
        }
        Some((high / low) * (high / low))
    }
}

/// Σ aᵢ bᵢ over padded vectors, in eight lanes.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut acc = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for l in 0..LANES {
            acc[l] += a[l] * b[l];
        }
    }
    fold(&acc)
}

/// Sums the lanes in a fixed tree.
#[inline(always)]
fn fold(a: &[f64; LANES]) -> f64 {
    ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
}

mod factor;
mod kernels;

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn example(dim: usize) -> (Symmetric, Vec<f64>) {
        let mut draws = Key::root(dim as u64).draws();
        let mut m = Symmetric::diagonal(dim, 1.0);
        let mut x = vec![0.0; padded(dim)];
        for _ in 0..2 * dim {
            x[..dim].fill_with(|| draws.normal());
            m.rank_one(0.5, &x);
        }
        (m, x)
    }

    #[test]
    fn agrees_with_the_plain_loops() {
        for dim in [1, 5, 8, 9, 17, 65] {
            let (m, x) = example(dim);
            let mut y = vec![0.0; padded(dim)];
            m.times(&x, &mut y);
            let mut q = 0.0;
            for i in 0..dim {
                let row: f64 = (0..dim).map(|j| m.get(i, j) * x[j]).sum();
                assert!((row - y[i]).abs() < 1e-10 * row.abs().max(1.0), "{dim} {i}");
                q += row * x[i];
            }
            assert!((q - m.quadratic(&x)).abs() < 1e-10 * q);
            let entries = (0..dim).flat_map(|i| (0..dim).map(move |j| (i, j)));
            let (other, _) = example(dim + 1);
            let other = other.onto(&(0..dim).map(Some).collect::<Vec<_>>(), 0.0);
            let trace: f64 = entries.map(|(i, j)| m.get(i, j) * other.get(i, j)).sum();
            assert!((trace - m.inner(&other)).abs() < 1e-10 * trace);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (m, x) = example(65);
        assert_eq!(
            m.quadratic(&x).to_bits(),
            kernels::portable::quadratic(m.data(), &x, 65).to_bits()
        );
        assert_eq!(m.with_product(&x, &x), (dot(&x, &x), m.quadratic(&x)));
        assert_eq!(m.with_product(&x, &x), kernels::portable::both(&x, m.data(), &x, 65));
        let (mut a, mut b) = (vec![0.0; 72], vec![0.0; 72]);
        m.times(&x, &mut a);
        kernels::portable::times(m.data(), &x, &mut b);
        assert_eq!(a, b);
        let (mut p, mut q) = (m.clone(), m);
        p.rank_one(-0.3, &x);
        kernels::portable::rank_one(q.data_mut(), -0.3, &x);
        assert_eq!(p, q);
    }

    #[test]
    fn packing_leaves_out_nothing() {
        for dim in [1, 8, 12, 17] {
            let (m, _) = example(dim);
            let mut numbers = Vec::new();
            m.pack(&mut numbers);
            assert_eq!(numbers.len(), packed(dim));
            let mut again = Symmetric::diagonal(dim, 7.0);
            again.unpack(&numbers);
            assert_eq!(again, m);
        }
        assert_eq!(packed(12), 8 * 8 + 4 * 12);
    }

    #[test]
    fn inverse_inverts_and_refuses() {
        let (m, x) = example(17);
        let (inverse, condition) = m.inverse().unwrap();
        let (mut y, mut z) = (vec![0.0; 24], vec![0.0; 24]);
        m.times(&x, &mut y);
        inverse.times(&y, &mut z);
        assert!(
            x.iter().zip(&z).all(|(a, b)| (a - b).abs() < 1e-10),
            "condition {condition}"
        );
        assert!(Symmetric::diagonal(3, -1.0).inverse().is_none());
    }
}
