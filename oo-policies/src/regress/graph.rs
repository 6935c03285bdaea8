//! The gradient of a batch by candle's automatic differentiation.
//!
//! The graph is candle's; on a CPU its dense layers are an operation of our own (`Dense`), computed by the loops of
//! [`lanes`], so that the bits depend on neither the number of threads nor the processor. With the
//! feature `cuda` the graph runs on the first CUDA device where there is one, on candle's own products.

use super::lanes::{self, Left};
use super::mlp::Mlp;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor, Var};
use oo_core::{Error, Result};

/// candle's error as ours.
pub fn failed(e: candle_core::Error) -> Error {
    Error::Failed(format!("training a network: {e}"))
}

/// The first CUDA device, opened once for the whole program.
#[cfg(feature = "cuda")]
fn device() -> Result<Device> {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    if let Some(device) = DEVICE.get() {
        return Ok(device.clone());
    }
    let device = Device::cuda_if_available(0).map_err(failed)?;
    Ok(DEVICE.get_or_init(|| device).clone())
}

#[cfg(not(feature = "cuda"))]
fn device() -> Result<Device> {
    Ok(Device::Cpu)
}

/// The numbers of a tensor that lies as it is shaped.
fn stored<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => Err(candle_core::Error::RequiresContiguous { op: "dense" }),
    }
}

/// What a layer and the two halves of its gradient compute.
#[derive(Clone, Copy)]
enum Dense {
    /// x W + b.
    Layer,
    /// g Wᵀ.
    Input,
    /// xᵀ g.
    Matrix,
    /// 1ᵀ g.
    Bias,
}

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, g, b) = (stored(s1, l1)?, stored(s2, l2)?, stored(s3, l3)?);
        let ((rows, columns), (inner, width)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        let across = |data, down, right| Left { data, down, right };
        let (out, shape) = match self {
            Dense::Layer => {
                let mut out = b.repeat(rows);
                lanes::product(across(x, columns, 1), g, &mut out, columns, width);
                (out, (rows, width))
            }
            Dense::Input => {
                let mut turned = Vec::new();
                let padded = lanes::padded(inner);
                lanes::transpose(g, width, padded, &mut turned);
                let mut out = vec![0.0; rows * padded];
                lanes::product(across(x, columns, 1), &turned, &mut out, columns, padded);
                if padded != inner {
                    out = out
                        .chunks_exact(padded)
                        .flat_map(|row| &row[..inner])
                        .copied()
                        .collect();
                }
                (out, (rows, inner))
            }
            Dense::Matrix => {
                let mut out = vec![0.0; columns * width];
                lanes::product(across(x, 1, columns), g, &mut out, rows, width);
                (out, (columns, width))
            }
            Dense::Bias => {
                let mut out = vec![0.0; width];
                lanes::product(across(&vec![1.0; inner], inner, 1), g, &mut out, inner, width);
                (out, (1, width))
            }
        };
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        // The gradient of the features is nobody's.
        let input = match x.track_op() {
            true => Some(g.apply_op3_no_bwd(w, b, &Dense::Input)?),
            false => None,
        };
        Ok((
            input,
            Some(x.apply_op3_no_bwd(&g, b, &Dense::Matrix)?),
            Some(x.apply_op3_no_bwd(&g, b, &Dense::Bias)?),
        ))
    }
}

/// A network on the device of its training.
pub struct Graph {
    device: Device,
    /// Matrix and bias, layer after layer.
    parts: Vec<Var>,
}

impl Graph {
    /// Copies the weights. For networks of one block.
    ///
    /// # Errors
    /// What candle refuses; likewise below.
    pub fn new(mlp: &Mlp) -> Result<Self> {
        let device = device()?;
        let mut parts = Vec::new();
        for layer in mlp.layers() {
            let w = &mlp.weights()[layer.matrix..layer.bias];
            let b = &mlp.weights()[layer.bias..layer.bias + layer.outputs];
            for (slice, rows) in [(w, layer.inputs), (b, 1)] {
                let tensor = Tensor::from_slice(slice, (rows, layer.outputs), &device).map_err(failed)?;
                parts.push(Var::from_tensor(&tensor).map_err(failed)?);
            }
        }
        Ok(Graph { device, parts })
    }

