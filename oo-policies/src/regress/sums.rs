//! The evidence in a ridge regression, without its prior: Σ xxᵀ and Σ r x.
//!
//! Sums are what can be carried elsewhere. Those of fewer columns are a block of those of more, so dropping a column is
//! exact: it equals never having seen it. A new column has zeros: it equals a feature that was 0 in every row so far.
//! Sums times w are the sums of rows that count w times. The penalty is added by whoever starts from them.

use super::symmetric::{Symmetric, padded};
use crate::state::{Reader, Writer};
use oo_core::Result;

/// See the module.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Rows behind the sums, however much they count.
    pub rows: u64,
    /// Σ xxᵀ.
    pub gram: Symmetric,
    /// Σ r x, padded.
    pub moment: Vec<f64>,
}

impl Sums {
    /// No rows.
    pub fn new(dim: usize) -> Self {
        Sums {
            rows: 0,
            gram: Symmetric::diagonal(dim, 0.0),
            moment: vec![0.0; padded(dim)],
        }
    }

    /// Lets every row count `weight` times.
    pub fn weigh(&mut self, weight: f64) {
        self.gram.scale(weight);
        self.moment.iter_mut().for_each(|m| *m *= weight);
    }

    /// The sums over other columns: the new column `j` is this one's column `from[j]`, or a feature that was always 0.
    #[must_use]
    pub fn onto(&self, from: &[Option<usize>]) -> Sums {
        let mut to = Sums::new(from.len());
        to.rows = self.rows;
        to.gram = self.gram.onto(from, 0.0);
        for (m, from) in to.moment.iter_mut().zip(from) {
            *m = from.map_or(0.0, |j| self.moment[j]);
        }
        to
    }

    /// Saves several under names that begin with `prefix`; [`Ridge::read_all`](super::Ridge::read_all) reads them and
    /// adds its own penalty.
    pub fn write_all(all: &[Sums], prefix: &str, out: &mut Writer) {
        let name = |part: &str| format!("{prefix}.{part}");
        out.u64s(&name("rows"), all.iter().map(|s| s.rows));
        out.f64s(&name("gram"), all.iter().flat_map(|s| s.gram.data().as_flattened()));
        out.f64s(&name("moment"), all.iter().flat_map(|s| &s.moment));
    }

