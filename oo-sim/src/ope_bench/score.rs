//! What estimates of many logs were worth: bias, error, and how often intervals held.

use oo_core::normal;
use oo_judge::estimators::{Entry, Logged, Terms, Weighted, doubly_robust};
use oo_judge::stats::sequences::{Bet, ValueSequence};
use oo_judge::stats::{Interval, Quantile, Rows, delta, intervals};
use serde::{Deserialize, Serialize};

/// The level of all intervals.
pub const LEVEL: f64 = 0.95;

/// One estimator (or another interval) on the logs of one cell.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The estimator, or the interval.
    pub name: String,
    /// Mean estimate less truth; `None` where there is no estimate.
    pub bias: Option<f64>,
    /// Standard error of the bias, over logs.
    pub bias_error: Option<f64>,
    /// Root of the mean squared error.
    pub rmse: Option<f64>,
    /// Mean of |estimate − truth| / |truth|.
    pub relative_error: Option<f64>,
    /// Share of the logs whose interval held the truth.
    pub coverage: Option<f64>,
    /// The share's own 95 % interval (Wilson), from the number of logs.
    pub coverage_range: Option<(f64, f64)>,
    /// Median width of the intervals.
    pub width: Option<f64>,
    /// Logs without an estimate, such as those of which the target would have chosen no row.
    pub undefined: u64,
}

/// What one log gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guess {
    /// The estimate.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
}

/// The intervals that need weights and rewards in [0, 1] only, after the estimators.
pub const OTHER: &[&str] = &["cressie-read", "sequence"];

/// Whether the estimator wants the model fitted with MRDR's weights.
pub fn wants_mrdr(entry: &Entry) -> bool {
    entry.name == doubly_robust::MORE_ROBUST.name
}

/// The estimates of `names` on a log whose predictions are filled in.
pub fn guesses(log: &Logged, entries: &[&Entry]) -> oo_judge::Result<Vec<Guess>> {
    let (mut weighted, mut terms) = (Weighted::default(), Terms::default());
    log.weigh(&mut weighted);
    let (cluster, quantile) = match log.cluster.is_empty() {
        true => (None, Quantile::Normal),
        false => (Some(log.cluster.as_slice()), Quantile::Student),
    };
    let mut all = Vec::new();
    for entry in entries {
        entry.build(None)?.terms(&weighted, &mut terms);
        let rows = Rows {
            base: &terms.base,
            num: &terms.num,
            den: &terms.den,
        };
        let e = delta(rows, cluster, LEVEL, quantile);
        all.push(Guess {
            value: e.value.is_finite().then_some(e.value),
            interval: e.low.zip(e.high).map(|(low, high)| Interval::new(low, high)),
        });
    }
    Ok(all)
}

/// What [`OTHER`] says of a log; nothing where rewards leave [0, 1].
pub fn others(log: &Logged) -> [Guess; 2] {
    let unit = Interval::new(0.0, 1.0);
    let mut weighted = Weighted::default();
    log.weigh(&mut weighted);
    let (w, r) = (&weighted.weight, &weighted.reward);
    let weights = Interval::new(0.0, f64::INFINITY);
    let mut sequence = ValueSequence::new(Bet::Mixture, unit, LEVEL);
    let whole = w.iter().zip(r).all(|(&w, &r)| sequence.push(w, r));
    [
        Guess {
            value: intervals::cressie_read_estimate(w, r, weights).filter(|_| whole),
            interval: intervals::cressie_read(w, r, weights, unit, LEVEL),
        },
        Guess {
            value: None,
            interval: whole.then(|| sequence.interval()),
        },
    ]
}

/// The line of a name, from one guess and one truth a log.
pub fn line(name: &str, guesses: &[Guess], truth: &[f64]) -> Line {
    let pairs = || guesses.iter().zip(truth);
    let errors: Vec<f64> = pairs().filter_map(|(g, t)| g.value.map(|v| v - t)).collect();
    let relative: Vec<f64> = pairs()
        .filter(|(_, t)| **t != 0.0)
        .filter_map(|(g, t)| g.value.map(|v| ((v - t) / t).abs()))
        .collect();
    let held: Vec<f64> = pairs()
        .filter_map(|(g, t)| g.interval.map(|i| f64::from(u8::from(i.contains(*t)))))
        .collect();
    let mut widths: Vec<f64> = guesses.iter().filter_map(|g| g.interval.map(|i| i.width())).collect();
    widths.sort_unstable_by(f64::total_cmp);
    let bias = mean(&errors);
    let squares: Vec<f64> = errors.iter().map(|e| e * e).collect();
    let spread = bias
        .zip(mean(&squares))
        .map(|(bias, square)| (square - bias * bias).max(0.0));
    Line {
        name: name.into(),
        bias,
        bias_error: spread.map(|variance| libm::sqrt(variance / errors.len() as f64)),
        rmse: mean(&squares).map(libm::sqrt),
        relative_error: mean(&relative),
        coverage: mean(&held),
        coverage_range: mean(&held).map(|share| wilson(share, held.len() as f64)),
        width: widths.get(widths.len() / 2).copied(),
        undefined: (guesses.len() - errors.len()) as u64,
    }
}

fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| x.iter().sum::<f64>() / x.len() as f64)
}

/// Wilson's interval for a share of `n`.
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z = normal::quantile(0.5 + LEVEL / 2.0);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * libm::sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n));
    (centre - half, centre + half)
}
