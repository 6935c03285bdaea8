//! Betting with many stakes at once.
//!
//! The capital against m is the mean, over stakes θ = 0.95·2^(−k), of Π ((1 − θ) + θ·xₜ/m): each stake starts with the same
//! sum, and the ones that suit the variance and the distance soon hold nearly all of it. Each factor falls in m, so the
//! capital does: a grid value struck out strikes out all below it, and the answer is right between grid values too.
//!
//! Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting, §B.6 (diversified Kelly betting).
//! arXiv:2010.09686

/// Values of m between the lowest and 1.
const GRID: usize = 1000;
/// From 0.95 down to 0.0009: a row never takes more than 95 % of anything.
const STAKES: usize = 11;
/// Less than this will not come back, and its multiplication would be slow.
const NOTHING: f64 = 1e-200;

#[derive(Clone, Debug)]
pub(super) struct Capital {
    lowest: f64,
    threshold: f64,
    /// 1/m of the grid values.
    inverse: Vec<f64>,
    /// Stake by stake, against each grid value; those below `struck` no longer play.
    capital: Vec<f64>,
    struck: usize,
}

impl Capital {
    pub(super) fn new(log_threshold: f64, lowest: f64) -> Self {
        Capital {
            lowest,
            threshold: libm::exp(log_threshold),
            inverse: (0..GRID).map(|i| 1.0 / value(lowest, i)).collect(),
            capital: vec![1.0 / STAKES as f64; GRID * STAKES],
            struck: 0,
        }
    }

    pub(super) fn push(&mut self, x: f64) {
        let from = self.struck;
        let mut stake = 0.95;
        for capital in self.capital.chunks_exact_mut(GRID) {
            for (c, inverse) in capital[from..].iter_mut().zip(&self.inverse[from..]) {
                let next = *c * ((1.0 - stake) + stake * x * inverse);
                *c = if next < NOTHING { 0.0 } else { next };
            }
            stake *= 0.5;
        }
        while self.struck < GRID && self.against(self.struck) >= self.threshold {
            self.struck += 1;
        }
    }

    fn against(&self, i: usize) -> f64 {
        self.capital.iter().skip(i).step_by(GRID).sum()
    }

    /// The largest value struck out so far.
    pub(super) fn bound(&self) -> f64 {
        match self.struck {
            0 => self.lowest,
            n => value(self.lowest, n - 1),
        }
    }
}

/// The grid value i; the first lies a step above the lowest.
fn value(lowest: f64, i: usize) -> f64 {
    lowest + (1.0 - lowest) * (i + 1) as f64 / GRID as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_by_hand() {
        // Twenty rows of 0.6 against m = 0.4: Σ_k ((1 − θ) + 1.5·θ)^20 / 11 with θ = 0.95·2^(−k).
        let mut c = Capital::new(1e6, 0.0);
        (0..20).for_each(|_| c.push(0.6));
        let by_hand: f64 = (0..11).map(|k| (1.0 + 0.475 * 0.5f64.powi(k)).powi(20)).sum::<f64>() / 11.0;
        assert!((c.against(399) / by_hand - 1.0).abs() < 1e-12);
        assert!(c.against(399) > c.against(400));
        assert_eq!(c.bound(), 0.0);
    }

    #[test]
    fn what_is_struck_out_stays_out() {
        let mut c = Capital::new(libm::log(40.0), 0.5);
        (0..200).for_each(|_| c.push(1.0));
        let bound = c.bound();
        assert!(bound > 0.96 && bound < 1.0, "{bound}");
        (0..2000).for_each(|_| c.push(0.0));
        assert_eq!(c.bound(), bound);
    }
}
