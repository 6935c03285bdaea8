//! A small network: two hidden layers of ReLU units, trained by AdamW on minibatches.
//!
//! Where candidates have features the network has one output; where they have none it has one an arm over layers that
//! all arms share, and only the output of the logged arm is in the loss. Features and rewards are brought to mean 0 and
//! standard deviation 1 over what is learned from; the loss is the squared error, weighted; the rate falls to 0 over
//! the training. Each fold keeps a [`Sample`] of its rows.
//!
//! The graph is candle's, but its matrix products are ours: candle's divide their sums by the number of threads and
//! the processor. Ours add up in one order, without fused multiplication, and get their speed from the compiler.
//!
//! Loshchilov, Hutter (2019), arXiv:1711.05101.

use super::sample::{Sample, Samples};
use super::{Build, Fitted, Made, Model, Offer, Plan, Rows};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Shape, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use oo_core::Key;
use oo_core::registry::OptionHelp;
use oo_core::spec::require;
use serde::{Deserialize, Serialize};

/// The options of `neural`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Units a hidden layer.
    pub hidden: usize,
    /// Minibatches.
    pub steps: usize,
    /// Rows a minibatch.
    pub batch: usize,
    /// First rate of AdamW.
    pub rate: f64,
    /// Decay of the weights.
    pub decay: f64,
    /// Rows kept, over all folds.
    pub rows: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hidden: 32,
            steps: 2000,
            batch: 64,
            rate: 0.005,
            decay: 0.1,
            rows: 50_000,
        }
    }
}

/// See the module.
pub struct Neural {
    config: Config,
    blocks: usize,
    key: Key,
    samples: Samples,
}

impl Build for Neural {
    const NAME: &'static str = "neural";
    const SUMMARY: &'static str = "a small network of two hidden layers";
    const PAPER: &'static str = "Loshchilov, Hutter (2019), arXiv:1711.05101";
    const OPTIONS: &'static [OptionHelp] = &[
        ("hidden", "units in each of the two hidden layers; 1 to 1024"),
        ("steps", "minibatches; at least 1"),
        ("batch", "rows a minibatch; 1 to 4096"),
        ("rate", "first rate of AdamW, falling to 0; above 0, at most 1"),
        ("decay", "decay of the weights, times the rate a step; at least 0"),
        (
            "rows",
            "rows kept to learn from, drawn by the seed where the log has more; at least 2 a fold",
        ),
    ];
    type Config = Config;

    fn build(config: Config, plan: &Plan) -> Result<Made> {
        let c = &config;
        let owner = Self::NAME;
        require((1..=1024).contains(&c.hidden), owner, "hidden", "1 to 1024", c.hidden)?;
        require(c.steps >= 1, owner, "steps", "at least 1", c.steps)?;
        require((1..=4096).contains(&c.batch), owner, "batch", "1 to 4096", c.batch)?;
        require(
            c.rate > 0.0 && c.rate <= 1.0,
            owner,
            "rate",
            "above 0, at most 1",
            c.rate,
        )?;
        let decays = c.decay >= 0.0 && c.decay.is_finite();
        require(decays, owner, "decay", "a number of at least 0", c.decay)?;
        Ok(Some(Box::new(Neural {
            samples: Samples::new(owner, c.rows, plan)?,
            blocks: plan.shape.blocks(),
            key: plan.key.name("neural"),
            config,
        })))
    }
}

impl Model for Neural {
    fn add(&mut self, rows: &Rows) -> Result<()> {
        self.samples.add(rows);
        Ok(())
    }

    fn fit(&self, held_out: Option<usize>) -> Result<Box<dyn Fitted>> {
        let sample = self.samples.without(held_out)?;
        let key = self.key.fold(held_out.map_or(0, |fold| fold as u64 + 1));
        Ok(Box::new(train(&self.config, &sample, self.blocks, key)?))
    }
}

/// C ← C + A B, for A of rows of `inner` numbers and B of rows of `columns`.
fn add_product(a: &[f32], b: &[f32], c: &mut [f32], inner: usize, columns: usize) {
    for (a, c) in a.chunks_exact(inner).zip(c.chunks_exact_mut(columns)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(columns)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
        }
    }
}

/// The product of two matrices, in one order of the sums.
struct Product;

fn stored<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => Err(candle_core::Error::RequiresContiguous { op: "product" }),
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let ((rows, inner), (_, columns)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        let mut out = vec![0.0; rows * columns];
        add_product(stored(s1, l1)?, stored(s2, l2)?, &mut out, inner, columns);
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        // The gradient of the features is nobody's.
        let left = match a.track_op() {
            true => Some(g.apply_op2_no_bwd(&b.t()?.contiguous()?, &Product)?),
            false => None,
        };
        Ok((left, Some(a.t()?.contiguous()?.apply_op2_no_bwd(&g, &Product)?)))
    }
}

/// Mean and standard deviation of a column; 1 for a column that does not vary.
#[derive(Clone, Copy)]
struct Scale {
    mean: f64,
    sd: f64,
}

impl Scale {
    fn of(weighted: impl Iterator<Item = (f64, f64)> + Clone) -> Scale {
        let total: f64 = weighted.clone().map(|(w, _)| w).sum();
        let mean = weighted.clone().map(|(w, x)| w * x).sum::<f64>() / total;
        let variance = weighted.map(|(w, x)| w * (x - mean) * (x - mean)).sum::<f64>() / total;
        let sd = libm::sqrt(variance);
        // What rounding leaves of a constant is no variation.
        let sd = if sd > 1e-9 * mean.abs() { sd } else { 1.0 };
        Scale { mean, sd }
    }
}

