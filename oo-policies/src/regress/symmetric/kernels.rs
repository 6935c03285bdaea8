//! The three loops, once for each width of vector, over one definition of the arithmetic.
//!
//! [`Lanes`] is eight numbers side by side: one AVX-512 register, two AVX2 registers, or an array. The loops are
//! written over it once, so every width does the same operations in the same order and gives the same bits. Left
//! to itself the compiler used registers of two numbers here and reached a third of the speed (the table in
//! `benches/README.md`), which is the measured need for `unsafe`.

#![allow(unsafe_code)]

use super::{LANES, block_start, fold};

/// Eight numbers side by side.
trait Lanes: Copy {
    fn splat(x: f64) -> Self;
    fn load(from: &[f64; LANES]) -> Self;
    fn store(self, to: &mut [f64; LANES]);
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    #[inline(always)]
    fn array(self) -> [f64; LANES] {
        let mut out = [0.0; LANES];
        self.store(&mut out);
        out
    }
}

#[derive(Clone, Copy)]
struct Array([f64; LANES]);

impl Lanes for Array {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        Array([x; LANES])
    }
    #[inline(always)]
    fn load(from: &[f64; LANES]) -> Self {
        Array(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f64; LANES]) {
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

/// Eight numbers as they lie in memory, or where an iterator over slices cannot name the length.
#[inline(always)]
fn lanes<V: Lanes>(x: &[f64], block: usize) -> V {
    let mut eight = [0.0; LANES];
    eight.copy_from_slice(&x[LANES * block..LANES * (block + 1)]);
    V::load(&eight)
}

/// Σ columnⱼ · xⱼ; four accumulators hide the latency of the additions. The number of columns is a multiple of 8.
#[inline(always)]
fn combine<V: Lanes>(columns: &[[f64; LANES]], x: &[f64]) -> V {
    let zero = V::splat(0.0);
    let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
    for (m, x) in columns.chunks_exact(4).zip(x.chunks_exact(4)) {
        a = a.plus(V::load(&m[0]).times(V::splat(x[0])));
        b = b.plus(V::load(&m[1]).times(V::splat(x[1])));
        c = c.plus(V::load(&m[2]).times(V::splat(x[2])));
        d = d.plus(V::load(&m[3]).times(V::splat(x[3])));
    }
    a.plus(c).plus(b.plus(d))
}

#[inline(always)]
fn quadratic_body<V: Lanes>(m: &[[f64; LANES]], x: &[f64], dim: usize) -> f64 {
    let mut total = V::splat(0.0);
    for i in 0..x.len() / LANES {
        let (start, below) = (block_start(i), LANES * i);
        let off: V = combine(&m[start..start + below], &x[..below]);
        // Of the last block, what lies beyond `dim` is zero; in fours, as `combine` takes them.
        let width = (dim - below).next_multiple_of(4).min(LANES);
        let diagonal: V = combine(&m[start + below..start + below + width], &x[below..below + width]);
        // What lies left of the diagonal block counts twice: once for its mirror image.
        total = total.plus(off.plus(off).plus(diagonal).times(lanes(x, i)));
    }
    fold(&total.array())
}

/// θᵀx and xᵀMx in one call: for small matrices a call costs as much as the arithmetic.
#[inline(always)]
fn both_body<V: Lanes>(theta: &[f64], m: &[[f64; LANES]], x: &[f64], dim: usize) -> (f64, f64) {
    let mut total = V::splat(0.0);
    for (a, b) in theta.as_chunks::<LANES>().0.iter().zip(x.as_chunks::<LANES>().0) {
        total = total.plus(V::load(a).times(V::load(b)));
    }
    (fold(&total.array()), quadratic_body::<V>(m, x, dim))
}

#[inline(always)]
fn times_body<V: Lanes>(m: &[[f64; LANES]], x: &[f64], y: &mut [f64]) {
    y.fill(0.0);
    for i in 0..x.len() / LANES {
        let (start, below) = (block_start(i), LANES * i);
        let xi: V = lanes(x, i);
        let own: V = combine(&m[start..start + below + LANES], &x[..below + LANES]);
        for (y, own) in y[below..below + LANES].iter_mut().zip(own.array()) {
            *y += own;
        }
        // The mirror image of what lies left of the diagonal block.
        for (column, y) in m[start..start + below].iter().zip(&mut y[..below]) {
            *y += fold(&V::load(column).times(xi).array());
        }
    }
}

#[inline(always)]
fn rank_one_body<V: Lanes>(m: &mut [[f64; LANES]], scale: f64, x: &[f64]) {
    for i in 0..x.len() / LANES {
        let (start, end) = (block_start(i), LANES * (i + 1));
        let xi: V = lanes(x, i);
        for (column, &xj) in m[start..start + end].iter_mut().zip(&x[..end]) {
            V::load(column).plus(xi.times(V::splat(scale * xj))).store(column);
        }
    }
}

/// The loops on arrays, for processors without wide vectors, and to test the others against.
pub mod portable {
    use super::{Array, LANES};

    pub fn quadratic(m: &[[f64; LANES]], x: &[f64], dim: usize) -> f64 {
        super::quadratic_body::<Array>(m, x, dim)
    }
    pub fn both(theta: &[f64], m: &[[f64; LANES]], x: &[f64], dim: usize) -> (f64, f64) {
        super::both_body::<Array>(theta, m, x, dim)
    }
    pub fn times(m: &[[f64; LANES]], x: &[f64], y: &mut [f64]) {
        super::times_body::<Array>(m, x, y);
    }
    pub fn rank_one(m: &mut [[f64; LANES]], scale: f64, x: &[f64]) {
        super::rank_one_body::<Array>(m, scale, x);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512d);

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256d, __m256d);

    // SAFETY, for every block below: these types are named only in the `avx2` and `avx512` functions, which are
    // called only after the processor was asked; loads and stores stay within the eight numbers of the reference.
    impl Lanes for Avx512 {
        #[inline(always)]
        fn splat(x: f64) -> Self {
            unsafe { Avx512(_mm512_set1_pd(x)) }
        }
        #[inline(always)]
        fn load(from: &[f64; LANES]) -> Self {
            unsafe { Avx512(_mm512_loadu_pd(from.as_ptr())) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f64; LANES]) {
            unsafe { _mm512_storeu_pd(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_add_pd(self.0, other.0)) }
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_mul_pd(self.0, other.0)) }
        }
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(x: f64) -> Self {
            let half = unsafe { _mm256_set1_pd(x) };
            Avx2(half, half)
        }
        #[inline(always)]
        fn load(from: &[f64; LANES]) -> Self {
            unsafe { Avx2(_mm256_loadu_pd(from.as_ptr()), _mm256_loadu_pd(from.as_ptr().add(4))) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f64; LANES]) {
            unsafe {
                _mm256_storeu_pd(to.as_mut_ptr(), self.0);
                _mm256_storeu_pd(to.as_mut_ptr().add(4), self.1);
            }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_add_pd(self.0, other.0), _mm256_add_pd(self.1, other.1)) }
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_mul_pd(self.0, other.0), _mm256_mul_pd(self.1, other.1)) }
        }
    }
}

macro_rules! dispatch {
    ($(fn $name:ident = $body:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => {$(
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $out)? { $body::<x86::Avx2>($($arg),*) }
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $ty),*) $(-> $out)? { $body::<x86::Avx512>($($arg),*) }
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
        }
    )*};
}

dispatch! {
    fn quadratic = quadratic_body(m: &[[f64; LANES]], x: &[f64], dim: usize) -> f64;
    fn both = both_body(theta: &[f64], m: &[[f64; LANES]], x: &[f64], dim: usize) -> (f64, f64);
    fn times = times_body(m: &[[f64; LANES]], x: &[f64], y: &mut [f64]);
    fn rank_one = rank_one_body(m: &mut [[f64; LANES]], scale: f64, x: &[f64]);
}
