//! What the neural policies have in common: a network over the rows of a round, trained on rows that it keeps.
//!
//! Where candidates have features, one network with one output takes context and candidate ("shared"). Where they have
//! none, one network takes the context and has an output an action ("disjoint"), or it takes the context in the
//! action's block of a long row ("blocks", the encoding of the NeuralUCB paper).
//!
//! After every `every`-th row (after every single one up to row `warm`) come `steps` steps of the optimiser, each on
//! `batch` rows drawn from the last `memory`, on half the squared error. Everything random comes from a key that is
//! folded with the number of the step or of the row.

use super::adam::{Optimiser, Rule};
use super::graph::{self, Graph};
use super::lanes::padded;
use super::mlp::Mlp;
use super::replay::{Kept, Replay};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::registry::OptionHelp;
use oo_core::spec::require;
use oo_core::{ActionId, Error, Key, Result, Round, Shape};
use serde::{Deserialize, Serialize};

/// What a network's row and outputs are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Shared where candidates have features of their own; where they have none, as the policy's paper has it.
    #[default]
    Auto,
    /// Context and candidate in, one output.
    Shared,
    /// Context in, one output an action.
    Disjoint,
    /// Context in the action's block of a long row, one output.
    Blocks,
}

/// The options of every policy on a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // said in `OPTIONS`
pub struct Options {
    pub width: usize,
    pub layers: usize,
    pub optimiser: Rule,
    pub rate: f64,
    pub decay: f64,
    pub batch: usize,
    pub every: u64,
    pub warm: u64,
    pub steps: u64,
    pub stop: f64,
    pub memory: usize,
    pub model: Model,
    pub features: String,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            width: 100,
            layers: 2,
            optimiser: Rule::Adam,
            rate: 0.003,
            decay: 0.0,
            batch: 64,
            every: 4,
            warm: 500,
            steps: 1,
            stop: 0.0,
            memory: 100_000,
            model: Model::Auto,
            features: "all".into(),
            seed: 0,
        }
    }
}

/// Their help.
pub const OPTIONS: &[OptionHelp] = &[
    ("width", "units a hidden layer; 1 to 4096"),
    ("layers", "hidden layers; 1 to 8"),
    ("optimiser", "adam, rmsprop or sgd"),
    ("rate", "length of a training step; positive"),
    ("decay", "L2 penalty of the weights, added to the gradient; at least 0"),
    ("batch", "rows a training step; 1 to 65536"),
    ("every", "rows from one training to the next; at least 1"),
    ("warm", "up to this row, train after every one; at least 0"),
    ("steps", "training steps at a time; 1 to 100000"),
    (
        "stop",
        "end a training early after a pass over the rows whose mean squared error is at most this; 0 never",
    ),
    ("memory", "train on so many last rows; 1 to 10000000"),
    (
        "model",
        "auto, shared (one output), disjoint (one an action) or blocks (a block of inputs an action)",
    ),
    ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
    ("seed", "of the first weights and of the batches; at least 0"),
];

/// How the members of an ensemble and the units of a layer come to differ.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Networks; rows are weighted by a bootstrap where there are several.
    pub members: usize,
    /// The share of hidden units that a training step leaves out.
    pub dropout: f64,
    /// What `auto` means where candidates have no features.
    pub without_features: Model,
}

impl Spread {
    /// One plain network.
    pub const ONE: Spread = Spread {
        members: 1,
        dropout: 0.0,
        without_features: Model::Disjoint,
    };
}

/// One network and its optimiser.
#[derive(Clone, Debug)]
struct Member {
    mlp: Mlp,
    optimiser: Optimiser,
}

/// Networks with the rows that they learn from.
#[derive(Clone, Debug)]
pub struct Net {
    owner: &'static str,
    /// Never `Auto`.
    model: Model,
    columns: Columns,
    /// Actions, where each has an output or a block; else 1.
    slots: usize,
    members: Vec<Member>,
    replay: Replay,
    /// Training steps so far.
    trained: u64,
    options: Options,
    dropout: f64,
    root: Key,
    layout: String,
}

/// Working memory of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct Work {
    wide: Vec<f64>,
    /// The row.
    pub x: Vec<f32>,
    /// The activations of every layer.
    pub activations: Vec<f32>,
    /// For [`Mlp::deltas`].
    pub deltas: Vec<f32>,
}

