//! EXP4: a mixture of policies, weighted by what following each would have earned.
//!
//! The probabilities are (1 − γ) Σ wᵢ ξᵢ + γ/K, where ξᵢ are the probabilities that expert i proposes and w are
//! weights that sum to 1. A row with reward r, chosen with propensity p, multiplies wᵢ by exp(η ξᵢ(a) ŷ/p), where
//! ŷ = (r − low)/(high − low), clipped to [0, 1]: an importance-weighted estimate of the expert's reward. η = γ/K in
//! the paper, or `rate`.
//!
//! The experts learn from every row, whoever proposed it. When a row is learned, ξ is asked from the experts as they
//! are then: exact where a reward comes before the next round, an approximation where it is delayed. Experts that
//! simulate use numbers that hang on the round alone, so that asking twice gives one answer. A round costs what the
//! experts cost, an update the same and their updates.
//!
//! Auer, Cesa-Bianchi, Freund, Schapire (2002), section 7. The experts there are given from outside; here they are
//! policies of this library.

use crate::state::{Reader, Writer};
use oo_core::registry::OptionHelp;
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, Spec, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    experts: String,
    gamma: f64,
    rate: f64,
    low: f64,
    high: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            experts: "egreedy/lin-ucb/uniform".into(),
            gamma: 0.05,
            rate: 0.0,
            low: 0.0,
            high: 1.0,
        }
    }
}

/// See the module.
pub struct Exp4 {
    config: Config,
    experts: Vec<Box<dyn Policy>>,
    /// Logarithms of the weights, the largest 0.
    weights: Vec<f64>,
}

impl Build for Exp4 {
    const NAME: &'static str = "exp4";
    const SUMMARY: &'static str = "Mixture of policies, weighted by importance-weighted rewards";
    const PAPER: &'static str = "Auer, Cesa-Bianchi, Freund, Schapire (2002), section 7";
    const OPTIONS: &'static [OptionHelp] = &[
        (
            "experts",
            "policies with their options, separated by /, in quotes: 'egreedy{epsilon=0.1}/lin-ucb'",
        ),
        ("gamma", "share of uniform choice, the paper's γ; 0 to 1"),
        ("rate", "step of the logarithms of the weights; 0 for the paper's γ/K"),
        ("low", "the lowest reward; what is below is clipped"),
        ("high", "the highest reward; what is above is clipped"),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        require((0.0..=1.0).contains(&c.gamma), Self::NAME, "gamma", "0 to 1", c.gamma)?;
        let sound = c.rate >= 0.0 && c.rate.is_finite();
        require(sound, Self::NAME, "rate", "a number of at least 0", c.rate)?;
        let range = c.low < c.high && c.low.is_finite() && c.high.is_finite();
        require(range, Self::NAME, "low", "a number below `high`", c.low)?;
        let experts = split(&c.experts)
            .into_iter()
            .map(|text| crate::build(&Spec::parse(text)?, shape))
            .collect::<Result<Vec<_>>>()?;
        Ok(Exp4 {
            weights: vec![0.0; experts.len()],
            experts,
            config: c,
        })
    }
}

/// The parts between slashes that stand outside braces.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '/' if depth <= 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts
}

/// Moves the logarithms of weights by their estimated rewards.
fn reweigh(weights: &mut [f64], rate: f64, estimates: impl Iterator<Item = f64>) {
    let mut high = f64::NEG_INFINITY;
    for (w, estimate) in weights.iter_mut().zip(estimates) {
        *w += rate * estimate;
        high = high.max(*w);
    }
    weights.iter_mut().for_each(|w| *w -= high);
}

impl Exp4 {
    fn layout(&self) -> String {
        format!("experts {}", self.config.experts)
    }

    /// Calls `each(expert, probabilities)` with what the experts propose.
    fn ask(&self, round: &Round<'_>, mut each: impl FnMut(usize, &[f64])) -> Result<Method> {
        const ROOT: Key = Key::root(0).name("exp4");
        let key = ROOT.fold(round.index).fold(round.user.0);
        let n = round.candidates.len();
        let (mut scores, mut probs, mut scratch) = (vec![0.0; n], vec![0.0; n], Vec::new());
        let mut method = Method::Exact;
        for (i, expert) in self.experts.iter().enumerate() {
            scores.fill(0.0);
            probs.fill(0.0);
            let own = expert.propose(
                round,
                key.fold(i as u64),
                Proposal {
                    scores: &mut scores,
                    probs: &mut probs,
                    scratch: &mut scratch,
                },
            )?;
            // The mixture is as exact as its least exact part.
            method = match (method, own) {
                (Method::MonteCarlo { draws: a }, Method::MonteCarlo { draws: b }) => {
                    Method::MonteCarlo { draws: a.min(b) }
                }
                (mc @ Method::MonteCarlo { .. }, _) | (_, mc @ Method::MonteCarlo { .. }) => mc,
                (Method::Exact, Method::Exact) => Method::Exact,
                _ => Method::Quadrature,
            };
            each(i, &probs);
        }
        Ok(method)
    }
}

