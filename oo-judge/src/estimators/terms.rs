//! What an estimator makes of each row, and the sums of it: value and standard error from one pass.
//!
//! An estimate is mean(base) + Σnum/Σden. A plain mean has den = 1 in every row; a self-normalised estimator has the
//! weights there. Keeping numerator and denominator apart is what makes intervals right: dividing by the mean weight
//! first would freeze a denominator that is itself an estimate.
//!
//! The standard error is linearised (the delta method): row i contributes
//! ψᵢ = (baseᵢ − mean base) + (numᵢ − θ·denᵢ)/mean den, with θ = Σnum/Σden, and the variance of the estimate is the
//! variance of ψ over n.

/// One number a row, three times; the columns are equally long.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Terms {
    /// Averaged.
    pub base: Vec<f64>,
    /// Summed over the sum of `den`.
    pub num: Vec<f64>,
    /// Not negative; 1 throughout for estimators that are plain means.
    pub den: Vec<f64>,
}

impl Terms {
    /// Makes room for `rows` rows of a plain mean: base and num 0, den 1.
    pub fn reset(&mut self, rows: usize) {
        for (column, start) in [(&mut self.base, 0.0), (&mut self.num, 0.0), (&mut self.den, 1.0)] {
            column.resize(rows, start);
            column.fill(start);
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.base.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.base.is_empty()
    }
}

/// Count, means and centred products of (base, num, den) over the rows seen so far.
///
/// Sums over blocks merge into the sums over all rows, up to rounding; merging in a fixed order gives fixed bits.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sums {
    count: f64,
    mean: [f64; 3],
    /// Σ of products of deviations from the means: base², base·num, base·den, num², num·den, den².
    products: [f64; 6],
}

const LANES: usize = 4;

impl Sums {
    /// Sums over no rows.
    pub fn new() -> Sums {
        Sums::default()
    }

    /// Adds rows.
    pub fn add(&mut self, terms: &Terms) {
        let rows = terms.len();
        if rows == 0 {
            return;
        }
        // Deviations from a point near the mean, so that squares of a large mean do not swallow the variance.
        let pivot = if self.count > 0.0 {
            self.mean
        } else {
            [terms.base[0], terms.num[0], terms.den[0]]
        };
        // Most columns of most estimators never leave their pivot, and add nothing.
        let varies = |column: &[f64], pivot: f64| column.iter().fold(false, |varies, x| varies | (*x != pivot));
        let (sums, products) = match (
            varies(&terms.base, pivot[0]),
            varies(&terms.num, pivot[1]),
            varies(&terms.den, pivot[2]),
        ) {
            (false, _, false) => deviations::<false, true, false>(terms, pivot),
            (true, false, false) => deviations::<true, false, false>(terms, pivot),
            (true, true, false) => deviations::<true, true, false>(terms, pivot),
            (false, _, true) => deviations::<false, true, true>(terms, pivot),
            (true, _, true) => deviations::<true, true, true>(terms, pivot),
        };
        let count = rows as f64;
        self.merge(&Sums {
            count,
            mean: std::array::from_fn(|i| pivot[i] + sums[i] / count),
            products: std::array::from_fn(|i| {
                let (a, b) = PAIRS[i];
                products[i] - sums[a] * sums[b] / count
            }),
        });
    }

    /// Adds the rows of other sums (Chan, Golub, LeVeque 1979).
    pub fn merge(&mut self, other: &Sums) {
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let apart: [f64; 3] = std::array::from_fn(|i| other.mean[i] - self.mean[i]);
        let share = self.count * other.count / count;
        for (i, (a, b)) in PAIRS.into_iter().enumerate() {
            self.products[i] += other.products[i] + apart[a] * apart[b] * share;
        }
        for (mean, apart) in self.mean.iter_mut().zip(apart) {
            *mean += apart * (other.count / count);
        }
        self.count = count;
    }

    /// The number of rows.
    pub fn count(&self) -> u64 {
        self.count as u64
    }

    /// The estimate; NaN without rows, or when every `den` is 0 (no row says anything about the target policy).
    pub fn value(&self) -> f64 {
        if self.count == 0.0 {
            return f64::NAN;
        }
        self.mean[0] + self.mean[1] / self.mean[2]
    }

    /// Variance of the contributions ψ, with divisor n − 1; NaN with fewer than two rows.
    pub fn variance(&self) -> f64 {
        if self.count < 2.0 {
            return f64::NAN;
        }
        let theta = self.mean[1] / self.mean[2];
        let [bb, bn, bd, nn, nd, dd] = self.products;
        let scale = 1.0 / self.mean[2];
        let total = bb + 2.0 * scale * (bn - theta * bd) + scale * scale * (nn - 2.0 * theta * nd + theta * theta * dd);
        // A constant reward leaves differences of equal numbers, which rounding may put below 0.
        total.max(0.0) / (self.count - 1.0)
    }

    /// Standard error of [`value`](Sums::value) when rows are independent; NaN with fewer than two.
    pub fn std_error(&self) -> f64 {
        (self.variance() / self.count).sqrt()
    }
}

/// Which two of (base, num, den) each product is of.
const PAIRS: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];

/// Sums of the deviations from the pivot, and of their products in the order of [`PAIRS`], over the columns that vary.
/// Lanes let the additions run side by side.
fn deviations<const BASE: bool, const NUM: bool, const DEN: bool>(
    terms: &Terms,
    pivot: [f64; 3],
) -> ([f64; 3], [f64; 6]) {
    let (mut sums, mut products) = ([[0.0; LANES]; 3], [[0.0; LANES]; 6]);
    let mut row = |lane: usize, base: f64, num: f64, den: f64| {
        let (b, n, d) = (base - pivot[0], num - pivot[1], den - pivot[2]);
        if BASE {
            sums[0][lane] += b;
            products[0][lane] += b * b;
        }
        if BASE && NUM {
            products[1][lane] += b * n;
        }
        if BASE && DEN {
            products[2][lane] += b * d;
        }
        if NUM {
            sums[1][lane] += n;
            products[3][lane] += n * n;
        }
        if NUM && DEN {
            products[4][lane] += n * d;
        }
        if DEN {
            sums[2][lane] += d;
            products[5][lane] += d * d;
        }
    };
    let (base, base_rest) = terms.base.as_chunks::<LANES>();
    let (num, num_rest) = terms.num.as_chunks::<LANES>();
    let (den, den_rest) = terms.den.as_chunks::<LANES>();
    for ((base, num), den) in base.iter().zip(num).zip(den) {
        for lane in 0..LANES {
            row(lane, base[lane], num[lane], den[lane]);
        }
    }
    for ((base, num), den) in base_rest.iter().zip(num_rest).zip(den_rest) {
        row(0, *base, *num, *den);
    }
    (
        sums.map(|lanes| lanes.iter().sum()),
        products.map(|lanes| lanes.iter().sum()),
    )
}
