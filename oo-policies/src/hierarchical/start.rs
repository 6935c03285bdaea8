//! What some people taught about people, for others to start from. Nobody's own rows are in it.
//!
//! With Σ and σ² at their last estimates, the people of a population say three things: of μ, a precision and its product
//! with the mean; of Σ, Σᵤ (Vᵤ + (θ̂ᵤ − μ̂)(θ̂ᵤ − μ̂)ᵀ) from U people; of σ², the expected squares of N rows. All are sums:
//! the new population's prior is added to them, its own people come on top, and a factor says how much the old people
//! count. What was said of μ depends on Σ; it is kept as it was under the old one.

use crate::regress::Sums;
use crate::regress::symmetric::Symmetric;
use crate::state::{Reader, Writer};
use oo_core::Result;

/// See the module.
#[derive(Clone, Debug)]
pub struct Start {
    /// Of μ: its precision and its product with the mean.
    pub common: Sums,
    /// Of Σ: the sum over people.
    pub between: Symmetric,
    /// Their number, U.
    pub people: f64,
    /// Of σ²: expected squares.
    pub within: f64,
    /// The rows behind them, N.
    pub rows: f64,
}

impl Start {
    /// Nobody before.
    pub fn nobody(dim: usize) -> Self {
        Start {
            common: Sums::new(dim),
            between: Symmetric::diagonal(dim, 0.0),
            people: 0.0,
            within: 0.0,
            rows: 0.0,
        }
    }

    /// Lets everybody count `weight` times.
    pub fn weigh(&mut self, weight: f64) {
        self.common.weigh(weight);
        self.between.scale(weight);
        for sum in [&mut self.people, &mut self.within, &mut self.rows] {
            *sum *= weight;
        }
    }

    /// Over other columns, as [`Sums::onto`]; people differ by `spread` in a new one, as the prior says.
    #[must_use]
    pub fn onto(&self, from: &[Option<usize>], spread: f64) -> Start {
        Start {
            common: self.common.onto(from),
            between: self.between.onto(from, self.people * spread),
            ..*self
        }
    }

    /// Adds it to a saved state, where anybody was before.
    pub fn write(&self, out: &mut Writer) {
        if self.people == 0.0 {
            return;
        }
        Sums::write_all(std::slice::from_ref(&self.common), "start", out);
        out.f64s("start.between", self.between.data().as_flattened());
        out.f64s("start.counts", &[self.people, self.within, self.rows]);
    }

    /// Reads what [`write`](Start::write) wrote, for `dim` features.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(dim: usize, from: &mut Reader<'_>) -> Result<Start> {
        let mut start = Start::nobody(dim);
        if from.has("start.counts") {
            let common = Sums::read_all(dim, "start", from)?;
            let [common] = <[Sums; 1]>::try_from(common).map_err(|_| from.refuse("it starts from more than one"))?;
            start.common = common;
            from.fill("start.between", start.between.data_mut().as_flattened_mut())?;
            [start.people, start.within, start.rows] = from.few("start.counts")?;
        }
        Ok(start)
    }
}
