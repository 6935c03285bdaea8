//! The loops of the networks, in f32, once for each width of vector over one definition of the arithmetic.
//!
//! As in [`symmetric`](super::symmetric): sixteen numbers side by side are one AVX-512 register, two AVX2 registers or
//! an array; multiply and add are separate operations; every sum has one order. So all instruction sets give the same
//! bits, a row's result does not depend on the batch that it came in, and nothing here starts a thread. A general
//! matrix library does not promise that: candle's own product (the `gemm` crate) fuses multiply and add where the
//! processor can, and splits large products over all cores, also in a program that was asked for one.
//!
//! Matrices are row-major and their rows are padded with zeros to [`padded`] columns.

#![allow(unsafe_code)]

const LANES: usize = 16;

/// Rows are padded to whole vectors.
pub const fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}

trait Lanes: Copy {
    fn splat(x: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

#[derive(Clone, Copy)]
struct Array([f32; LANES]);

impl Lanes for Array {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Array([x; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Array(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Array(std::array::from_fn(|l| self.0[l] + other.0[l]))
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Array(std::array::from_fn(|l| self.0[l] * other.0[l]))
    }
}

#[inline(always)]
fn at<V: Lanes>(x: &[f32], from: usize) -> V {
    V::load(x[from..from + LANES].first_chunk().expect("a slice of sixteen"))
}

/// Sums the lanes in a fixed tree.
#[inline(always)]
fn fold<V: Lanes>(v: V) -> f32 {
    let mut a = [0.0; LANES];
    v.store(&mut a);
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            a[l] += a[l + half];
        }
        half /= 2;
    }
    a[0]
}

/// `left` as it lies in memory: element (i, j) is at `i·down + j·right`.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// From one row to the next.
    pub down: usize,
    /// From one column to the next.
    pub right: usize,
}

/// `R` rows and `C` vectors of columns of C ← C + A B, all in registers.
#[inline(always)]
fn tile<V: Lanes, const R: usize, const C: usize>(
    a: Left<'_>,
    b: &[f32],
    c: &mut [f32],
    inner: usize,
    columns: usize,
    (row, column): (usize, usize),
) {
    let mut sums: [[V; C]; R] =
        std::array::from_fn(|r| std::array::from_fn(|v| at(c, (row + r) * columns + column + v * LANES)));
    let starts: [usize; R] = std::array::from_fn(|r| (row + r) * a.down);
    for k in 0..inner {
        let line = &b[k * columns + column..k * columns + column + C * LANES];
        let right: [V; C] = std::array::from_fn(|v| at(line, v * LANES));
        for r in 0..R {
            let left = V::splat(a.data[starts[r] + k * a.right]);
            for v in 0..C {
                sums[r][v] = sums[r][v].plus(left.times(right[v]));
            }
        }
    }
    for r in 0..R {
        for v in 0..C {
            let to = (row + r) * columns + column + v * LANES;
            sums[r][v].store(c[to..to + LANES].first_chunk_mut().expect("a slice of sixteen"));
        }
    }
}

#[inline(always)]
fn product_body<V: Lanes>(a: Left<'_>, b: &[f32], c: &mut [f32], inner: usize, columns: usize) {
    let rows = c.len() / columns.max(1);
    let mut row = 0;
    while row + 4 <= rows {
        let mut column = 0;
        while column + 4 * LANES <= columns {
            tile::<V, 4, 4>(a, b, c, inner, columns, (row, column));
            column += 4 * LANES;
        }
        if column + 2 * LANES <= columns {
            tile::<V, 4, 2>(a, b, c, inner, columns, (row, column));
            column += 2 * LANES;
        }
        if column < columns {
            tile::<V, 4, 1>(a, b, c, inner, columns, (row, column));
        }
        row += 4;
    }
    while row < rows {
        let mut column = 0;
        while column + 4 * LANES <= columns {
            tile::<V, 1, 4>(a, b, c, inner, columns, (row, column));
            column += 4 * LANES;
        }
        if column + 2 * LANES <= columns {
            tile::<V, 1, 2>(a, b, c, inner, columns, (row, column));
            column += 2 * LANES;
        }
        if column < columns {
            tile::<V, 1, 1>(a, b, c, inner, columns, (row, column));
        }
        row += 1;
    }
}

#[inline(always)]
fn dots_body<V: Lanes>(m: &[f32], x: &[f32], y: &mut [f32]) {
    for (row, y) in m.chunks_exact(x.len()).zip(y) {
        let mut sum = V::splat(0.0);
        for from in (0..x.len()).step_by(LANES) {
            sum = sum.plus(at::<V>(row, from).times(at(x, from)));
        }
        *y = fold(sum);
    }
}

#[inline(always)]
fn outer_body<V: Lanes>(scale: f32, a: &[f32], x: &[f32], m: &mut [f32]) {
    for (row, a) in m.chunks_exact_mut(x.len()).zip(a) {
        let factor = V::splat(scale * a);
        for from in (0..x.len()).step_by(LANES) {
            let to = &mut row[from..from + LANES];
            let sum = at::<V>(to, 0).plus(factor.times(at(x, from)));
            sum.store(to.first_chunk_mut().expect("a slice of sixteen"));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    // SAFETY, for every block below: these types are named only in the `avx2` and `avx512` functions, which are
    // called only after the processor was asked; loads and stores stay within the sixteen numbers of the reference.
    impl Lanes for Avx512 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            unsafe { Avx512(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            unsafe { Avx512(_mm512_loadu_ps(from.as_ptr())) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_mul_ps(self.0, other.0)) }
        }
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            let half = unsafe { _mm256_set1_ps(x) };
            Avx2(half, half)
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
    }
}

macro_rules! dispatch {
    ($($(#[$doc:meta])* fn $name:ident = $body:ident($($arg:ident: $ty:ty),*);)*) => {
        /// The loops on arrays, for processors without wide vectors, and to test the others against.
        #[cfg_attr(not(test), allow(dead_code))]
        mod portable {
            use super::*;
            $(pub fn $name($($arg: $ty),*) { $body::<Array>($($arg),*) })*
        }
        $($(#[$doc])*
        pub fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) { $body::<x86::Avx2>($($arg),*) }
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $ty),*) { $body::<x86::Avx512>($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor has AVX-512F.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable::$name($($arg),*)
        })*
    };
}

dispatch! {
    /// C ← C + A B, for B of `inner` rows; B and C have `columns` columns, a multiple of 16.
    fn product = product_body(a: Left<'_>, b: &[f32], c: &mut [f32], inner: usize, columns: usize);
    /// y ← M x, for rows as long as x.
    fn dots = dots_body(m: &[f32], x: &[f32], y: &mut [f32]);
    /// M ← M + scale · a xᵀ, for rows as long as x.
    fn outer = outer_body(scale: f32, a: &[f32], x: &[f32], m: &mut [f32]);
}

/// `m`, `rows × columns`, transposed into `out`, whose rows are padded to `width`.
pub fn transpose(m: &[f32], columns: usize, width: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(columns * width, 0.0);
    for (i, row) in m.chunks_exact(columns).enumerate() {
        for (j, &v) in row.iter().enumerate() {
            out[j * width + i] = v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut draws = Key::root(seed).draws();
        (0..n).map(|_| draws.normal() as f32).collect()
    }

    #[test]
    fn agrees_with_the_plain_loops_and_every_instruction_set_gives_the_same_bits() {
        for (rows, inner, columns) in [(1, 3, 16), (4, 54, 112), (7, 100, 48), (64, 5, 80)] {
            let (a, b, c) = (
                numbers(rows * inner, 1),
                numbers(inner * columns, 2),
                numbers(rows * columns, 3),
            );
            for (down, right) in [(inner, 1), (1, rows)] {
                let left = Left { data: &a, down, right };
                let mut wide = c.clone();
                product(left, &b, &mut wide, inner, columns);
                let mut plain = c.clone();
                portable::product(left, &b, &mut plain, inner, columns);
                assert_eq!(wide, plain);
                for i in 0..rows {
                    for j in 0..columns {
                        let term = |k: usize| a[i * down + k * right] * b[k * columns + j];
                        let sum = (0..inner).fold(c[i * columns + j], |s, k| s + term(k));
                        assert_eq!(sum, wide[i * columns + j], "one order of the sum");
                    }
                }
            }
            let x = numbers(columns, 4);
            let (mut y, mut z) = (vec![0.0; inner], vec![0.0; inner]);
            dots(&b, &x, &mut y);
            portable::dots(&b, &x, &mut z);
            assert_eq!(y, z);
            let exact: f64 = (0..columns).map(|j| f64::from(b[j]) * f64::from(x[j])).sum();
            assert!((f64::from(y[0]) - exact).abs() < 1e-4);
            let (mut m, mut n) = (b.clone(), b.clone());
            outer(0.5, &y, &x, &mut m);
            portable::outer(0.5, &y, &x, &mut n);
            assert_eq!(m, n);
            assert_eq!(m[1], b[1] + (0.5 * y[0]) * x[1]);
        }
    }
}