impl Policy for Exp4 {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let sum: f64 = self.weights.iter().map(|w| libm::exp(*w)).sum();
        let gamma = self.config.gamma;
        out.probs.fill(gamma / out.probs.len() as f64);
        let method = self.ask(round, |i, probs| {
            let weight = (1.0 - gamma) * libm::exp(self.weights[i]) / sum;
            out.probs.iter_mut().zip(probs).for_each(|(p, q)| *p += weight * q);
        })?;
        crate::greedy::round_off(out.probs);
        // The experts' scores have no scale in common; the mixture's index is its probability.
        out.scores.copy_from_slice(out.probs);
        Ok(method)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let mut advice = vec![0.0; self.experts.len()];
        for at in 0..batch.rows().len() {
            let rows = &batch.rows()[at..=at];
            let row = batch.log().row(rows[0]);
            let Some(reward) = row.reward else { continue };
            self.ask(&row.round, |i, probs| advice[i] = probs[row.chosen])?;
            let Config {
                gamma, rate, low, high, ..
            } = self.config;
            let earned = ((reward - low) / (high - low)).clamp(0.0, 1.0) / row.propensity();
            let rate = match rate {
                0.0 => gamma / row.round.candidates.len() as f64,
                rate => rate,
            };
            reweigh(&mut self.weights, rate, advice.iter().map(|a| a * earned));
            for expert in &mut self.experts {
                expert.update(&Batch::new(batch.log(), rows))?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout());
        w.f64s("weights", &self.weights);
        for (i, expert) in self.experts.iter().enumerate() {
            w.state(&i.to_string(), expert.save());
        }
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let before: Vec<Vec<u8>> = self.experts.iter().map(|e| e.save()).collect();
        let layout = self.layout();
        let mut r = Reader::new(Self::NAME, &layout, bytes)?;
        let mut weights = vec![0.0; self.weights.len()];
        r.fill("weights", &mut weights)?;
        let states = (0..self.experts.len())
            .map(|i| r.state(&i.to_string()))
            .collect::<Result<Vec<_>>>()?;
        r.finish()?;
        for i in 0..states.len() {
            if let Err(error) = self.experts[i].load(states[i]) {
                // All or none: those that took theirs go back.
                for (expert, state) in self.experts.iter_mut().zip(&before).take(i) {
                    expert.load(state)?;
                }
                return Err(error);
            }
        }
        self.weights = weights;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_inside_braces_do_not_split() {
        assert_eq!(split("a{x=1}/b / c{y='p/q'}"), ["a{x=1}", "b", "c{y='p/q'}"]);
    }

    #[test]
    fn the_mixture_by_hand_and_the_better_expert_wins() {
        use oo_core::{ActionId, Candidates, Decision, Log, UserId};
        let shape = Shape {
            context: vec!["bias".into()],
            candidate: vec![],
            actions: Some(4),
        };
        let config = Config {
            experts: "uniform/egreedy{epsilon=0,start=1}".into(),
            gamma: 0.1,
            ..Config::default()
        };
        let mut policy = Exp4::build(config, &shape).unwrap();
        let ids: Vec<ActionId> = (0..4).map(ActionId).collect();
        let (mut decision, mut log) = (Decision::new(), Log::new());
        for t in 0..2000 {
            let round = Round {
                index: t,
                user: UserId(0),
                context: &[1.0],
                candidates: Candidates {
                    ids: &ids,
                    features: &[],
                    dim: 0,
                },
            };
            (&policy as &dyn Policy)
                .decide(&round, Key::root(1).fold(t), &mut decision)
                .unwrap();
            if t == 0 {
                // γ/K + (1 − γ)(½ · ¼ + ½ · 1 for the one that greed takes).
                let rest = 0.025 + 0.9 * 0.125;
                let exact = [rest + 0.45, rest, rest, rest];
                assert!(decision.probs().iter().zip(exact).all(|(p, e)| (p - e).abs() < 1e-15));
            }
            log.clear();
            log.push(&round, &decision);
            log.settle(0, f64::from(u8::from(decision.chosen() == 2)), None);
            policy.update(&Batch::new(&log, &[0])).unwrap();
        }
        assert!(policy.weights[0] < -5.0, "{:?}", policy.weights);
        assert!(decision.probs()[2] > 0.9);
    }

    #[test]
    fn weights_are_exponential_in_the_estimates() {
        let mut weights = vec![0.0; 3];
        for _ in 0..4 {
            reweigh(&mut weights, 0.1, [1.0, 0.0, 2.5].into_iter());
        }
        let sum: f64 = weights.iter().map(|w| libm::exp(*w)).sum();
        let exact = libm::exp(0.4) / (libm::exp(0.4) + 1.0 + libm::exp(1.0));
        assert!((libm::exp(weights[0]) / sum - exact).abs() < 1e-14);
    }
}
