//! Confidence sequences: intervals that hold at all times at once, however often and for whatever reason one looks.
//!
//! Each end is a bet against a value m. The capital starts at 1 and cannot grow on average if m is the truth, so it ever
//! reaches 2/α with probability at most α/2 (Ville's inequality); values at which it does are struck out for good. Both
//! kinds of bet ([`Bet`]) need only variables that are not negative and whose mean is in [0, 1]; nothing bounds them from
//! above. So every sequence here is made of two columns, one for the lower end and one for the upper, whose means add up
//! to 1:
//!
//! | sequence | for the lower end | for the upper end |
//! |---|---|---|
//! | [`ValueSequence`]: value of a policy from a log, r in [0, 1] | w·r | w·(1 − r) |
//! | [`DifferenceSequence`]: two policies on one log | (w_a·r + w_b·(1 − r))/2 | the same with a and b exchanged |
//! | the same, weights at most W | ((w_a − w_b)·r + W)/(1 + W) on [0, ∞) | likewise, exchanged |
//! | [`MeanSequence`]: mean of x in [0, 1] | x | 1 − x |
//!
//! Ranges other than [0, 1] are scaled to it. A row costs O(1) with either bet.
//!
//! Howard, Ramdas, McAuliffe, Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences.
//! arXiv:1810.08240. Karampatziakis, Mineiro, Ramdas (2021), Off-policy confidence sequences. arXiv:2102.09540.
//! Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro (2024), Anytime-valid off-policy inference for contextual bandits.
//! arXiv:2210.10768.

mod capital;
pub(crate) mod effect;
mod mixture;
mod ratio;
mod student;

pub use effect::Size;
pub use ratio::sample_ratio;
pub use student::{AnytimeDifference, anytime_difference};

use super::Interval;
use capital::Capital;
use mixture::Mixture;

/// How a sequence bets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bet {
    /// A gamma–exponential mixture over all stakes: closed form, adapts to the variance, the better one on long logs.
    #[default]
    Mixture,
    /// Eleven stakes side by side against a grid of 1,000 values: tighter, above all on few rows; the ends are those of
    /// the grid, and a row takes some microseconds, which with the mixture is nanoseconds.
    Capital,
}

/// The bet of one end.
#[derive(Clone, Debug)]
enum Bettor {
    Mixture(Mixture),
    Capital(Box<Capital>),
}

/// One end: a lower bound for the mean of a variable that is not negative, the mean in [0, 1].
#[derive(Clone, Debug)]
struct End {
    bettor: Bettor,
    /// The largest value struck out so far.
    bound: f64,
    log_threshold: f64,
}

impl End {
    /// The mean is at least `lowest`.
    fn new(bet: Bet, level: f64, lowest: f64) -> Self {
        let log_threshold = -libm::log((1.0 - level) / 2.0);
        End {
            bettor: match bet {
                Bet::Mixture => Bettor::Mixture(Mixture::default()),
                Bet::Capital => Bettor::Capital(Box::new(Capital::new(log_threshold, lowest))),
            },
            bound: lowest,
            log_threshold,
        }
    }

    fn push(&mut self, x: f64) {
        match &mut self.bettor {
            Bettor::Mixture(m) => m.push(x),
            Bettor::Capital(c) => c.push(x),
        }
    }

    fn bound(&mut self) -> f64 {
        let now = match &self.bettor {
            Bettor::Mixture(m) => m.bound(self.log_threshold),
            Bettor::Capital(c) => c.bound(),
        };
        self.bound = self.bound.max(now);
        self.bound
    }

    /// True when `m` is struck out, now or at an earlier look.
    fn excludes(&self, m: f64) -> bool {
        m < self.bound
            || match &self.bettor {
                Bettor::Mixture(b) => b.excludes(m, self.log_threshold),
                Bettor::Capital(c) => m < c.bound(),
            }
    }
}

/// Both ends: the lower stands for `zero.low + width·m`, the upper for `zero.high − width·m`.
#[derive(Clone, Debug)]
struct Ends {
    lower: End,
    upper: End,
    zero: Interval,
    width: f64,
    rows: u64,
}

impl Ends {
    fn new(bet: Bet, level: f64, zero: Interval, width: f64, lowest: f64) -> Self {
        assert!(level > 0.0 && level < 1.0, "level: expected in (0, 1), got {level}");
        assert!(zero.is_range(), "expected a range, got {zero:?}");
        Ends {
            lower: End::new(bet, level, lowest),
            upper: End::new(bet, level, lowest),
            zero,
            width,
            rows: 0,
        }
    }

    /// False, and nothing done, where a number is negative or not finite.
    fn push(&mut self, low: f64, high: f64) -> bool {
        let sound = [low, high].iter().all(|x| *x >= 0.0 && x.is_finite());
        if sound {
            self.rows += 1;
            self.lower.push(low);
            self.upper.push(high);
        }
        sound
    }

    fn interval(&mut self) -> Interval {
        let (low, high) = (self.lower.bound(), self.upper.bound());
        Interval::new(self.zero.low + self.width * low, self.zero.high - self.width * high)
    }

    fn excludes(&self, x: f64) -> bool {
        self.lower.excludes((x - self.zero.low) / self.width) || self.upper.excludes((self.zero.high - x) / self.width)
    }
}