/// A trained network.
struct Net {
    features: Vec<Scale>,
    reward: Scale,
    /// Matrix and bias of each layer, rows by inputs.
    layers: [(Vec<f32>, Vec<f32>); 3],
}

/// Weights N(0, 2/inputs) (He et al. 2015).
fn start(inputs: usize, outputs: usize, key: Key) -> candle_core::Result<[Var; 2]> {
    let sd = libm::sqrt(2.0 / inputs as f64);
    let mut draws = key.draws();
    let weights: Vec<f32> = (0..inputs * outputs).map(|_| (sd * draws.normal()) as f32).collect();
    Ok([
        Var::from_vec(weights, (inputs, outputs), &Device::Cpu)?,
        Var::from_vec(vec![0f32; outputs], (1, outputs), &Device::Cpu)?,
    ])
}

fn train(config: &Config, sample: &Sample, outputs: usize, key: Key) -> Result<Net> {
    let rows = &sample.rows;
    // The constant 1 becomes 0: layers have a bias of their own.
    let features: Vec<Scale> = (0..rows.row(0).z.len())
        .map(|j| Scale::of(rows.iter().map(move |r| (r.weight, f64::from(r.z[j])))))
        .collect();
    let reward = Scale::of(rows.iter().map(|r| (r.weight, r.reward)));
    let layers = descend(config, rows, &features, reward, outputs, key)
        .map_err(|e| Error::Refused(format!("training the neural reward model: {e}")))?;
    Ok(Net {
        features,
        reward,
        layers,
    })
}

fn descend(
    config: &Config,
    rows: &Rows,
    features: &[Scale],
    reward: Scale,
    outputs: usize,
    key: Key,
) -> candle_core::Result<[(Vec<f32>, Vec<f32>); 3]> {
    let (d, h) = (features.len(), config.hidden);
    let layers = [
        start(d, h, key.name("layer").fold(0))?,
        start(h, h, key.name("layer").fold(1))?,
        start(h, outputs, key.name("layer").fold(2))?,
    ];
    let mut optimiser = AdamW::new(
        layers.iter().flatten().cloned().collect(),
        ParamsAdamW {
            lr: config.rate,
            weight_decay: config.decay,
            ..ParamsAdamW::default()
        },
    )?;
    let batch = config.batch.min(rows.len());
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut next = order.len();
    for step in 0..config.steps {
        if next + batch > order.len() {
            // Every row once before any twice, in an order that is drawn anew.
            key.name("order").fold(step as u64).draws().shuffle(&mut order);
            next = 0;
        }
        let (mut x, mut weight, mut target) = (
            vec![0.0; batch * d],
            vec![0.0; batch * outputs],
            vec![0.0; batch * outputs],
        );
        for (i, &at) in order[next..next + batch].iter().enumerate() {
            let r = rows.row(at);
            write_scaled(r.z, features, &mut x[i * d..(i + 1) * d]);
            weight[i * outputs + r.block] = r.weight as f32;
            target[i * outputs + r.block] = ((r.reward - reward.mean) / reward.sd) as f32;
        }
        next += batch;
        let constant = |numbers: Vec<f32>, columns| Tensor::from_vec(numbers, (batch, columns), &Device::Cpu);
        let mut a = constant(x, d)?;
        for (l, [matrix, bias]) in layers.iter().enumerate() {
            a = a.apply_op2(matrix, Product)?.broadcast_add(bias)?;
            if l < 2 {
                a = a.relu()?;
            }
        }
        let error = a.sub(&constant(target, outputs)?)?;
        let loss = error.sqr()?.mul(&constant(weight, outputs)?)?.sum_all()?;
        let loss = loss.affine(0.5 / batch as f64, 0.0)?;
        optimiser.set_learning_rate(config.rate * (1.0 - step as f64 / config.steps as f64));
        optimiser.backward_step(&loss)?;
    }
    let numbers = |part: &Var| part.flatten_all().and_then(|t| t.to_vec1::<f32>());
    let [a, b, c] = &layers;
    Ok([
        (numbers(&a[0])?, numbers(&a[1])?),
        (numbers(&b[0])?, numbers(&b[1])?),
        (numbers(&c[0])?, numbers(&c[1])?),
    ])
}

fn write_scaled(z: &[f32], features: &[Scale], out: &mut [f32]) {
    for ((x, &z), scale) in out.iter_mut().zip(z).zip(features) {
        *x = ((f64::from(z) - scale.mean) / scale.sd) as f32;
    }
}

impl Net {
    /// The outputs for features `z`.
    fn forward(&self, z: &[f32]) -> Vec<f32> {
        let mut a = vec![0.0; z.len()];
        write_scaled(z, &self.features, &mut a);
        for (l, (matrix, bias)) in self.layers.iter().enumerate() {
            let mut next = bias.clone();
            add_product(&a, matrix, &mut next, a.len(), bias.len());
            if l < 2 {
                next.iter_mut().for_each(|x| *x = x.max(0.0));
            }
            a = next;
        }
        a
    }
}

impl Fitted for Net {
    fn predict(&self, offer: &Offer<'_>, scratch: &mut Vec<f32>, out: &mut [f64]) -> Result<()> {
        let mut outputs = Vec::new();
        for (i, q) in out.iter_mut().enumerate() {
            if i == 0 || !offer.is_shared() {
                offer.write(i, scratch);
                outputs = self.forward(scratch);
            }
            *q = self.reward.mean + self.reward.sd * f64::from(outputs[offer.block(i)]);
        }
        Ok(())
    }
}
