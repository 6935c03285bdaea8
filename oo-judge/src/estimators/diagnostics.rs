//! Is this log fit to be believed? Weights and their tail, support, and tests of the propensities.
//!
//! If p is the probability with which a row's action was really drawn, then for any g of context and action
//! mean(g(a)/p) estimates Σₐ g(a) over the actions that the logger can choose. Wrong propensities break such identities:
//!
//! | check | g | should be |
//! |---|---|---|
//! | mean weight | π(a) | 1 |
//! | weight of action j | π(a)·1[a = j] | the target's mean probability of j |
//! | model under the weights | π(a)·q̂(a) | the model's value v |
//! | inverse propensity, of action j and in all | 1[a = j], 1 | at most 1 and the number of candidates |
//! | small propensities | – | rows with p ≤ t are at most t · candidates |
//! | the logger's own frequencies and calibration | – | Σ1[a = j] = Σb(j), and so among candidates of similar b |
//!
//! The third row from below is one-sided: a logger without support for some action falls short without lying. The last
//! needs the whole behaviour pmf b and is by far the sharpest. All p values together are adjusted by Holm's method.
//!
//! Everything is a sum over rows: blocks are added one after another, and parts of a log merge.

use super::histogram::Histogram;
use super::moments::{Moments, above, two_sided};
use super::{Logged, Sizes, Weighted};
use crate::stats::holm;
use serde::Serialize;
use statrs::distribution::{DiscreteCDF, Poisson};
use std::ops::Range;

/// Actions beyond which nothing is kept by action.
const MOST_ACTIONS: usize = 4096;

/// Octaves of behaviour probability in which calibration is checked: [½, 1], [¼, ½) … and all that is smaller.
const OCTAVES: usize = 20;

/// Rows of an action below which its inverse propensities are not tested: a mean of a few large numbers is no normal.
const FEW: f64 = 20.0;

/// What is kept of one action.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Action {
    rows: f64,
    /// Σ over all rows of the target's probability, its square, its cube.
    target: [f64; 3],
    /// Of w·1[a = j] − π(j): what the rows with this action add to the powers of −π(j).
    gap: [f64; 3],
    /// Σ over rows with this action of 1/p, its square, its cube.
    inverse: [f64; 3],
}

/// Draws against probabilities: how often, how often expected, and the variance of that.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Frequency {
    seen: f64,
    expected: f64,
    variance: f64,
}

impl Frequency {
    fn add(&mut self, drawn: bool, p: f64) {
        self.seen += f64::from(u8::from(drawn));
        self.expected += p;
        self.variance += p * (1.0 - p);
    }

    fn merge(&mut self, other: &Frequency) {
        self.seen += other.seen;
        self.expected += other.expected;
        self.variance += other.variance;
    }

    /// NaN where less than a handful is expected: the count is no normal there.
    fn z(&self) -> f64 {
        if self.variance < 5.0 {
            return f64::NAN;
        }
        (self.seen - self.expected) / self.variance.sqrt()
    }
}

/// What is kept of the logger where its whole pmf is known.
#[derive(Clone, PartialEq, Debug, Default)]
struct Behaviour {
    rows: f64,
    /// Target mass on candidates that the logger never chooses.
    off_support: f64,
    /// Rows whose propensity is not the pmf's probability of the logged action.
    disagree: f64,
    actions: Vec<Frequency>,
    octaves: [Frequency; OCTAVES],
}

/// The running sums. Add blocks, merge parts, then ask for the [`Report`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Diagnostics {
    limit: f64,
    rows: f64,
    candidates: f64,
    weight_sum: f64,
    weight_squares: f64,
    max_weight: f64,
    clipped: f64,
    /// w − 1.
    weights: Moments,
    /// w·q̂(a) − v.
    model: Moments,
    /// 1/p − number of candidates.
    inverse: Moments,
    histogram: Histogram,
    actions: Vec<Action>,
    /// Rows by octave of the propensity.
    small: [f64; OCTAVES],
    smallest: f64,
    at_smallest: f64,
    behaviour: Option<Behaviour>,
}

impl Diagnostics {
    /// Nothing seen yet; `limit` is the weight from which a row counts as clipped (infinity: none does).
    pub fn new(limit: f64) -> Diagnostics {
        Diagnostics {
            limit,
            smallest: f64::INFINITY,
            ..Diagnostics::default()
        }
    }

