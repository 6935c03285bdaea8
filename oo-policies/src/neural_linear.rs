//! NeuralLinear: Thompson sampling by Bayesian linear regression on the last hidden layer of a network.
//!
//! The network φ learns to predict rewards (see [`regress::net`](crate::regress::net)); decisions come from a
//! regression an action ("head") on φ(x), a constant, and with `skip` the features themselves. A head's posterior is
//! θ ~ N(θ̂, σ²A⁻¹), A = λI + Σ φφᵀ, with σ² known, or unknown with the prior IG(a₀, b₀): then a = a₀ + n/2,
//! b = b₀ + ½ (Σ r² − θ̂ᵀAθ̂), and a value's variance is b/(a − 1) · φᵀA⁻¹φ. Heads of their own give independent values
//! and probabilities by quadrature ([`best_arm`](crate::best_arm)); where candidates have features there is one
//! output, one head, and values move together ([`best_joint`](crate::best_joint)).
//!
//! The heads look through a copy of the network, so that training cannot move φ under them. Whenever the rows have
//! grown by the share `refresh`, the copy is renewed and the heads are computed afresh from the rows kept: at 0.1 some
//! 75 times in 80,000 rows. With `refresh=0` the copy follows every training and a row stays in its head with the φ of
//! its time.
//!
//! A round costs a forward pass, h²/2 multiply-adds a candidate for h hidden units, 3·h²/2 for the update, and
//! training.
//!
//! Riquelme, Tucker, Snoek (2018), arXiv:1802.09127. Departs from it: the heads see a constant too; a value's
//! Student's t, of at least 2a₀ degrees of freedom, is taken for a normal of its mean and variance; the paper
//! recomputes the heads after each training.

use crate::best_arm::{Arms, Normal, probabilities};
use crate::best_joint::{Sharing, of_sharing, room};
use crate::regress::Ridge;
use crate::regress::mlp::Mlp;
use crate::regress::net::{self, Net, Spread, Work, check_finite};
use crate::regress::symmetric::{dot, padded};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    lambda: f64,
    noise: f64,
    a0: f64,
    b0: f64,
    skip: bool,
    refresh: f64,
    pulls: u64,
    draws: u32,
    #[serde(flatten)]
    net: net::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lambda: 0.25,
            noise: 0.0,
            a0: 6.0,
            b0: 6.0,
            skip: true,
            refresh: 0.1,
            pulls: 2,
            draws: 256,
            net: net::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    (
        "lambda",
        "prior precision of a head's weights in units of the noise's; positive",
    ),
    (
        "noise",
        "standard deviation of the rewards where it is known; 0 learns it",
    ),
    ("a0", "prior of an unknown noise variance, its shape; above 1"),
    ("b0", "prior of an unknown noise variance, its scale; positive"),
    ("skip", "whether the heads also see the features themselves"),
    (
        "refresh",
        "recompute the heads when the rows have grown by this share; 0 never, at least 0",
    ),
    (
        "pulls",
        "so often each action of a fixed set is tried before its posterior counts; at least 0",
    ),
    (
        "draws",
        "posterior draws behind the probabilities where candidates share a head; 1 to 1000000",
    ),
];

/// The regressions on the last hidden layer.
#[derive(Clone, Debug)]
struct Heads {
    ridges: Vec<Ridge>,
    /// b − b₀ of each.
    misfit: Vec<f64>,
    /// The copy that they look through.
    mlp: Mlp,
    /// Rows after which they are computed afresh.
    due: u64,
    phi: Vec<f64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralLinear {
    config: Config,
    net: Net,
    heads: Heads,
    layout: String,
}

impl Build for NeuralLinear {
    const NAME: &'static str = "neural-linear";
    const SUMMARY: &'static str = "Thompson sampling by Bayesian regression on a network's last hidden layer";
    const PAPER: &'static str = "Riquelme, Tucker, Snoek (2018), arXiv:1802.09127";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + net::OPTIONS.len() }>(OWN, net::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let name = Self::NAME;
        for (option, value) in [("lambda", c.lambda), ("b0", c.b0)] {
            require(
                value > 0.0 && value.is_finite(),
                name,
                option,
                "a positive number",
                value,
            )?;
        }
        for (option, value) in [("noise", c.noise), ("refresh", c.refresh)] {
            require(
                value >= 0.0 && value.is_finite(),
                name,
                option,
                "a number of at least 0",
                value,
            )?;
        }
        require(c.a0 > 1.0 && c.a0.is_finite(), name, "a0", "a number above 1", c.a0)?;
        require(
            (1..=1_000_000).contains(&c.draws),
            name,
            "draws",
            "1 to 1000000",
            c.draws,
        )?;
        let net = Net::new(name, shape, &c.net, Spread::ONE)?;
        let dim = net.width() + 1 + if c.skip { net.dim() } else { 0 };
        Ok(NeuralLinear {
            layout: format!("{}; heads over {dim} features", net.layout()),
            heads: Heads {
                ridges: vec![Ridge::new(dim, c.lambda); net.slots()],
                misfit: vec![0.0; net.slots()],
                mlp: net.mlp(0).clone(),
                due: 0,
                phi: vec![0.0; padded(dim)],
            },
            net,
            config: c,
        })
    }
}

