//! Two towers: one network embeds the context, another the action, and a value is the product of the two embeddings.
//!
//! f(x, a) = u(x)ᵀv(a) with `embedding` numbers each. The context passes its tower once a round and a candidate passes
//! its own, which is small, so thousands of candidates are affordable; an action that was never seen is placed by its
//! features, so action sets may change. Where actions have no features but are a fixed set, an action's row is its
//! place in the set (one-hot). Every row ends in a constant.
//!
//! The product is linear in v(a) for a given context, so exploration is a linear bandit's: the score adds
//! `alpha`·√(pᵀA⁻¹p) with p = u(x)∘v(a), A = λI + Σ ppᵀ over the rows chosen; a share `epsilon` of the probability is
//! spread over all candidates. Both towers are trained together on half the squared error. A training step moves p
//! under A, so A is computed afresh from the rows kept whenever their number has grown by a fifth.
//!
//! Huang et al. (2013), CIKM, for the architecture; the width as in Xu et al. (2022), arXiv:2012.01780, on the product
//! of the embeddings instead of a last layer.

use crate::greedy::argmax;
use crate::regress::Ridge;
use crate::regress::adam::{Optimiser, Rule};
use crate::regress::graph::{Graph, failed, squared_error};
use crate::regress::mlp::Mlp;
use crate::regress::net::check_finite;
use crate::regress::replay::Replay;
use crate::regress::symmetric::padded;
use crate::state::{Reader, Writer};
use oo_core::key::hash_name;
use oo_core::registry::OptionHelp;
use oo_core::{Batch, Build, Error, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    alpha: f64,
    epsilon: f64,
    lambda: f64,
    embedding: usize,
    width: usize,
    rate: f64,
    batch: usize,
    every: u64,
    warm: u64,
    memory: usize,
    seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            alpha: 0.2,
            epsilon: 0.0,
            lambda: 1.0,
            embedding: 16,
            width: 64,
            rate: 0.003,
            batch: 64,
            every: 4,
            warm: 500,
            memory: 100_000,
            seed: 0,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TwoTower {
    config: Config,
    /// Features of the context, and of an action: its own, or its place in the set.
    dims: [usize; 2],
    /// The number of actions where they have no features of their own.
    places: usize,
    towers: [Mlp; 2],
    optimisers: [Optimiser; 2],
    /// Context and action side by side.
    replay: Replay,
    trained: u64,
    ridge: Ridge,
    /// Rows after which `ridge` is computed afresh.
    due: u64,
    root: Key,
    layout: String,
}

impl Build for TwoTower {
    const NAME: &'static str = "two-tower";
    const SUMMARY: &'static str =
        "Product of an embedding of the context and one of the action, with a confidence width";
    const PAPER: &'static str = "Huang et al. (2013), CIKM; Xu et al. (2022), arXiv:2012.01780";
    const OPTIONS: &'static [OptionHelp] = &[
        ("alpha", "exploration width; at least 0"),
        (
            "epsilon",
            "share of the probability that is spread over all candidates; 0 to 1",
        ),
        ("lambda", "ridge penalty behind the width; positive"),
        ("embedding", "numbers an embedding; 1 to 1024"),
        ("width", "units of a tower's hidden layer; 1 to 4096"),
        ("rate", "length of a training step; positive"),
        ("batch", "rows a training step; 1 to 65536"),
        ("every", "rows from one training step to the next; at least 1"),
        ("warm", "up to this row, train after every one; at least 0"),
        ("memory", "train on so many last rows; 1 to 10000000"),
        ("seed", "of the first weights and of the batches; at least 0"),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let name = Self::NAME;
        for (option, value) in [("alpha", c.alpha), ("rate", c.rate), ("lambda", c.lambda)] {
            let least = if option == "alpha" { value >= 0.0 } else { value > 0.0 };
            let expected = if option == "alpha" {
                "a number of at least 0"
            } else {
                "a positive number"
            };
            require(least && value.is_finite(), name, option, expected, value)?;
        }
        require((0.0..=1.0).contains(&c.epsilon), name, "epsilon", "0 to 1", c.epsilon)?;
        require(
            (1..=1024).contains(&c.embedding),
            name,
            "embedding",
            "1 to 1024",
            c.embedding,
        )?;
        require((1..=4096).contains(&c.width), name, "width", "1 to 4096", c.width)?;
        require((1..=65_536).contains(&c.batch), name, "batch", "1 to 65536", c.batch)?;
        require(c.every >= 1, name, "every", "at least 1", c.every)?;
        require(
            (1..=10_000_000).contains(&c.memory),
            name,
            "memory",
            "1 to 10000000",
            c.memory,
        )?;
        let places = match (shape.candidate.len(), shape.actions) {
            (0, Some(n)) => n,
            (0, None) => {
                return Err(Error::Unfit {
                    owner: name.into(),
                    why: "where actions come and go it needs their features; use beta-ts".into(),
                });
            }
            _ => 0,
        };
        let dims = [shape.context.len() + 1, shape.candidate.len() + places + 1];
        let root = Key::root(c.seed).name("towers");
        let tower = |i: usize| Mlp::new(dims[i], 1, &[c.width], c.embedding, root.name("weights").fold(i as u64));
        let towers = [tower(0), tower(1)];
        let optimiser = |i: usize| Optimiser::new(Rule::Adam, c.rate, 0.0, towers[i].weights().len());
        Ok(TwoTower {
            dims,
            places,
            optimisers: [optimiser(0), optimiser(1)],
            replay: Replay::new(dims[0] + dims[1], c.memory),
            trained: 0,
            ridge: Ridge::new(c.embedding, c.lambda),
            due: 0,
            root,
            layout: format!(
                "towers of {} units and embeddings of {} over {} and {} features (spec {:016x}), seed {}",
                c.width,
                c.embedding,
                dims[0],
                dims[1],
                hash_name(&[&shape.context[..], &shape.candidate[..]].concat().join(",")),
                c.seed
            ),
            towers,
            config: c,
        })
    }
}