    /// Adds the rows `rows` of a checked log, whose weights are `rounds`. `behaviour` is the logger's probability of
    /// every candidate, row-major as the log's target, where it is known.
    pub fn add(&mut self, log: &Logged, rows: Range<usize>, rounds: &Weighted, behaviour: Option<&[f64]>) {
        if let Sizes::Fixed(k) = log.candidates
            && k <= MOST_ACTIONS
            && self.actions.len() < k
        {
            self.actions.resize(k, Action::default());
        }
        for (i, row) in rows.enumerate() {
            let of = log.candidates.of(row);
            let chosen = log.action[row] as usize;
            let (w, p) = (rounds.weight[i], rounds.propensity[i]);
            self.rows += 1.0;
            self.candidates += of.len() as f64;
            self.weight_sum += w;
            self.weight_squares += w * w;
            self.max_weight = self.max_weight.max(w);
            self.clipped += f64::from(u8::from(w > self.limit));
            self.weights.add(w - 1.0);
            self.histogram.add(w);
            self.inverse.add(1.0 / p - of.len() as f64);
            if !log.model.is_empty() {
                self.model.add(w * rounds.logged_q[i] - rounds.value[i]);
            }
            self.small[octave(p)] += 1.0;
            if p < self.smallest {
                (self.smallest, self.at_smallest) = (p, 0.0);
            }
            self.at_smallest += f64::from(u8::from(p == self.smallest));
            let target = &log.target[of.clone()];
            if !self.actions.is_empty() {
                self.add_actions(target, chosen, w, p);
            }
            if let Some(behaviour) = behaviour {
                let behaviour = &behaviour[of];
                let own = self.behaviour.get_or_insert_default();
                own.add(target, behaviour, chosen, p, !self.actions.is_empty());
            }
        }
    }

    fn add_actions(&mut self, target: &[f64], chosen: usize, w: f64, p: f64) {
        for (action, &t) in self.actions.iter_mut().zip(target) {
            action.target[0] += t;
            action.target[1] += t * t;
            action.target[2] += t * t * t;
        }
        let (action, t) = (&mut self.actions[chosen], target[chosen]);
        action.rows += 1.0;
        let gap = w - t;
        // The powers of w − π replace those of −π.
        action.gap[0] += gap + t;
        action.gap[1] += gap * gap - t * t;
        action.gap[2] += gap * gap * gap + t * t * t;
        let inverse = 1.0 / p;
        action.inverse[0] += inverse;
        action.inverse[1] += inverse * inverse;
        action.inverse[2] += inverse * inverse * inverse;
    }

    /// Adds what another part of the log has shown.
    pub fn merge(&mut self, other: &Diagnostics) {
        self.rows += other.rows;
        self.candidates += other.candidates;
        self.weight_sum += other.weight_sum;
        self.weight_squares += other.weight_squares;
        self.max_weight = self.max_weight.max(other.max_weight);
        self.clipped += other.clipped;
        self.weights.merge(&other.weights);
        self.model.merge(&other.model);
        self.inverse.merge(&other.inverse);
        self.histogram.merge(&other.histogram);
        if self.actions.len() < other.actions.len() {
            self.actions.resize(other.actions.len(), Action::default());
        }
        for (own, other) in self.actions.iter_mut().zip(&other.actions) {
            own.rows += other.rows;
            for power in 0..3 {
                own.target[power] += other.target[power];
                own.gap[power] += other.gap[power];
                own.inverse[power] += other.inverse[power];
            }
        }
        for (own, other) in self.small.iter_mut().zip(other.small) {
            *own += other;
        }
        if other.smallest < self.smallest {
            (self.smallest, self.at_smallest) = (other.smallest, other.at_smallest);
        } else if other.smallest == self.smallest {
            self.at_smallest += other.at_smallest;
        }
        if let Some(other) = &other.behaviour {
            self.behaviour.get_or_insert_default().merge(other);
        }
    }