    /// Reads the sums of regressions over rows of `dim` numbers: bare ones, or those that whole regressions stand on.
    ///
    /// # Errors
    /// Numbers that are missing or left over.
    pub fn read_all(dim: usize, prefix: &str, from: &mut Reader<'_>) -> Result<Vec<Sums>> {
        let name = |part: &str| format!("{prefix}.{part}");
        let rows = from.u64s(&name("rows"))?;
        let mut gram = from.f64s(&name("gram"))?;
        let mut moment = from.f64s(&name("moment"))?;
        let mut penalty = vec![0.0; rows.len()];
        if from.has(&name("penalty")) {
            penalty = from.f64s(&name("penalty"))?;
            // They follow from the rest.
            from.f64s(&name("inverse"))?;
            from.f64s(&name("theta"))?;
        }
        let blank = Sums::new(dim);
        let block = blank.gram.data().as_flattened().len();
        let len = blank.moment.len();
        if gram.len() != rows.len() * block || moment.len() != rows.len() * len || penalty.len() != rows.len() {
            return Err(from.refuse(format!("the sums `{prefix}` do not hold together")));
        }
        let mut all = vec![blank; rows.len()];
        for (i, sums) in all.iter_mut().enumerate() {
            sums.rows = rows[i];
            let own = sums.gram.data_mut().as_flattened_mut();
            own.swap_with_slice(&mut gram[i * block..(i + 1) * block]);
            sums.gram.add_diagonal(-penalty[i]);
            sums.moment.swap_with_slice(&mut moment[i * len..(i + 1) * len]);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regress::Ridge;
    use oo_core::Key;

    const ROWS: u64 = 500;

    /// Row `t` of six features, and its reward.
    fn row(t: u64) -> ([f64; 6], f64) {
        let mut draws = Key::root(31).fold(t).draws();
        let x: [f64; 6] = std::array::from_fn(|_| draws.normal());
        let reward = x[0] - 0.5 * x[3] + 0.3 * x[5] + 0.2 * draws.normal();
        (x, reward)
    }

    /// Learns `ROWS` rows of `columns` features each, the given ones of the six or a 0, `weight` times.
    fn fitted(columns: &[Option<usize>], lambda: f64, weight: f64) -> Ridge {
        let mut ridge = Ridge::new(columns.len(), lambda);
        for t in 0..ROWS {
            let (all, reward) = row(t);
            let mut x = vec![0.0; padded(columns.len())];
            for (x, column) in x.iter_mut().zip(columns) {
                *x = weight.sqrt() * column.map_or(0.0, |j| all[j]);
            }
            ridge.update(&x, weight.sqrt() * reward).unwrap();
        }
        ridge
    }

    fn through_a_file(ridge: &Ridge, onto: &[Option<usize>], weight: f64, lambda: f64) -> Ridge {
        let mut w = Writer::new("x", "");
        Ridge::write_all(std::slice::from_ref(ridge), "a", &mut w);
        let bytes = w.finish();
        let mut sums = Sums::read_all(ridge.dim(), "a", &mut Reader::new("x", "", &bytes).unwrap()).unwrap();
        sums.iter_mut().for_each(|s| {
            s.weigh(weight);
            *s = s.onto(onto);
        });
        let mut w = Writer::new("x", "");
        Sums::write_all(&sums, "a", &mut w);
        let bytes = w.finish();
        let mut reader = Reader::new("x", "", &bytes).unwrap();
        let read = Ridge::new(onto.len(), lambda).read_all("a", &mut reader).unwrap();
        reader.finish().unwrap();
        read.into_iter().next().unwrap()
    }

    fn agree(a: &Ridge, b: &Ridge) {
        assert_eq!((a.rows(), a.dim()), (b.rows(), b.dim()));
        for (a, b) in a.theta().iter().zip(b.theta()) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        for (i, j) in (0..a.dim()).flat_map(|i| (0..a.dim()).map(move |j| (i, j))) {
            let (a, b) = (a.inverse().get(i, j), b.inverse().get(i, j));
            assert!((a - b).abs() < 1e-12, "{i} {j}: {a} {b}");
        }
    }

    /// A block of the sums, in another order, is what learning only those columns gives; columns that are new are
    /// columns that were always 0; the penalty is the new one.
    #[test]
    fn what_is_kept_equals_a_direct_fit() {
        let six: Vec<Option<usize>> = (0..6).map(Some).collect();
        let whole = fitted(&six, 1.0, 1.0);
        for onto in [
            vec![Some(4), Some(0), Some(5)],
            vec![Some(5), None, Some(1), None, Some(0), Some(2), Some(3), Some(4), None],
            vec![None, Some(3)],
        ] {
            for lambda in [1.0, 0.01, 30.0] {
                agree(&through_a_file(&whole, &onto, 1.0, lambda), &fitted(&onto, lambda, 1.0));
            }
        }
    }

    #[test]
    fn a_weight_equals_rows_that_count_so_often() {
        let six: Vec<Option<usize>> = (0..6).map(Some).collect();
        let whole = fitted(&six, 1.0, 1.0);
        for weight in [1.0, 0.01, 3.0] {
            agree(&through_a_file(&whole, &six, weight, 2.0), &fitted(&six, 2.0, weight));
        }
        // What fades keeps its evidence apart from its penalty, too.
        let mut faded = whole.clone();
        (0..7).for_each(|_| faded.fade(0.99).unwrap());
        let weight = libm::pow(0.99, 7.0);
        agree(&through_a_file(&faded, &six, 1.0, 2.0), &fitted(&six, 2.0, weight));
    }
}