impl Net {
    /// For rounds of `shape`; `owner` is named in errors.
    ///
    /// # Errors
    /// An option out of range, features that do not exist, a model that the features cannot carry.
    pub fn new(owner: &'static str, shape: &Shape, options: &Options, spread: Spread) -> Result<Self> {
        let o = options;
        let whole = |ok, option, expected, got: u64| require(ok, owner, option, expected, got);
        whole((1..=4096).contains(&o.width), "width", "1 to 4096", o.width as u64)?;
        whole((1..=8).contains(&o.layers), "layers", "1 to 8", o.layers as u64)?;
        whole((1..=65_536).contains(&o.batch), "batch", "1 to 65536", o.batch as u64)?;
        whole(o.every >= 1, "every", "at least 1", o.every)?;
        whole((1..=100_000).contains(&o.steps), "steps", "1 to 100000", o.steps)?;
        whole(
            (1..=10_000_000).contains(&o.memory),
            "memory",
            "1 to 10000000",
            o.memory as u64,
        )?;
        require(
            o.rate > 0.0 && o.rate.is_finite(),
            owner,
            "rate",
            "a positive number",
            o.rate,
        )?;
        for (option, value) in [("decay", o.decay), ("stop", o.stop)] {
            require(
                value >= 0.0 && value.is_finite(),
                owner,
                option,
                "a number of at least 0",
                value,
            )?;
        }
        let columns = Columns::new(owner, shape, &o.features)?;
        let unfit = |why: &str| {
            Err(Error::Unfit {
                owner: owner.into(),
                why: why.into(),
            })
        };
        if columns.dim() == 0 {
            return unfit("it learns from features and this environment has none; use ucb1, kl-ucb or beta-ts");
        }
        let model = match o.model {
            Model::Auto if columns.varies() => Model::Shared,
            Model::Auto => spread.without_features,
            named => named,
        };
        if model == Model::Shared && !columns.varies() {
            return unfit("one output cannot tell candidates without features apart; use model=disjoint");
        }
        let slots = match (model, shape.actions) {
            (Model::Shared, _) => 1,
            (_, Some(n)) => n,
            (_, None) => return unfit("where actions come and go they need features, and model=shared"),
        };
        if model == Model::Blocks && spread.dropout > 0.0 {
            return unfit("dropout needs model=shared or model=disjoint");
        }
        let layout = format!(
            "{} {model:?} network of {} x {} hidden units over {} features (spec {:016x}), {slots} actions, {:?}, \
             seed {}",
            spread.members,
            o.layers,
            o.width,
            columns.dim(),
            hash_name(&columns.names().join(",")),
            o.optimiser,
            o.seed,
        );
        let (blocks, outputs) = match model {
            Model::Blocks => (slots, 1),
            _ => (1, slots),
        };
        let root = Key::root(o.seed).name("network");
        let hidden = vec![o.width; o.layers];
        let members = (0..spread.members as u64).map(|m| {
            let mlp = Mlp::new(columns.dim(), blocks, &hidden, outputs, root.name("weights").fold(m));
            Member {
                optimiser: Optimiser::new(o.optimiser, o.rate, o.decay, mlp.weights().len()),
                mlp,
            }
        });
        Ok(Net {
            owner,
            model,
            slots,
            members: members.collect(),
            replay: Replay::new(columns.dim(), o.memory),
            trained: 0,
            options: o.clone(),
            dropout: spread.dropout,
            root,
            layout,
            columns,
        })
    }

    /// The number of networks.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Network `member`.
    pub fn mlp(&self, member: usize) -> &Mlp {
        &self.members[member].mlp
    }

    /// Units of a hidden layer, without padding.
    pub fn width(&self) -> usize {
        self.options.width
    }

    /// Features a row.
    pub fn dim(&self) -> usize {
        self.columns.dim()
    }

    /// Actions with an output or a block of their own; 1 where all share one.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// True where a row is the candidate's and not the round's.
    pub fn is_shared(&self) -> bool {
        self.model == Model::Shared
    }

    /// True where every action has a block of its own, and a hidden layer.
    pub fn blocks(&self) -> bool {
        self.model == Model::Blocks
    }

    /// Rows kept.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The slot of an action.
    ///
    /// # Errors
    /// An action outside the set that the policy was built for.
    pub fn slot(&self, id: ActionId) -> Result<usize> {
        match self.model {
            Model::Shared => Ok(0),
            _ if id.0 < self.slots as u64 => Ok(id.0 as usize),
            _ => Err(Error::Unfit {
                owner: self.owner.into(),
                why: format!("it was built for actions 0 to {}, and met {}", self.slots - 1, id.0),
            }),
        }
    }

    /// Block and output of a slot.
    pub fn place(&self, slot: usize) -> (usize, usize) {
        match self.model {
            Model::Blocks => (slot, 0),
            _ => (0, slot),
        }
    }