    /// What the rows have shown. Numbers are NaN where there were no rows.
    pub fn report(&self) -> Report {
        let quantile = |q| (q, self.histogram.quantile(q));
        let positive = self.rows - self.histogram.zeros() as f64;
        // As many of the largest weights as the usual rule for Pareto tails takes (Vehtari et al. 2024).
        let top = (3.0 * positive.sqrt()).min(positive / 5.0);
        let never = self.actions.iter().filter(|a| a.rows == 0.0).map(|a| a.target[0]);
        Report {
            rows: self.rows as u64,
            effective_rows: self.weight_sum * self.weight_sum / self.weight_squares,
            mean_weight: self.weight_sum / self.rows,
            sd_weight: self.weights.sd(),
            max_weight: self.max_weight,
            zero_share: self.histogram.zeros() as f64 / self.rows,
            clipped_share: self.clipped / self.rows,
            quantiles: [0.5, 0.9, 0.99, 0.999, 0.9999].map(quantile),
            tail_index: if top >= 5.0 {
                self.histogram.tail_index(top as u64)
            } else {
                None
            },
            candidates: self.candidates / self.rows,
            reachable: self.inverse.mean() + self.candidates / self.rows,
            never_logged: (!self.actions.is_empty()).then(|| never.sum::<f64>() / self.rows),
            off_support: self.behaviour.as_ref().map(|b| b.off_support / b.rows),
            disagreeing: self.behaviour.as_ref().map(|b| b.disagree / b.rows),
            floor: self.floor(),
            checks: self.checks(),
        }
    }

    fn floor(&self) -> Floor {
        let expected = self.smallest * self.candidates;
        Floor {
            propensity: self.smallest,
            rows: self.at_smallest as u64,
            at_most: expected,
            p: too_many(self.at_smallest, expected),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = vec![];
        let mut push = |what: String, expected: f64, got: f64, p: f64| {
            checks.push(Check {
                what,
                expected,
                got,
                p,
                adjusted: p,
            });
        };
        push(
            "mean weight".into(),
            1.0,
            1.0 + self.weights.mean(),
            two_sided(self.weights.z()),
        );
        if self.model.count > 0.0 {
            push(
                "model's error under the weights".into(),
                0.0,
                self.model.mean(),
                two_sided(self.model.z()),
            );
        }
        let reachable = self.candidates / self.rows;
        push(
            "mean inverse propensity".into(),
            reachable,
            self.inverse.mean() + reachable,
            above(self.inverse.z()),
        );
        for (j, action) in self.actions.iter().enumerate() {
            let [t1, t2, t3] = action.target;
            let gap = Moments {
                count: self.rows,
                powers: [action.gap[0] - t1, action.gap[1] + t2, action.gap[2] - t3],
            };
            let (expected, got) = (t1 / self.rows, action.gap[0] / self.rows);
            if t1 > 0.0 && action.rows >= FEW {
                push(format!("weight of action {j}"), expected, got, two_sided(gap.z()));
            }
            let [i1, i2, i3] = action.inverse;
            let inverse = Moments {
                count: self.rows,
                powers: [
                    i1 - self.rows,
                    i2 - 2.0 * i1 + self.rows,
                    i3 - 3.0 * i2 + 3.0 * i1 - self.rows,
                ],
            };
            if action.rows >= FEW {
                push(
                    format!("inverse propensity of action {j}"),
                    1.0,
                    i1 / self.rows,
                    above(inverse.z()),
                );
            }
        }
        let mut rows = 0.0;
        for octave in (1..OCTAVES).rev() {
            rows += self.small[octave];
            let threshold = (-(octave as f64)).exp2();
            let expected = threshold * self.candidates;
            // Where nearly all rows may be as small as that, the bound says nothing.
            if rows > 0.0 && expected < 0.9 * self.rows {
                push(
                    format!("rows with p < 2^-{octave}"),
                    expected,
                    rows,
                    too_many(rows, expected),
                );
            }
        }
        let floor = self.floor();
        push(
            "rows at the smallest p".into(),
            floor.at_most,
            floor.rows as f64,
            floor.p,
        );
        if let Some(behaviour) = &self.behaviour {
            let named = behaviour
                .actions
                .iter()
                .enumerate()
                .map(|(j, f)| (format!("frequency of action {j}"), f));
            let octaves = behaviour.octaves.iter().enumerate();
            let octaves = octaves.map(|(i, f)| (format!("draws of probabilities from 2^-{}", i + 1), f));
            for (what, frequency) in named.chain(octaves) {
                if !frequency.z().is_nan() {
                    push(what, frequency.expected, frequency.seen, two_sided(frequency.z()));
                }
            }
        }
        let p: Vec<f64> = checks.iter().map(|check| check.p).collect();
        for (check, adjusted) in checks.iter_mut().zip(holm(&p)) {
            check.adjusted = adjusted;
        }
        checks
    }
}

impl Behaviour {
    fn add(&mut self, target: &[f64], behaviour: &[f64], chosen: usize, p: f64, by_action: bool) {
        self.rows += 1.0;
        self.disagree += f64::from(u8::from((behaviour[chosen] - p).abs() > 1e-6 * p));
        if by_action && self.actions.len() < behaviour.len() {
            self.actions.resize(behaviour.len(), Frequency::default());
        }
        for (j, (&b, &t)) in behaviour.iter().zip(target).enumerate() {
            if b > 0.0 {
                self.octaves[octave(b)].add(j == chosen, b);
            } else {
                self.off_support += t;
            }
            if by_action {
                self.actions[j].add(j == chosen, b);
            }
        }
    }