/// Working memory: a row a tower, its activations, and the product.
struct Work {
    rows: [Vec<f32>; 2],
    activations: [Vec<f32>; 2],
    product: Vec<f64>,
}

impl TwoTower {
    fn work(&self) -> Work {
        let zeros = |of: &dyn Fn(usize) -> usize| [0, 1].map(|i| vec![0.0; of(i)]);
        Work {
            rows: zeros(&|i| self.dims[i]),
            activations: zeros(&|i| self.towers[i].activations()),
            product: vec![0.0; padded(self.config.embedding)],
        }
    }

    fn gather_context(&self, round: &Round<'_>, row: &mut [f32]) {
        row[..round.context.len()].copy_from_slice(round.context);
        row[self.dims[0] - 1] = 1.0;
    }

    fn gather_action(&self, round: &Round<'_>, i: usize, row: &mut [f32]) -> Result<()> {
        row.fill(0.0);
        row[self.dims[1] - 1] = 1.0;
        if self.places == 0 {
            let features = round.candidates.row(i);
            row[..features.len()].copy_from_slice(features);
            return Ok(());
        }
        let id = round.candidates.ids[i].0;
        if id >= self.places as u64 {
            return Err(Error::Unfit {
                owner: Self::NAME.into(),
                why: format!("it was built for actions 0 to {}, and met {id}", self.places - 1),
            });
        }
        row[id as usize] = 1.0;
        Ok(())
    }

    fn embed(&self, tower: usize, work: &mut Work) {
        let Work { rows, activations, .. } = work;
        self.towers[tower].forward(0, &rows[tower], &mut activations[tower]);
    }

    /// Writes p and returns its sum, the value.
    fn multiply(&self, work: &mut Work) -> f64 {
        let Work {
            activations, product, ..
        } = work;
        let (u, v) = (
            self.towers[0].output(&activations[0]),
            self.towers[1].output(&activations[1]),
        );
        for (p, (u, v)) in product.iter_mut().zip(u.iter().zip(v)) {
            *p = f64::from(*u) * f64::from(*v);
        }
        product.iter().sum()
    }