    /// A constant of `rows` rows.
    pub fn constant(&self, numbers: Vec<f32>, rows: usize) -> Result<Tensor> {
        let columns = numbers.len() / rows.max(1);
        Tensor::from_vec(numbers, (rows, columns), &self.device).map_err(failed)
    }

    /// The outputs, padded, for a batch of rows; hidden layer `l` is multiplied by `masks[l]` where there are masks.
    pub fn forward(&self, x: &Tensor, masks: &[Tensor]) -> Result<Tensor> {
        let layers = self.parts.len() / 2;
        let mut a = x.clone();
        for l in 0..layers {
            let (w, b) = (&self.parts[2 * l], &self.parts[2 * l + 1]);
            a = match self.device {
                Device::Cpu => a.apply_op3(w, b, Dense::Layer),
                _ => a.matmul(w).and_then(|p| p.broadcast_add(b)),
            }
            .map_err(failed)?;
            if l + 1 < layers {
                a = a.relu().map_err(failed)?;
                if let Some(mask) = masks.get(l) {
                    a = a.mul(mask).map_err(failed)?;
                }
            }
        }
        Ok(a)
    }

    /// Writes the gradient of the loss by all weights into `gradient`, in the order of [`Mlp::weights`].
    pub fn gradient(&self, by: &candle_core::backprop::GradStore, gradient: &mut Vec<f32>) -> Result<()> {
        gradient.clear();
        for part in &self.parts {
            let tensor = by
                .get(part)
                .ok_or_else(|| Error::Failed("training a network: a weight has no gradient".into()))?;
            gradient.extend_from_slice(&numbers(tensor)?);
        }
        Ok(())
    }
}

/// Σ weightᵢⱼ (outputᵢⱼ − targetᵢⱼ)² / (2 · rows), and its gradients.
///
/// # Errors
/// What candle refuses.
pub fn squared_error(
    output: &Tensor,
    target: &Tensor,
    weight: &Tensor,
    rows: usize,
) -> Result<candle_core::backprop::GradStore> {
    let loss = || -> candle_core::Result<_> {
        let error = output.sub(target)?;
        let loss = error.sqr()?.mul(weight)?.sum_all()?.affine(0.5 / rows as f64, 0.0)?;
        loss.backward()
    };
    loss().map_err(failed)
}

/// A tensor's numbers, row after row.
///
/// # Errors
/// What candle refuses.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn a_batch_is_the_mean_of_its_rows() {
        let (rows, d, outputs) = (6, 5, 3);
        let mlp = Mlp::new(d, 1, &[20, 7], outputs, Key::root(3));
        let mut draws = Key::root(4).draws();
        let x: Vec<f32> = (0..rows * d).map(|_| draws.normal() as f32).collect();
        let width = lanes::padded(outputs);
        let (mut weight, mut target) = (vec![0.0; rows * width], vec![0.0; rows * width]);
        let mut plain = vec![0.0; mlp.weights().len()];
        for i in 0..rows {
            let (slot, reward) = (i % outputs, draws.normal() as f32);
            weight[i * width + slot] = 1.0;
            target[i * width + slot] = reward;
            let mut activations = vec![0.0; mlp.activations()];
            let mut deltas = activations.clone();
            let row = &x[i * d..(i + 1) * d];
            mlp.forward(0, row, &mut activations);
            let mut seed = vec![0.0; outputs];
            seed[slot] = mlp.output(&activations)[slot] - reward;
            mlp.deltas(&activations, &seed, &mut deltas);
            mlp.add_gradient(1.0 / rows as f32, 0, row, &activations, &deltas, &mut plain);
        }
        let graph = Graph::new(&mlp).unwrap();
        let x = graph.constant(x, rows).unwrap();
        let output = graph.forward(&x, &[]).unwrap();
        let (target, weight) = (
            graph.constant(target, rows).unwrap(),
            graph.constant(weight, rows).unwrap(),
        );
        let by = squared_error(&output, &target, &weight, rows).unwrap();
        let mut gradient = Vec::new();
        graph.gradient(&by, &mut gradient).unwrap();
        assert_eq!(gradient.len(), plain.len());
        for (i, (a, b)) in gradient.iter().zip(&plain).enumerate() {
            assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{i}: {a} {b}");
        }
    }
}