/// Writes what a head sees of the row in `work`.
fn represent(net: &Net, skip: bool, work: &Work, phi: &mut [f64]) {
    let width = net.width();
    let hidden = net.mlp(0).last_hidden().map_or(&work.x[..], |at| &work.activations[at]);
    for (to, &from) in phi.iter_mut().zip(&hidden[..width]) {
        *to = f64::from(from);
    }
    phi[width] = 1.0;
    if skip {
        for (to, &from) in phi[width + 1..].iter_mut().zip(&work.x) {
            *to = f64::from(from);
        }
    }
}

impl NeuralLinear {
    /// The variance of the rewards around a head's prediction.
    fn noise(&self, slot: usize) -> f64 {
        let c = &self.config;
        if c.noise > 0.0 {
            return c.noise * c.noise;
        }
        let a = c.a0 + 0.5 * self.heads.ridges[slot].rows() as f64;
        (c.b0 + self.heads.misfit[slot].max(0.0)) / (a - 1.0)
    }

    fn propose_independent(&self, round: &Round<'_>, out: Proposal<'_>) -> Result<Method> {
        let (scores, probs) = (out.scores, out.probs);
        out.scratch.clear();
        out.scratch.resize(self.heads.phi.len(), 0.0);
        let phi = &mut *out.scratch;
        let mut untried = 0;
        let mut fresh = true;
        self.net
            .evaluate(&self.heads.mlp, round, &mut Work::default(), |i, slot, work| {
                if std::mem::replace(&mut fresh, self.net.blocks()) {
                    represent(&self.net, self.config.skip, work, phi);
                }
                let ridge = &self.heads.ridges[slot];
                scores[i] = ridge.predict(phi);
                // The standard deviations wait in `probs` until they are replaced; a negative one marks an untried arm.
                probs[i] = (self.noise(slot) * ridge.variance(phi)).sqrt();
                if ridge.rows() < self.config.pulls {
                    untried += 1;
                    probs[i] = -1.0;
                }
            })?;
        check_finite(scores)?;
        check_finite(probs)?;
        if untried > 0 {
            let share = 1.0 / f64::from(untried);
            probs.iter_mut().for_each(|p| *p = if *p < 0.0 { share } else { 0.0 });
            return Ok(Method::Exact);
        }
        let mut arms = Arms::default();
        for (&mean, &sd) in scores.iter().zip(probs.iter()) {
            arms.push(Normal { mean, sd });
        }
        probabilities(arms.as_slice(), probs, out.scratch);
        Ok(Method::Quadrature)
    }

    fn propose_joint(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        let ridge = &self.heads.ridges[0];
        let (n, len) = (round.candidates.len(), padded(ridge.dim()));
        out.scratch.clear();
        out.scratch.resize(n * len + n + room(n, ridge.dim()), 0.0);
        let (rows, rest) = out.scratch.split_at_mut(n * len);
        let (own, work) = rest.split_at_mut(n);
        self.net
            .evaluate(&self.heads.mlp, round, &mut Work::default(), |i, _, work| {
                let row = &mut rows[i * len..(i + 1) * len];
                represent(&self.net, self.config.skip, work, row);
                out.scores[i] = ridge.predict(row);
            })?;
        check_finite(out.scores)?;
        let sharing = Sharing {
            ridge,
            scale: self.noise(0).sqrt(),
            ids: round.candidates.ids,
            rows,
            means: out.scores,
            own,
        };
        of_sharing(&sharing, self.config.draws, key, out.probs, work)
    }

    /// The heads from the rows kept, under the network as it is now.
    fn relearn(&mut self) -> Result<()> {
        let Heads { ridges, phi, .. } = &self.heads;
        let mut fresh = vec![Ridge::new(ridges[0].dim(), self.config.lambda); ridges.len()];
        let mut squares = vec![0.0; ridges.len()];
        let mut phi = vec![0.0; phi.len()];
        let mut work = Work::default();
        let mlp = self.net.mlp(0).clone();
        work.activations.resize(mlp.activations(), 0.0);
        for row in self.net.replay().iter() {
            work.x.clear();
            work.x.extend_from_slice(row.x);
            mlp.forward(self.net.place(row.slot).0, row.x, &mut work.activations);
            represent(&self.net, self.config.skip, &work, &mut phi);
            let reward = f64::from(row.reward);
            fresh[row.slot].add(&phi, reward);
            squares[row.slot] += reward * reward;
        }
        for (slot, ridge) in fresh.iter_mut().enumerate() {
            if ridge.rows() > 0 {
                ridge.settle()?;
            }
            self.heads.misfit[slot] = (0.5 * (squares[slot] - dot(ridge.theta(), ridge.moment()))).max(0.0);
        }
        self.heads.ridges = fresh;
        self.heads.mlp = mlp;
        Ok(())
    }
}

