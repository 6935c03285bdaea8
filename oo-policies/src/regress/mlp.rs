//! A network of ReLU layers in f32, and what is done to it a row at a time.
//!
//! aₗ = max(0, Wₗᵀ aₗ₋₁ + bₗ), the last layer without the max. All weights lie in one vector: layer after layer the
//! matrix, one row an input, then the biases; layers are padded to whole vectors of 16 with weights that are 0 and
//! stay 0. The first matrix may be a stack of `blocks` matrices, of which an input names one: that is the paper's long
//! row with the features in the action's block and zeros elsewhere (dimension d·K), without the zeros.
//!
//! A row's forward pass and its gradient are loops over these slices; batches are trained through candle
//! ([`graph`](super::graph)). Measured with 54 features, two layers of 100 and 7 outputs: a row takes 1.0 µs here
//! and 9.4 µs
//! as a graph, whose every operation allocates; 64 rows one by one take 295 µs here and 178 µs as a graph over our
//! products (`benches/README.md`).

use super::lanes::{self, Left, padded};
use oo_core::Key;

/// The network.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Features, then units a layer; all but the first padded.
    sizes: Vec<usize>,
    blocks: usize,
    outputs: usize,
    weights: Vec<f32>,
}

/// One layer's place in the vector of weights.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Where its matrix begins.
    pub matrix: usize,
    /// Where its biases begin.
    pub bias: usize,
    /// Rows of the matrix, of one block in the first layer.
    pub inputs: usize,
    /// Columns of the matrix.
    pub outputs: usize,
}

impl Mlp {
    /// Weights N(0, 2/inputs) (He et al. 2015) from `key`, biases 0.
    pub fn new(inputs: usize, blocks: usize, hidden: &[usize], outputs: usize, key: Key) -> Self {
        let mut sizes = vec![inputs];
        sizes.extend(hidden.iter().map(|&h| padded(h)));
        sizes.push(padded(outputs));
        let mut mlp = Mlp {
            sizes,
            blocks,
            outputs,
            weights: Vec::new(),
        };
        let len = mlp.layers().last().map_or(0, |l| l.bias + l.outputs);
        mlp.weights = vec![0.0; len];
        let real = |l: usize, end: bool| match l + usize::from(end) {
            0 => inputs,
            at => hidden.get(at - 1).copied().unwrap_or(outputs),
        };
        for (l, layer) in mlp.layers().enumerate() {
            let (inputs, outputs) = (real(l, false), real(l, true));
            let sd = (2.0 / inputs.max(1) as f64).sqrt();
            let mut draws = key.fold(l as u64).draws();
            for block in 0..if l == 0 { blocks } else { 1 } {
                for i in 0..inputs {
                    let at = layer.matrix + (block * layer.inputs + i) * layer.outputs;
                    mlp.weights[at..at + outputs].fill_with(|| (sd * draws.normal()) as f32);
                }
            }
        }
        mlp
    }

    /// The layers, from the features up.
    pub fn layers(&self) -> impl Iterator<Item = Layer> + use<> {
        let (sizes, blocks) = (self.sizes.clone(), self.blocks);
        let mut from = 0;
        (0..sizes.len() - 1).map(move |l| {
            let (inputs, outputs) = (sizes[l], sizes[l + 1]);
            let matrix = from;
            let bias = matrix + inputs * outputs * if l == 0 { blocks } else { 1 };
            from = bias + outputs;
            Layer {
                matrix,
                bias,
                inputs,
                outputs,
            }
        })
    }

    /// Features a row.
    pub fn inputs(&self) -> usize {
        self.sizes[0]
    }