    /// Writes the row of candidate `i`.
    fn gather(&self, round: &Round<'_>, i: usize, work: &mut Work) {
        work.wide.resize(self.columns.dim(), 0.0);
        self.columns.gather(round, i, &mut work.wide);
        work.x.clear();
        work.x.extend(work.wide.iter().map(|&v| v as f32));
    }

    /// Calls `each(position, slot, work)` for every candidate, with its row and its activations in `mlp`: a network of
    /// this one's shape.
    ///
    /// # Errors
    /// As [`slot`](Net::slot).
    pub fn evaluate(
        &self,
        mlp: &Mlp,
        round: &Round<'_>,
        work: &mut Work,
        mut each: impl FnMut(usize, usize, &mut Work),
    ) -> Result<()> {
        work.activations.resize(mlp.activations(), 0.0);
        work.deltas.resize(mlp.activations(), 0.0);
        for (i, &id) in round.candidates.ids.iter().enumerate() {
            let slot = self.slot(id)?;
            if i == 0 || self.is_shared() {
                self.gather(round, i, work);
            }
            if i == 0 || self.model != Model::Disjoint {
                mlp.forward(self.place(slot).0, &work.x, &mut work.activations);
            }
            each(i, slot, work);
        }
        Ok(())
    }

    /// What `member` expects of every candidate.
    ///
    /// # Errors
    /// As [`slot`](Net::slot), or weights that are no longer finite.
    pub fn predict(&self, member: usize, round: &Round<'_>, work: &mut Work, out: &mut [f64]) -> Result<()> {
        let mlp = self.mlp(member);
        self.evaluate(mlp, round, work, |i, slot, work| {
            out[i] = f64::from(mlp.output(&work.activations)[self.place(slot).1]);
        })?;
        check_finite(out)
    }

    /// Keeps a row; training waits for [`train`](Net::train).
    ///
    /// # Errors
    /// As [`slot`](Net::slot), or a reward that is not finite.
    pub fn push(&mut self, round: &Round<'_>, chosen: usize, reward: f64, work: &mut Work) -> Result<usize> {
        let slot = self.slot(round.candidates.ids[chosen])?;
        if !(reward as f32).is_finite() {
            return Err(Error::Failed(format!(
                "{}: the reward {reward} is not finite",
                self.owner
            )));
        }
        self.gather(round, chosen, work);
        self.replay.push(&work.x, reward as f32, slot);
        Ok(slot)
    }

    /// Trains, if the schedule says so after the row that was kept last; true if it did.
    ///
    /// # Errors
    /// What candle refuses, or weights that are no longer finite; then they stay as they were.
    pub fn train(&mut self) -> Result<bool> {
        let seen = self.replay.seen();
        if seen > self.options.warm && !seen.is_multiple_of(self.options.every) {
            return Ok(false);
        }
        for m in 0..self.members.len() {
            let mut member = self.members[m].clone();
            let (mut pass, mut error) = (0, 0.0);
            for step in 0..self.options.steps {
                error += self.step(m as u64, self.trained + step, &mut member)?;
                pass += self.options.batch;
                if self.options.stop > 0.0 && pass >= self.replay.len() {
                    if error / pass as f64 <= self.options.stop {
                        break;
                    }
                    (pass, error) = (0, 0.0);
                }
            }
            if !member.mlp.weights().iter().all(|w| w.is_finite()) {
                return Err(Error::Failed(format!(
                    "{}: the network diverged; lower `rate` or scale features and rewards",
                    self.owner
                )));
            }
            self.members[m] = member;
        }
        self.trained += self.options.steps;
        Ok(true)
    }

    /// One step; returns the sum of squared errors where it is asked for.
    fn step(&self, m: u64, step: u64, member: &mut Member) -> Result<f64> {
        const BATCH: u64 = hash_name("batch");
        let mut gradient = Vec::new();
        let mut error = 0.0;
        let rows = self
            .replay
            .sample(self.root.fold(BATCH).fold(m), step, self.options.batch);
        // A row or two, or rows of mostly zeros, cost less one by one than as tensors.
        if self.model == Model::Blocks || (self.options.batch < 4 && self.dropout == 0.0) {
            let mut activations = vec![0.0; member.mlp.activations()];
            let mut deltas = activations.clone();
            let mut seed = vec![0.0; member.mlp.outputs()];
            for row in rows {
                let (block, output) = self.place(row.slot);
                let mlp = &mut member.mlp;
                mlp.forward(block, row.x, &mut activations);
                let off = mlp.output(&activations)[output] - row.reward;
                error += f64::from(off) * f64::from(off);
                seed.fill(0.0);
                seed[output] = self.weight(m, &row) * off;
                mlp.deltas(&activations, &seed, &mut deltas);
                if self.options.batch == 1
                    && let Some(rate) = member.optimiser.plain(mlp.weights_mut())
                {
                    mlp.descend(rate, block, row.x, &activations, &deltas);
                    return Ok(error);
                }
                gradient.resize(mlp.weights().len(), 0.0);
                let scale = 1.0 / self.options.batch as f32;
                mlp.add_gradient(scale, block, row.x, &activations, &deltas, &mut gradient);
            }
        } else {
            error = self.batch_gradient(m, step, &member.mlp, rows, &mut gradient)?;
        }
        member.optimiser.step(member.mlp.weights_mut(), &gradient);
        Ok(error)
    }

