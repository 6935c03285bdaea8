//! Online Cover: a few policies that learn to differ where differing is cheap.
//!
//! `policies` regressors each learn, for every candidate of every row, the doubly robust estimate of its reward,
//! f̂(a) + 1{a chosen}(r − f̂(a))/p, plus a bonus ψ·R·μ/(μ + (1 − Kμ)qᵢ(a)), where qᵢ is the share of the policies
//! before this one that choose a: what they leave out looks better to those after. R = high − low is the assumed
//! range of rewards. The probabilities are the shares of the policies' choices; they are mixed with a floor
//! μ = min(1/K, 1/√(Kt)) unless `nounif=true`.
//!
//! A round costs `policies` times the estimates, an update `policies`·K times a row: K is the number of candidates.
//! f̂ learns the rows as they come. By default it and the policies start at the reward 1, optimistic where rewards
//! lie in [0, 1]; and the ridge penalty is 10, since doubly robust estimates are noisier than rewards.
//!
//! Agarwal, Hsu, Kale, Langford, Li, Schapire (2014), arXiv:1402.0555, Algorithm 5; Bietti, Agarwal, Langford (2021),
//! arXiv:1802.04064, for ψ, the doubly robust estimates and nounif ("Cover-NU").

use crate::greedy::{round_off, share};
use crate::regress::{Learner, learner, linear};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    policies: usize,
    psi: f64,
    nounif: bool,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            policies: 4,
            psi: 0.1,
            nounif: true,
            learner: learner::Options {
                start: 1.0,
                linear: linear::Options {
                    lambda: 10.0,
                    ..linear::Options::default()
                },
                ..learner::Options::default()
            },
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("policies", "size of the cover; 1 to 1000"),
    ("psi", "how much policies are paid to differ, the paper's ψ; at least 0"),
    (
        "nounif",
        "true: only what some policy chooses; false: with a floor for all candidates",
    ),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Cover {
    config: Config,
    rows: u64,
    estimate: Learner,
    policies: Vec<Learner>,
    work: Vec<f64>,
    order: Vec<usize>,
}

impl Build for Cover {
    const NAME: &'static str = "cover";
    const SUMMARY: &'static str = "Online Cover: a few policies that are paid to differ";
    const PAPER: &'static str = "Agarwal et al. (2014), arXiv:1402.0555; Bietti, Agarwal, Langford (2021) for nounif";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let some = (1..=1000).contains(&c.policies);
        require(some, Self::NAME, "policies", "1 to 1000", c.policies)?;
        let sound = c.psi >= 0.0 && c.psi.is_finite();
        require(sound, Self::NAME, "psi", "a number of at least 0", c.psi)?;
        let estimate = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(Cover {
            policies: vec![estimate.clone(); c.policies],
            config: c,
            rows: 0,
            estimate,
            work: Vec::new(),
            order: Vec::new(),
        })
    }
}

/// μ for K candidates after t rows.
fn floor(candidates: usize, rows: u64) -> f64 {
    let k = candidates as f64;
    (1.0 / k).min(1.0 / (k * (rows + 1) as f64).sqrt())
}

/// What a policy is paid for a candidate that a share `q` of those before it choose.
fn bonus(psi: f64, mu: f64, candidates: usize, q: f64) -> f64 {
    psi * mu / (mu + (1.0 - candidates as f64 * mu) * q)
}

/// Turns estimates into doubly robust ones: right on average where either they or the propensities are.
fn correct(estimates: &mut [f64], chosen: usize, reward: f64, propensity: f64) {
    estimates[chosen] += (reward - estimates[chosen]) / propensity;
}

impl Cover {
    fn layout(&self) -> String {
        format!("{} of: {}", self.policies.len(), self.estimate.layout())
    }
}