    fn train(&mut self) -> Result<()> {
        const BATCH: u64 = hash_name("batch");
        let n = self.config.batch;
        let (mut rows, mut target) = ([vec![], vec![]], vec![]);
        for kept in self.replay.sample(self.root.fold(BATCH), self.trained, n) {
            let (context, action) = kept.x.split_at(self.dims[0]);
            rows[0].extend_from_slice(context);
            rows[1].extend_from_slice(action);
            target.push(kept.reward);
        }
        let graphs = [Graph::new(&self.towers[0])?, Graph::new(&self.towers[1])?];
        let [context, action] = rows;
        let u = graphs[0].forward(&graphs[0].constant(context, n)?, &[])?;
        let v = graphs[1].forward(&graphs[1].constant(action, n)?, &[])?;
        let value = u.mul(&v).and_then(|p| p.sum_keepdim(1)).map_err(failed)?;
        let (target, weight) = (graphs[0].constant(target, n)?, graphs[0].constant(vec![1.0; n], n)?);
        let by = squared_error(&value, &target, &weight, n)?;
        let mut gradient = Vec::new();
        let mut towers = self.towers.clone();
        for i in 0..2 {
            graphs[i].gradient(&by, &mut gradient)?;
            self.optimisers[i].step(towers[i].weights_mut(), &gradient);
            if !towers[i].weights().iter().all(|w| w.is_finite()) {
                return Err(Error::Failed(format!(
                    "{}: a tower diverged; lower `rate` or scale features and rewards",
                    Self::NAME
                )));
            }
        }
        self.towers = towers;
        self.trained += 1;
        Ok(())
    }

    fn relearn(&mut self) -> Result<()> {
        let mut fresh = Ridge::new(self.config.embedding, self.config.lambda);
        let mut work = self.work();
        for kept in self.replay.iter() {
            let (context, action) = kept.x.split_at(self.dims[0]);
            work.rows[0].copy_from_slice(context);
            work.rows[1].copy_from_slice(action);
            self.embed(0, &mut work);
            self.embed(1, &mut work);
            self.multiply(&mut work);
            fresh.add(&work.product, f64::from(kept.reward));
        }
        fresh.settle()?;
        self.ridge = fresh;
        Ok(())
    }
}

impl Policy for TwoTower {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let mut work = self.work();
        self.gather_context(round, &mut work.rows[0]);
        self.embed(0, &mut work);
        for i in 0..out.scores.len() {
            self.gather_action(round, i, &mut work.rows[1])?;
            self.embed(1, &mut work);
            let value = self.multiply(&mut work);
            out.scores[i] = value + self.config.alpha * self.ridge.variance(&work.product).sqrt();
        }
        check_finite(out.scores)?;
        out.probs.fill(self.config.epsilon / out.probs.len() as f64);
        out.probs[argmax(out.scores)] += 1.0 - self.config.epsilon;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let mut work = self.work();
        for (row, reward) in batch.iter() {
            if !(reward as f32).is_finite() {
                return Err(Error::Failed(format!(
                    "{}: the reward {reward} is not finite",
                    Self::NAME
                )));
            }
            self.gather_context(&row.round, &mut work.rows[0]);
            self.gather_action(&row.round, row.chosen, &mut work.rows[1])?;
            self.embed(0, &mut work);
            self.embed(1, &mut work);
            self.multiply(&mut work);
            self.ridge.update(&work.product, reward)?;
            self.replay.push(&work.rows.concat(), reward as f32, 0);
            let seen = self.replay.seen();
            if seen <= self.config.warm || seen.is_multiple_of(self.config.every) {
                self.train()?;
            }
            if seen >= self.due {
                self.relearn()?;
                self.due = seen + (seen / 5).max(16);
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, &*self.layout);
        for (i, name) in ["context", "action"].into_iter().enumerate() {
            w.f32s(&format!("tower.{name}"), self.towers[i].weights());
            self.optimisers[i].write(&format!("optimiser.{name}"), &mut w);
        }
        w.u64s("trained", [self.trained]);
        w.u64s("due", [self.due]);
        Ridge::write_all(std::slice::from_ref(&self.ridge), "products", &mut w);
        self.replay.write(&mut w);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let mut fresh = self.clone();
        for (i, name) in ["context", "action"].into_iter().enumerate() {
            let weights = r.f32s(&format!("tower.{name}"))?;
            let to = fresh.towers[i].weights_mut();
            if weights.len() != to.len() {
                return Err(r.refuse("a tower is of another size"));
            }
            to.copy_from_slice(&weights);
            fresh.optimisers[i] = fresh.optimisers[i].read(&format!("optimiser.{name}"), &mut r)?;
        }
        fresh.trained = r.count("trained")?;
        fresh.due = r.count("due")?;
        let ridges = self.ridge.read_all("products", &mut r)?;
        [fresh.ridge] = <[Ridge; 1]>::try_from(ridges).map_err(|_| r.refuse("it holds more than one regression"))?;
        fresh.replay = self.replay.read(1, &mut r)?;
        r.finish()?;
        *self = fresh;
        Ok(())
    }
}