    /// Stacked first matrices; 1 for an ordinary network.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Outputs, without padding.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// All weights.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// All weights, to be changed. What is padding must stay 0.
    pub fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }

    /// Numbers that [`forward`](Mlp::forward) fills: the activations of every layer but the features, one after
    /// another.
    pub fn activations(&self) -> usize {
        self.sizes[1..].iter().sum()
    }

    /// Where the last hidden layer lies among the activations; the features themselves where there is none.
    pub fn last_hidden(&self) -> Option<std::ops::Range<usize>> {
        let end = self.activations() - self.sizes[self.sizes.len() - 1];
        (self.sizes.len() > 2).then(|| end - self.sizes[self.sizes.len() - 2]..end)
    }

    /// The outputs among the activations.
    pub fn output<'a>(&self, activations: &'a [f32]) -> &'a [f32] {
        let from = self.activations() - self.sizes[self.sizes.len() - 1];
        &activations[from..from + self.outputs]
    }

    /// Fills the activations of row `x` in `block`. `masked(layer, units)` may change the units of a hidden layer once
    /// they are known.
    pub fn forward_with(
        &self,
        block: usize,
        x: &[f32],
        activations: &mut [f32],
        masked: impl FnMut(usize, &mut [f32]),
    ) {
        self.forward_from(0, block, x, activations, masked);
    }

    /// The same from layer `first` on, where what lies below is known already.
    pub fn forward_from(
        &self,
        first: usize,
        block: usize,
        x: &[f32],
        activations: &mut [f32],
        mut masked: impl FnMut(usize, &mut [f32]),
    ) {
        let mut begin = 0;
        let mut inputs_at = 0;
        for (l, layer) in self.layers().enumerate() {
            let (below, own) = activations.split_at_mut(begin);
            let own = &mut own[..layer.outputs];
            if l >= first {
                let matrix = match l {
                    0 => layer.matrix + block * layer.inputs * layer.outputs,
                    _ => layer.matrix,
                };
                let input = if l == 0 { x } else { &below[inputs_at..] };
                own.copy_from_slice(&self.weights[layer.bias..layer.bias + layer.outputs]);
                let left = Left {
                    data: input,
                    down: layer.inputs,
                    right: 1,
                };
                lanes::product(left, &self.weights[matrix..], own, layer.inputs, layer.outputs);
                if l + 2 < self.sizes.len() {
                    own.iter_mut().for_each(|v| *v = v.max(0.0));
                }
            }
            if l + 2 < self.sizes.len() {
                masked(l, own);
            }
            inputs_at = begin;
            begin += layer.outputs;
        }
    }

    /// Fills the activations of row `x` in `block`.
    pub fn forward(&self, block: usize, x: &[f32], activations: &mut [f32]) {
        self.forward_with(block, x, activations, |_, _| ());
    }

    /// Turns activations into the derivatives of Σ seedₒ · outputₒ by what goes into each unit; `deltas` is as long as
    /// the activations.
    pub fn deltas(&self, activations: &[f32], seed: &[f32], deltas: &mut [f32]) {
        let mut end = self.activations();
        let last = self.sizes[self.sizes.len() - 1];
        deltas[end - last..end].fill(0.0);
        deltas[end - last..end - last + seed.len()].copy_from_slice(seed);
        let layers: Vec<Layer> = self.layers().collect();
        for layer in layers[1..].iter().rev() {
            let begin = end - layer.outputs;
            let (below, own) = deltas.split_at_mut(begin);
            let below = &mut below[begin - layer.inputs..];
            let matrix = &self.weights[layer.matrix..layer.bias];
            lanes::dots(matrix, &own[..layer.outputs], below);
            for (d, a) in below.iter_mut().zip(&activations[begin - layer.inputs..begin]) {
                if *a <= 0.0 {
                    *d = 0.0;
                }
            }
            end = begin;
        }
    }

    /// Calls `each(matrix, bias, inputs, deltas)` for every layer: the gradient of its matrix is the outer product of
    /// inputs and deltas, that of its biases the deltas.
    pub fn gradients<'a>(
        &self,
        block: usize,
        x: &'a [f32],
        activations: &'a [f32],
        deltas: &'a [f32],
        mut each: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, &'a [f32], &'a [f32]),
    ) {
        let mut begin = 0;
        let mut input = x;
        for (l, layer) in self.layers().enumerate() {
            let len = layer.inputs * layer.outputs;
            let matrix = layer.matrix + if l == 0 { block * len } else { 0 };
            each(
                matrix..matrix + len,
                layer.bias..layer.bias + layer.outputs,
                &input[..layer.inputs],
                &deltas[begin..begin + layer.outputs],
            );
            input = &activations[begin..];
            begin += layer.outputs;
        }
    }

    /// Adds `scale` times the gradient of Σ seedₒ · outputₒ to `gradient`.
    pub fn add_gradient(
        &self,
        scale: f32,
        block: usize,
        x: &[f32],
        activations: &[f32],
        deltas: &[f32],
        gradient: &mut [f32],
    ) {
        self.gradients(block, x, activations, deltas, |matrix, bias, inputs, deltas| {
            lanes::outer(scale, inputs, deltas, &mut gradient[matrix]);
            gradient[bias].iter_mut().zip(deltas).for_each(|(g, d)| *g += scale * d);
        });
    }

    /// Moves the weights by −`rate` times the gradient of Σ seedₒ · outputₒ.
    pub fn descend(&mut self, rate: f32, block: usize, x: &[f32], activations: &[f32], deltas: &[f32]) {
        let mut weights = std::mem::take(&mut self.weights);
        self.add_gradient(-rate, block, x, activations, deltas, &mut weights);
        self.weights = weights;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (blocks, hidden, outputs) in [(1, &[20usize, 7][..], 3), (4, &[9][..], 1), (1, &[][..], 2)] {
            let mut mlp = Mlp::new(5, blocks, hidden, outputs, Key::root(3));
            let mut draws = Key::root(4).draws();
            let x: Vec<f32> = (0..5).map(|_| draws.normal() as f32).collect();
            let seed: Vec<f32> = (0..outputs).map(|_| draws.normal() as f32).collect();
            let block = blocks - 1;
            let mut activations = vec![0.0; mlp.activations()];
            let mut deltas = activations.clone();
            let value = |mlp: &Mlp, activations: &mut [f32]| -> f64 {
                mlp.forward(block, &x, activations);
                let out = mlp.output(activations).iter().zip(&seed);
                out.map(|(o, s)| f64::from(*o) * f64::from(*s)).sum()
            };
            value(&mlp, &mut activations);
            mlp.deltas(&activations, &seed, &mut deltas);
            let mut gradient = vec![0.0; mlp.weights().len()];
            mlp.add_gradient(1.0, block, &x, &activations, &deltas, &mut gradient);
            let mut moved = 0;
            for i in 0..gradient.len() {
                if mlp.weights()[i] == 0.0 && gradient[i] == 0.0 {
                    continue; // padding, a closed unit, or another block
                }
                let before = mlp.weights()[i];
                let step = 1e-3;
                mlp.weights_mut()[i] = before + step;
                let high = value(&mlp, &mut activations.clone());
                mlp.weights_mut()[i] = before - step;
                let low = value(&mlp, &mut activations.clone());
                mlp.weights_mut()[i] = before;
                let slope = (high - low) / (2.0 * f64::from(step));
                assert!(
                    (slope - f64::from(gradient[i])).abs() < 2e-3 * (1.0 + slope.abs()),
                    "{i}: {slope} {}",
                    gradient[i]
                );
                moved += 1;
            }
            assert!(moved > 10);
        }
    }
}