impl Policy for Cover {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, row_len) = (out.probs.len(), self.estimate.row_len());
        out.scratch.clear();
        out.scratch.resize(row_len + n, 0.0);
        let (scratch, means) = out.scratch.split_at_mut(row_len);
        let mu = if self.config.nounif { 0.0 } else { floor(n, self.rows) };
        let weight = 1.0 / self.policies.len() as f64;
        out.probs.fill(mu);
        for policy in &self.policies {
            policy.evaluate(round, scratch, |i, estimate| means[i] = estimate.mean());
            share(means, (1.0 - n as f64 * mu) * weight, out.probs);
            out.scores.iter_mut().zip(&*means).for_each(|(s, m)| *s += weight * m);
        }
        round_off(out.probs);
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let range = self.config.learner.high - self.config.learner.low;
        for (row, reward) in batch.iter() {
            let round = &row.round;
            let (n, row_len) = (round.candidates.len(), self.estimate.row_len());
            self.work.clear();
            self.work.resize(row_len + 3 * n, 0.0);
            let (scratch, rest) = self.work.split_at_mut(row_len);
            let (robust, rest) = rest.split_at_mut(n);
            let (means, before) = rest.split_at_mut(n);
            self.estimate.evaluate(round, scratch, |i, e| robust[i] = e.mean());
            correct(robust, row.chosen, reward, row.propensity());
            self.estimate.learn(round, row.chosen, reward, 1.0)?;
            let mu = floor(n, self.rows);
            // Shared weights hang on the order of rows, so it is that of the identities.
            self.order.clear();
            self.order.extend(0..n);
            self.order.sort_unstable_by_key(|&i| round.candidates.ids[i]);
            for (m, policy) in self.policies.iter_mut().enumerate() {
                policy.evaluate(round, scratch, |i, e| means[i] = e.mean());
                for &i in &self.order {
                    // The first has none before it and is paid nothing.
                    let paid = match m {
                        0 => 0.0,
                        m => range * bonus(self.config.psi, mu, n, before[i] / m as f64),
                    };
                    policy.learn(round, i, robust[i] + paid, 1.0)?;
                }
                share(means, 1.0, before);
            }
            self.rows += 1;
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout());
        w.u64s("rows", [self.rows]);
        w.state("estimate", self.estimate.save(Self::NAME));
        for (m, policy) in self.policies.iter().enumerate() {
            w.state(&m.to_string(), policy.save(Self::NAME));
        }
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let layout = self.layout();
        let mut r = Reader::new(Self::NAME, &layout, bytes)?;
        let rows = r.count("rows")?;
        let estimate = self.estimate.restored(Self::NAME, r.state("estimate")?)?;
        let policies = self.policies.iter().enumerate();
        let policies = policies
            .map(|(m, policy)| policy.restored(Self::NAME, r.state(&m.to_string())?))
            .collect::<Result<_>>()?;
        r.finish()?;
        (self.rows, self.estimate, self.policies) = (rows, estimate, policies);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubly_robust_estimates_are_unbiased() {
        let (rewards, wrong, probs) = ([0.3, 0.9, 0.5], [1.0, 0.2, 0.0], [0.7, 0.1, 0.2]);
        let mut mean = [0.0; 3];
        for chosen in 0..3 {
            let mut estimates = wrong;
            correct(&mut estimates, chosen, rewards[chosen], probs[chosen]);
            mean.iter_mut()
                .zip(estimates)
                .for_each(|(m, e)| *m += probs[chosen] * e);
        }
        assert!(mean.iter().zip(rewards).all(|(m, r)| (m - r).abs() < 1e-12), "{mean:?}");
    }

    #[test]
    fn what_others_leave_out_is_paid_in_full() {
        let mu = floor(5, 99);
        assert!((mu - 1.0 / 500f64.sqrt()).abs() < 1e-15);
        assert_eq!(floor(5, 0), 0.2);
        assert_eq!(bonus(0.3, mu, 5, 0.0), 0.3);
        // Chosen by all before: its probability in their cover is 1 − (K − 1)μ.
        assert!((bonus(0.3, mu, 5, 1.0) - 0.3 * mu / (1.0 - 4.0 * mu)).abs() < 1e-15);
    }
}