impl Policy for NeuralLinear {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        match self.net.is_shared() {
            true => self.propose_joint(round, key, out),
            false => self.propose_independent(round, out),
        }
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let mut work = Work::default();
        for (row, reward) in batch.iter() {
            let slot = self.net.push(&row.round, row.chosen, reward, &mut work)?;
            let Heads {
                ridges,
                misfit,
                phi,
                mlp,
                ..
            } = &mut self.heads;
            work.activations.resize(mlp.activations(), 0.0);
            mlp.forward(self.net.place(slot).0, &work.x, &mut work.activations);
            represent(&self.net, self.config.skip, &work, phi);
            let ridge = &mut ridges[slot];
            let error = reward - ridge.predict(phi);
            let step = ridge.update(phi, reward)?;
            misfit[slot] += 0.5 * error * error / (1.0 + step.leverage.max(0.0));
            let trained = self.net.train()?;
            let seen = self.net.replay().seen();
            if trained && self.config.refresh == 0.0 {
                let to = self.heads.mlp.weights_mut();
                to.copy_from_slice(self.net.mlp(0).weights());
            }
            if self.config.refresh > 0.0 && seen >= self.heads.due {
                self.relearn()?;
                self.heads.due = seen
                    + ((self.config.refresh * seen as f64) as u64)
                        .max(self.config.net.every)
                        .max(16);
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, &*self.layout);
        self.net.write(&mut w);
        Ridge::write_all(&self.heads.ridges, "heads", &mut w);
        w.f64s("misfit", &self.heads.misfit);
        w.f32s("heads.network", self.heads.mlp.weights());
        w.u64s("due", [self.heads.due]);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let net = self.net.read(&mut r)?;
        let mut heads = self.heads.clone();
        heads.ridges = heads.ridges[0].read_all("heads", &mut r)?;
        r.fill("misfit", &mut heads.misfit)?;
        heads.due = r.count("due")?;
        let weights = r.f32s("heads.network")?;
        if weights.len() != heads.mlp.weights().len() {
            return Err(r.refuse("the network of its heads is of another size"));
        }
        heads.mlp.weights_mut().copy_from_slice(&weights);
        if heads.ridges.len() != net.slots() {
            return Err(r.refuse("its heads do not match its actions"));
        }
        r.finish()?;
        (self.net, self.heads) = (net, heads);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{ActionId, Candidates, Decision, Log, UserId};

    /// After a refresh a head is the regression on the hidden layer, and its noise the residual's.
    #[test]
    fn a_head_equals_a_direct_bayesian_regression() {
        let shape = Shape {
            context: vec!["a".into(), "b".into()],
            candidate: vec![],
            actions: Some(2),
        };
        let config = Config {
            net: net::Options {
                width: 6,
                layers: 1,
                ..net::Options::default()
            },
            ..Config::default()
        };
        let (ids, mut draws) = ([ActionId(0), ActionId(1)], Key::root(2).draws());
        let mut policy = NeuralLinear::build(config, &shape).unwrap();
        let mut rows = vec![];
        for t in 0..400u64 {
            let x = [draws.normal() as f32, draws.normal() as f32];
            let round = Round {
                index: t,
                user: UserId(0),
                context: &x,
                candidates: Candidates {
                    ids: &ids,
                    features: &[],
                    dim: 0,
                },
            };
            let mut decision = Decision::new();
            (&policy as &dyn Policy)
                .decide(&round, Key::root(t), &mut decision)
                .unwrap();
            let mut log = Log::new();
            log.push(&round, &decision);
            let reward =
                f64::from((x[0] * x[1] * (1.0 - 2.0 * decision.chosen() as f32)) + 0.1 * draws.normal() as f32);
            log.settle(0, reward, None);
            policy.update(&Batch::new(&log, &[0])).unwrap();
            rows.push((x, decision.chosen(), f64::from(reward as f32)));
        }
        policy.relearn().unwrap();
        let dim = policy.heads.ridges[0].dim();
        let len = padded(dim);
        for slot in 0..2 {
            let mut ridge = Ridge::new(dim, policy.config.lambda);
            let (mut misfit, mut n) = (0.0, 0);
            let mut work = Work::default();
            let mut phi = vec![0.0; len];
            for (x, _, reward) in rows.iter().filter(|r| r.1 == slot) {
                work.x = x.to_vec();
                work.activations.resize(policy.net.mlp(0).activations(), 0.0);
                policy.net.mlp(0).forward(0, x, &mut work.activations);
                represent(&policy.net, true, &work, &mut phi);
                let error = reward - ridge.predict(&phi);
                let step = ridge.update(&phi, *reward).unwrap();
                misfit += 0.5 * error * error / (1.0 + step.leverage);
                n += 1;
            }
            let head = &policy.heads.ridges[slot];
            for (a, b) in head.theta().iter().zip(ridge.theta()) {
                assert!((a - b).abs() < 1e-8, "{a} {b}");
            }
            assert!((head.variance(&phi) - ridge.variance(&phi)).abs() < 1e-9);
            let b = (policy.config.b0 + misfit) / (policy.config.a0 + 0.5 * f64::from(n) - 1.0);
            assert!((policy.noise(slot) - b).abs() < 1e-8 * b, "{} {b}", policy.noise(slot));
        }
    }
}