    fn merge(&mut self, other: &Behaviour) {
        self.rows += other.rows;
        self.off_support += other.off_support;
        self.disagree += other.disagree;
        if self.actions.len() < other.actions.len() {
            self.actions.resize(other.actions.len(), Frequency::default());
        }
        for (own, other) in self.actions.iter_mut().zip(&other.actions) {
            own.merge(other);
        }
        for (own, other) in self.octaves.iter_mut().zip(&other.octaves) {
            own.merge(other);
        }
    }
}

/// i for p in [2^−(i+1), 2^−i), with 1 in the first and all small ones in the last.
fn octave(p: f64) -> usize {
    ((-p.log2()).ceil() as usize).clamp(1, OCTAVES) - 1
}

/// Chance of at least `rows` when at most `expected` are: the Poisson law bounds a sum of independent rare events.
fn too_many(rows: f64, expected: f64) -> f64 {
    if rows <= expected + 1.0 {
        return 1.0;
    }
    Poisson::new(expected).map_or(1.0, |law| law.sf(rows as u64 - 1))
}

/// The smallest propensity, and whether so many rows can have it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Floor {
    /// The smallest propensity of the log.
    pub propensity: f64,
    /// How many rows have exactly it.
    pub rows: u64,
    /// How many would be expected if all candidates of all rows had it.
    pub at_most: f64,
    /// Chance of so many rows if it were a probability. A small one: it is a floor that stands for something else.
    pub p: f64,
}

/// One identity that right propensities keep.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// What right propensities give (or at most give).
    pub expected: f64,
    /// What the log gives.
    pub got: f64,
    /// Chance of something at least as far off.
    pub p: f64,
    /// The same among all checks (Holm).
    pub adjusted: f64,
}

/// What a log shows about itself.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// n.
    pub rows: u64,
    /// Kish's effective sample size, (Σw)²/Σw²: rows from the target itself that would say as much.
    pub effective_rows: f64,
    /// Should be 1.
    pub mean_weight: f64,
    /// Standard deviation of the weights.
    pub sd_weight: f64,
    /// The largest weight.
    pub max_weight: f64,
    /// Share of rows of weight 0.
    pub zero_share: f64,
    /// Share of rows above the limit.
    pub clipped_share: f64,
    /// (q, weight), within 1.6 %.
    pub quantiles: [(f64, f64); 5],
    /// Hill's index of the largest weights: above ½ the variance of the weights is in doubt, above 0.7 do not trust
    /// standard errors. `None` with too few rows.
    pub tail_index: Option<f64>,
    /// Mean number of candidates.
    pub candidates: f64,
    /// Mean of 1/p: with right propensities, the mean number of candidates that the logger can choose.
    pub reachable: f64,
    /// Share of the target's mass on actions that were never logged; `None` with candidate sets of different sizes.
    pub never_logged: Option<f64>,
    /// Share of the target's mass where the logger has probability 0; `None` where its pmf is not known.
    pub off_support: Option<f64>,
    /// Share of rows whose propensity is not the pmf's; `None` likewise.
    pub disagreeing: Option<f64>,
    /// The smallest propensity.
    pub floor: Floor,
    /// The tests of the propensities.
    pub checks: Vec<Check>,
}

/// The share of right logs that may be called wrong.
pub const LEVEL: f64 = 0.01;

impl Report {
    /// The checks that right propensities fail with probability [`LEVEL`] or less, all checks taken together, the worst
    /// first. Empty: nothing speaks against the propensities.
    pub fn alarms(&self) -> Vec<&Check> {
        let mut alarms: Vec<&Check> = self.checks.iter().filter(|check| check.adjusted < LEVEL).collect();
        alarms.sort_by(|a, b| a.p.total_cmp(&b.p));
        alarms
    }
}