    fn batch_gradient<'r>(
        &self,
        m: u64,
        step: u64,
        mlp: &Mlp,
        rows: impl Iterator<Item = Kept<'r>>,
        gradient: &mut Vec<f32>,
    ) -> Result<f64> {
        const MASK: u64 = hash_name("mask");
        let n = self.options.batch;
        let width = padded(mlp.outputs());
        let mut x = Vec::with_capacity(n * self.dim());
        let (mut target, mut weight) = (vec![0.0; n * width], vec![0.0; n * width]);
        let mut chosen = Vec::with_capacity(n);
        for (i, row) in rows.enumerate() {
            x.extend_from_slice(row.x);
            let at = i * width + self.place(row.slot).1;
            target[at] = row.reward;
            weight[at] = self.weight(m, &row);
            chosen.push((at, row.reward));
        }
        let graph = Graph::new(mlp)?;
        let mut masks = Vec::new();
        if self.dropout > 0.0 {
            let mut draws = self.root.fold(MASK).fold(m).fold(step).draws();
            let kept = (1.0 / (1.0 - self.dropout)) as f32;
            for _ in 0..self.options.layers {
                let units = (0..n * padded(self.width())).map(|_| match draws.uniform() < self.dropout {
                    true => 0.0,
                    false => kept,
                });
                masks.push(graph.constant(units.collect(), n)?);
            }
        }
        let output = graph.forward(&graph.constant(x, n)?, &masks)?;
        let (target, weight) = (graph.constant(target, n)?, graph.constant(weight, n)?);
        let by = graph::squared_error(&output, &target, &weight, n)?;
        graph.gradient(&by, gradient)?;
        if self.options.stop == 0.0 {
            return Ok(0.0);
        }
        let outputs = graph::numbers(&output)?;
        let off = |(at, reward): &(usize, f32)| f64::from(outputs[*at] - reward);
        Ok(chosen.iter().map(|c| off(c) * off(c)).sum())
    }

    /// What a row counts in an ensemble's member: exponential weights, the Bayesian bootstrap (Rubin 1981).
    fn weight(&self, m: u64, row: &Kept<'_>) -> f32 {
        const BOOTSTRAP: u64 = hash_name("bootstrap");
        if self.members.len() == 1 {
            return 1.0;
        }
        self.root.fold(BOOTSTRAP).fold(m).fold(row.number).draws().exponential() as f32
    }

    /// What a saved state must agree with.
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// Adds networks and rows to a saved state.
    pub fn write(&self, out: &mut Writer) {
        out.features(self.columns.names());
        for (m, member) in self.members.iter().enumerate() {
            out.f32s(&format!("network.{m}"), member.mlp.weights());
            member.optimiser.write(&format!("optimiser.{m}"), out);
        }
        out.u64s("trained", [self.trained]);
        self.replay.write(out);
    }

    /// Reads what [`write`](Net::write) wrote; the caller reads the rest and then assigns.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(&self, from: &mut Reader<'_>) -> Result<Net> {
        let mut net = self.clone();
        for (m, member) in net.members.iter_mut().enumerate() {
            let weights = from.f32s(&format!("network.{m}"))?;
            if weights.len() != member.mlp.weights().len() {
                return Err(from.refuse("its network is of another size"));
            }
            member.mlp.weights_mut().copy_from_slice(&weights);
            member.optimiser = member.optimiser.read(&format!("optimiser.{m}"), from)?;
        }
        net.trained = from.count("trained")?;
        net.replay = self.replay.read(self.slots, from)?;
        Ok(net)
    }
}

/// Refuses estimates that are no numbers.
///
/// # Errors
/// [`Error::Failed`] with the first of them.
pub fn check_finite(estimates: &[f64]) -> Result<()> {
    match estimates.iter().find(|e| !e.is_finite()) {
        None => Ok(()),
        Some(e) => Err(Error::Failed(format!(
            "a network's estimate is {e}; scale the features"
        ))),
    }
}