/// What all three sequences have in common.
macro_rules! looks {
    ($name:ident) => {
        impl $name {
            /// The interval of this and all earlier looks: it never widens. Should the sequence ever miss, which it does
            /// with probability below 1 − level, it may end up empty (`low > high`).
            pub fn interval(&mut self) -> Interval {
                self.ends.interval()
            }

            /// True when `value` is ruled out, by this or an earlier look. Cheaper than the interval: no search.
            pub fn excludes(&self, value: f64) -> bool {
                self.ends.excludes(value)
            }

            /// Rows so far.
            pub fn rows(&self) -> u64 {
                self.ends.rows
            }
        }
    };
}

/// The value of a policy from rows that another policy chose.
///
/// ```
/// use oo_judge::stats::{Bet, Interval, ValueSequence};
/// let mut value = ValueSequence::new(Bet::Mixture, Interval::new(0.0, 1.0), 0.95);
/// for _ in 0..1000 {
///     // The target chooses what was logged with 0.6 where the logging policy did with 0.5.
///     assert!(value.push(1.2, 0.0));
///     assert!(value.push(0.8, 1.0));
/// }
/// let i = value.interval();
/// assert!(0.3 < i.low && i.low < 0.4 && 0.4 < i.high && i.high < 0.5);
/// ```
#[derive(Clone, Debug)]
pub struct ValueSequence {
    ends: Ends,
    range: Interval,
}

looks!(ValueSequence);

impl ValueSequence {
    /// Rewards lie in `range`; the sequence holds at `level`.
    ///
    /// # Panics
    /// When `level` is not in (0, 1) or the range is none.
    pub fn new(bet: Bet, range: Interval, level: f64) -> Self {
        ValueSequence {
            ends: Ends::new(bet, level, range, range.width(), 0.0),
            range,
        }
    }

    /// As VW's estimators have it: with the mean itself as forecast, also where it is above 1. Then the sequence is not
    /// sure to hold, so this serves comparison only.
    pub fn with_loose_forecasts(range: Interval, level: f64) -> Self {
        let mut sequence = Self::new(Bet::Mixture, range, level);
        for end in [&mut sequence.ends.lower, &mut sequence.ends.upper] {
            end.bettor = Bettor::Mixture(Mixture::loose());
        }
        sequence
    }

    /// Adds a row: the weight of its action and the reward that came. False, and nothing done, for a weight that is
    /// negative or not finite, or a reward out of range.
    pub fn push(&mut self, weight: f64, reward: f64) -> bool {
        let r = (reward - self.range.low) / self.range.width();
        self.range.contains(reward) && self.ends.push(weight * r, weight * (1.0 - r))
    }
}

/// The difference of the values of two policies, from rows that a third policy chose.
#[derive(Clone, Debug)]
pub struct DifferenceSequence {
    ends: Ends,
    range: Interval,
    max_weight: Option<f64>,
}

looks!(DifferenceSequence);

impl DifferenceSequence {
    /// Rewards lie in `range`. A `max_weight` that no weight of either policy can exceed is of use where the two policies
    /// are much alike: then what they share cancels.
    ///
    /// # Panics
    /// When `level` is not in (0, 1), the range is none, or `max_weight` is not a number of 1 or more.
    pub fn new(bet: Bet, range: Interval, level: f64, max_weight: Option<f64>) -> Self {
        assert!(
            max_weight.is_none_or(|w| w >= 1.0 && w.is_finite()),
            "max_weight: expected at least 1, got {max_weight:?}"
        );
        // A difference d of values in [0, 1] has the means (1 ± d)/2, or (W ± d)/(1 + W), which are not below
        // (W − 1)/(W + 1).
        let unit = range.width();
        let w = max_weight.unwrap_or(1.0);
        let zero = Interval::new(-w * unit, w * unit);
        let ends = Ends::new(bet, level, zero, (1.0 + w) * unit, (w - 1.0) / (w + 1.0));
        DifferenceSequence {
            ends,
            range,
            max_weight,
        }
    }

    /// Adds a row: the weights of its action under `a` and `b` and the reward that came. False, and nothing done, for a
    /// weight that is negative, not finite or above the maximum, or a reward out of range.
    pub fn push(&mut self, weight_a: f64, weight_b: f64, reward: f64) -> bool {
        let r = (reward - self.range.low) / self.range.width();
        let sound = self.range.contains(reward) && [weight_a, weight_b].iter().all(|w| *w >= 0.0 && w.is_finite());
        match self.max_weight {
            _ if !sound => false,
            None => {
                let of = |a: f64, b: f64| 0.5 * (a * r + b * (1.0 - r));
                self.ends.push(of(weight_a, weight_b), of(weight_b, weight_a))
            }
            Some(w) => {
                let d = (weight_a - weight_b) * r;
                weight_a <= w && weight_b <= w && self.ends.push((w + d) / (1.0 + w), (w - d) / (1.0 + w))
            }
        }
    }
}

/// The mean of numbers with a known range, such as differences between paired runs.
#[derive(Clone, Debug)]
pub struct MeanSequence {
    ends: Ends,
    range: Interval,
}

looks!(MeanSequence);

impl MeanSequence {
    /// Numbers lie in `range`.
    ///
    /// # Panics
    /// When `level` is not in (0, 1) or the range is none.
    pub fn new(bet: Bet, range: Interval, level: f64) -> Self {
        MeanSequence {
            ends: Ends::new(bet, level, range, range.width(), 0.0),
            range,
        }
    }

    /// Adds a number. False, and nothing done, where it is out of range.
    pub fn push(&mut self, x: f64) -> bool {
        let x01 = (x - self.range.low) / self.range.width();
        self.range.contains(x) && self.ends.push(x01, 1.0 - x01)
    }
}

#[cfg(test)]
mod tests;
