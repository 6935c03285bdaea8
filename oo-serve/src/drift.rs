//! Does production look like training? Features, predictions and rewards against what training saw, or against the
//! first 1,000 of this process where training left no summary.
//!
//! - The population stability index of a histogram against its reference: Σ (p − q)·ln(p/q) over its bins, each share
//!   raised to at least 10⁻⁴. Below 0.1 nothing happened; above 0.25 somebody should look.
//! - A two-sided cumulative sum of standardised values with allowance ½: S⁺ = max(0, S⁺ + z − ½), S⁻ likewise for −z. A
//!   lasting shift of one standard deviation passes 5 after about ten values; without a shift that takes about 930.
//!
//! Siddiqi (2006), Credit Risk Scorecards, for the index; Page (1954), Biometrika 41, and Montgomery (2009), §9.1, for
//! the sums and their run lengths.

use crate::metrics::Text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One decision in so many is looked at: a shift shows as soon, and the others cost nothing.
pub const EVERY: u64 = 16;
/// What stands for training where no summary is given.
const FIRST: usize = 1000;
const BINS: usize = 10;

/// A histogram: `edges` ascending, and one share more than edges.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shares {
    /// Upper ends of all bins but the last; a value on an edge is below it.
    pub edges: Vec<f64>,
    /// Shares, summing to 1.
    pub shares: Vec<f64>,
    /// Mean and standard deviation, for the cumulative sums.
    #[serde(default)]
    pub mean: f64,
    /// See `mean`.
    #[serde(default)]
    pub sd: f64,
}

impl Shares {
    /// Deciles of a sample, fewer where values repeat.
    pub fn of(sample: &mut [f64]) -> Shares {
        sample.sort_by(f64::total_cmp);
        let n = sample.len().max(1) as f64;
        let mut edges: Vec<f64> = (1..BINS)
            .filter_map(|i| sample.get(i * sample.len() / BINS).copied())
            .collect();
        edges.dedup();
        let mean = sample.iter().sum::<f64>() / n;
        let sd = (sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let mut shares = vec![0.0; edges.len() + 1];
        sample.iter().for_each(|x| shares[bin(&edges, *x)] += 1.0);
        shares.iter_mut().for_each(|share| *share /= n);
        Shares {
            edges,
            shares,
            mean,
            sd,
        }
    }

    fn is_sound(&self) -> bool {
        self.shares.len() == self.edges.len() + 1 && self.edges.iter().all(|e| e.is_finite()) && self.edges.is_sorted()
    }
}

fn bin(edges: &[f64], x: f64) -> usize {
    edges.partition_point(|e| *e < x)
}

/// What a training run looked like.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// By the feature's name.
    #[serde(default)]
    pub features: BTreeMap<String, Shares>,
    /// The score of the chosen candidate.
    #[serde(default)]
    pub prediction: Option<Shares>,
    /// Rewards.
    #[serde(default)]
    pub reward: Option<Shares>,
}

/// One quantity under watch.
#[derive(Debug, Default)]
struct Watch {
    reference: Option<Shares>,
    /// Until there is a reference.
    first: Vec<f64>,
    counts: Vec<u64>,
    high: f64,
    low: f64,
}

impl Watch {
    fn new(reference: Option<Shares>) -> Watch {
        Watch {
            reference: reference.filter(Shares::is_sound),
            ..Watch::default()
        }
    }

    fn see(&mut self, x: f64) {
        let Some(reference) = &self.reference else {
            self.first.push(x);
            if self.first.len() >= FIRST {
                self.reference = Some(Shares::of(&mut std::mem::take(&mut self.first)));
            }
            return;
        };
        self.counts.resize(reference.shares.len(), 0);
        self.counts[bin(&reference.edges, x)] += 1;
        if reference.sd > 0.0 {
            let z = (x - reference.mean) / reference.sd;
            self.high = (self.high + z - 0.5).max(0.0);
            self.low = (self.low - z - 0.5).max(0.0);
        }
    }

    /// `None` before 100 values: an index of a few is noise.
    fn index(&self) -> Option<f64> {
        let reference = self.reference.as_ref()?;
        let n: u64 = self.counts.iter().sum();
        (n >= 100).then(|| {
            let pairs = self.counts.iter().zip(&reference.shares);
            pairs
                .map(|(c, q)| {
                    let (p, q) = ((*c as f64 / n as f64).max(1e-4), q.max(1e-4));
                    (p - q) * libm::log(p / q)
                })
                .sum()
        })
    }
}

/// Everything under watch.
#[derive(Debug)]
pub struct Drift(Mutex<Watches>);

#[derive(Debug)]
struct Watches {
    features: Vec<(String, Watch)>,
    prediction: Watch,
    reward: Watch,
}

