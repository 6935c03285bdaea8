//! Axes: round numbers at a readable distance, and where a value lies between two ends.

/// A range of values drawn over a range of lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// `low` is drawn at `from` and `high` at `to`. An empty range is widened, since nothing can be read off it.
    pub fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Axis {
        let (mut low, mut high) = if low.is_finite() && high.is_finite() {
            (low.min(high), low.max(high))
        } else {
            (0.0, 1.0)
        };
        // Below this the steps between ticks drown in rounding.
        let least = 1e-9 * low.abs().max(high.abs()).max(1e-6);
        if high - low < least {
            let middle = f64::midpoint(low, high);
            let half = if middle == 0.0 { 1.0 } else { 0.1 * middle.abs() };
            (low, high) = (middle - half, middle + half);
        }
        Axis { low, high, from, to }
    }

    /// Where `value` is drawn.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Ticks at 1, 2 or 5 times a power of ten, about `wanted` of them, with their labels.
    pub fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = libm::floor(libm::log10(rough));
        let unit = libm::pow(10.0, power);
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|m| m * unit)
            .into_iter()
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(10.0 * unit);
        let decimals = (-libm::floor(libm::log10(step * 1.001))).clamp(0.0, 12.0) as usize;
        let slack = 1e-6 * step;
        let first = libm::ceil((self.low - slack) / step);
        let count = libm::floor((self.high + slack) / step) - first;
        // `as` saturates; a range of any size has few ticks.
        (0..=count.clamp(0.0, 50.0) as u32)
            .map(|i| (first + f64::from(i)) * step)
            .map(|x| (x, number(x, decimals)))
            .collect()
    }
}

/// With so many decimals, commas between thousands, and a true minus sign.
pub fn number(x: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", x.abs());
    let (whole, rest) = digits.split_once('.').unwrap_or((&digits, ""));
    let mut out = String::new();
    if x < 0.0 && digits.chars().any(|c| ('1'..='9').contains(&c)) {
        out.push('−');
    }
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

/// As [`number`], with a plus sign where there is no minus.
pub fn signed(x: f64, decimals: usize) -> String {
    let text = number(x, decimals);
    if text.starts_with('−') {
        text
    } else {
        format!("+{text}")
    }
}

/// Moves positions apart to at least `gap`, as little as possible in squares, keeping their order and staying
/// between `low` and `high`; where there is no room for all, they are spread evenly.
pub fn spread(wanted: &[f64], gap: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let n = wanted.len();
    let gap = gap.min((high - low) / n.saturating_sub(1).max(1) as f64);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // With `gap` taken off for each that stands before, the answer may only rise: neighbours that would fall are
    // pooled into their mean.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (rank, &i) in order.iter().enumerate() {
        let mut pool = (wanted[i] - rank as f64 * gap, 1);
        while let Some(&(mean, size)) = pools.last().filter(|p| p.0 > pool.0) {
            pools.pop();
            let both = size + pool.1;
            pool = ((mean * size as f64 + pool.0 * pool.1 as f64) / both as f64, both);
        }
        pools.push(pool);
    }
    let places = pools.iter().flat_map(|&(mean, size)| std::iter::repeat_n(mean, size));
    let most = high - gap * n.saturating_sub(1) as f64;
    let mut out = vec![0.0; n];
    for (rank, (&i, place)) in order.iter().zip(places).enumerate() {
        out[i] = place.min(most).max(low) + rank as f64 * gap;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |low, high| -> Vec<String> {
            let axis = Axis::new((low, high), (0.0, 100.0));
            axis.ticks(5).into_iter().map(|t| t.1).collect()
        };
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.013, 0.031), ["−0.01", "0.00", "0.01", "0.02", "0.03"]);
        assert_eq!(
            labels(0.0, 10_500.0),
            ["0", "5,000", "10,000"],
            "steps of 2,000 would be six"
        );
        for (low, high) in [(3.0, 3.0), (f64::NAN, 1.0), (0.0, 0.0), (-1e9, 1e9), (0.0, 1e-9)] {
            let n = labels(low, high).len();
            assert!((2..=12).contains(&n), "{low} to {high}: {n} ticks");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(number(-1234.5, 1), "−1,234.5");
        assert_eq!(
            [number(-0.00001, 4), signed(0.5, 2), signed(-0.5, 2)],
            ["0.0000", "+0.50", "−0.50"]
        );
    }

    #[test]
    fn labels_do_not_overlap() {
        let out = spread(&[5.0, 5.0, 4.0, 99.0], 10.0, (0.0, 100.0));
        assert_eq!(out, [10.0, 20.0, 0.0, 99.0]);
        let out = spread(&[100.0, 100.0, 100.0], 10.0, (0.0, 100.0));
        assert_eq!(out, [80.0, 90.0, 100.0]);
        let out = spread(&[1.0; 5], 10.0, (0.0, 20.0));
        assert_eq!(out, [0.0, 5.0, 10.0, 15.0, 20.0], "too many: evenly");
    }
}