impl Drift {
    /// For rounds with these features, against a summary.
    pub fn new<'a>(names: impl Iterator<Item = &'a String>, summary: Option<Summary>) -> Drift {
        let mut summary = summary.unwrap_or_default();
        Drift(Mutex::new(Watches {
            features: names
                .map(|n| (n.clone(), Watch::new(summary.features.remove(n))))
                .collect(),
            prediction: Watch::new(summary.prediction),
            reward: Watch::new(summary.reward),
        }))
    }

    /// One decision: its features, context first, and the chosen one's score. Skipped while another thread is here: a
    /// sample needs no particular member.
    pub fn decision(&self, features: impl Iterator<Item = f32>, score: f64) {
        if let Ok(mut watches) = self.0.try_lock() {
            watches
                .features
                .iter_mut()
                .zip(features)
                .for_each(|((_, w), x)| w.see(f64::from(x)));
            watches.prediction.see(score);
        }
    }

    /// One reward.
    pub fn reward(&self, reward: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reward.see(reward);
    }

    /// Appends the metrics.
    pub fn write(&self, out: &mut Text) {
        let watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.family(
            "oo_drift_psi",
            "gauge",
            "Population stability index against training; above 0.25 is a shift.",
        );
        let own = [("prediction", "", &watches.prediction), ("reward", "", &watches.reward)];
        let features = watches.features.iter().map(|(n, w)| ("feature", n.as_str(), w));
        let all: Vec<_> = own.into_iter().chain(features).collect();
        for &(kind, name, watch) in &all {
            if let Some(index) = watch.index() {
                out.sample("oo_drift_psi", &[("of", kind), ("name", name)], index);
            }
        }
        out.family(
            "oo_drift_cusum",
            "gauge",
            "Cumulative sums in standard deviations of training; above 5 is a shift.",
        );
        for &(kind, name, watch) in &all {
            for (side, sum) in [("high", watch.high), ("low", watch.low)] {
                out.sample("oo_drift_cusum", &[("of", kind), ("name", name), ("side", side)], sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn lines(drift: &Drift, start: &str) -> Vec<f64> {
        let mut text = Text::default();
        drift.write(&mut text);
        let text = text.finish();
        let hits = text.lines().filter(|l| l.starts_with(start));
        hits.map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn a_shift_shows_and_sameness_does_not() {
        let names = ["x".to_string()];
        let mut draws = Key::root(1).draws();
        let training = Shares::of(&mut (0..5000).map(|_| draws.normal()).collect::<Vec<f64>>());
        let summary = Summary {
            features: BTreeMap::from([("x".to_string(), training.clone())]),
            prediction: None,
            reward: Some(training),
        };
        let drift = Drift::new(names.iter(), Some(summary));
        for _ in 0..2000 {
            drift.decision(std::iter::once(draws.normal() as f32), draws.normal());
            drift.reward(draws.normal());
        }
        // An index of n values against m has mean about (bins − 1)·(1/n + 1/m) = 0.006 and sd 0.003: 0.03 is 8 sd.
        assert!(lines(&drift, "oo_drift_psi{of=\"feature\"")[0] < 0.03);
        // 1,000 first ones became the reference of the prediction.
        assert!(lines(&drift, "oo_drift_psi{of=\"prediction\"")[0] < 0.1);
        let before = lines(&drift, "oo_drift_cusum{of=\"reward\",name=\"\",side=\"high\"")[0];
        for _ in 0..2000 {
            drift.decision(std::iter::once(draws.normal() as f32 + 1.5), draws.normal());
        }
        (0..60).for_each(|_| drift.reward(draws.normal() + 1.0));
        assert!(lines(&drift, "oo_drift_psi{of=\"feature\"")[0] > 0.25);
        // 60 steps of mean ½ and sd 1: 30 ± 7.7; below 5 at 3.2 sd, for this one seed.
        assert!(lines(&drift, "oo_drift_cusum{of=\"reward\",name=\"\",side=\"high\"")[0] > before + 5.0);
    }

    #[test]
    fn a_constant_is_no_shift() {
        let drift = Drift::new(["c".to_string()].iter(), None);
        (0..3000).for_each(|_| drift.decision(std::iter::once(1.0), 0.0));
        assert_eq!(lines(&drift, "oo_drift_psi{of=\"feature\""), [0.0]);
    }

    /// Ten bins of a tenth each against 200 values, half of them in the first bin and half in the last; and five values
    /// against mean 2 and deviation 4.
    #[test]
    fn indices_and_sums_by_hand() {
        let tenths = Shares {
            edges: (1..10).map(f64::from).collect(),
            shares: vec![0.1; 10],
            mean: 2.0,
            sd: 4.0,
        };
        let summary = Summary {
            features: BTreeMap::from([("x".to_string(), tenths.clone())]),
            prediction: Some(tenths.clone()),
            reward: Some(tenths),
        };
        let names = ["x".to_string()];
        let drift = Drift::new(names.iter(), Some(summary.clone()));
        for i in 0..200 {
            let x = f64::from(i % 2) * 100.0;
            drift.decision(std::iter::once(x as f32), x);
            drift.reward(x);
        }
        // 2·(0.5 − 0.1)·ln 5 + 8·(0.0001 − 0.1)·ln 0.001
        let by_hand = 0.8 * 5.0f64.ln() + 8.0 * (1e-4 - 0.1) * 1e-3f64.ln();
        for of in ["feature", "prediction", "reward"] {
            let index = lines(&drift, &format!("oo_drift_psi{{of=\"{of}\""))[0];
            assert!((index - by_hand).abs() < 1e-9, "{of}: {index} {by_hand}");
        }
        let drift = Drift::new(names.iter(), Some(summary));
        for x in [6.0, 10.0, 0.0, -2.0, -8.0f32] {
            drift.decision(std::iter::once(x), f64::from(x));
            drift.reward(f64::from(x));
        }
        // z: 1, 2, −½, −1, −2½. High: ½, 2, 1, 0, 0. Low: 0, 0, 0, ½, 2½.
        for of in ["feature", "prediction", "reward"] {
            let sum = |side: &str| {
                let name = if of == "feature" { "x" } else { "" };
                lines(
                    &drift,
                    &format!("oo_drift_cusum{{of=\"{of}\",name=\"{name}\",side=\"{side}\""),
                )[0]
            };
            assert_eq!((sum("high"), sum("low")), (0.0, 2.5), "{of}");
        }
    }
}
