//! What every model has to pass, and what each must find.

use super::*;
use crate::estimators::{Logged, Sizes, estimate, find};

/// What a world answers: the expected reward of candidate features (or of an arm) in a context.
type Truth = fn(context: &[f32], candidate: &[f32], arm: usize) -> f64;

struct World {
    shape: InputShape,
    candidates: usize,
    truth: Truth,
    /// Rewards are drawn as 0 or 1 with the truth as probability; otherwise normal noise is added.
    binary: bool,
}

/// Candidates are told apart by features; context is one number.
const LINEAR: World = World {
    shape: InputShape {
        context: 1,
        candidate: 3,
        arms: 0,
    },
    candidates: 4,
    truth: |c, z, _| 2.0 + 0.3 * f64::from(c[0]) + 0.5 * f64::from(z[0]) - 0.2 * f64::from(z[1]),
    binary: false,
};

/// Candidates are arms, each with its own log-odds.
const LOGISTIC: World = World {
    shape: InputShape {
        context: 2,
        candidate: 0,
        arms: 3,
    },
    candidates: 3,
    truth: |c, _, arm| 1.0 / (1.0 + libm::exp(1.0 - arm as f64 + f64::from(c[arm % 2]))),
    binary: true,
};

/// No line through it.
const BENT: World = World {
    shape: InputShape {
        context: 2,
        candidate: 0,
        arms: 2,
    },
    candidates: 2,
    truth: |c, _, arm| (f64::from(c[0] * c[1]) > 0.0) as u8 as f64 * (1.0 - 2.0 * arm as f64),
    binary: false,
};

/// Rewards are fair coins whatever is chosen.
const NOISE: World = World {
    shape: InputShape {
        context: 8,
        candidate: 0,
        arms: 4,
    },
    candidates: 4,
    truth: |_, _, _| 0.5,
    binary: true,
};

/// A uniform log of `rows` rows; the target takes the first candidate with 0.7. Also the truth of every candidate.
fn log(world: &World, rows: usize, key: Key) -> (Logged, Inputs, Vec<f64>) {
    let (k, shape) = (world.candidates, world.shape);
    let mut inputs = Inputs::default();
    let (mut action, mut reward, mut truth) = (vec![], vec![], vec![]);
    for row in 0..rows {
        let mut draws = key.fold(row as u64).draws();
        let context: Vec<f32> = (0..shape.context).map(|_| draws.normal() as f32).collect();
        let candidate: Vec<f32> = (0..k * shape.candidate).map(|_| draws.normal() as f32).collect();
        let from = truth.len();
        truth.extend(
            (0..k).map(|i| (world.truth)(&context, &candidate[i * shape.candidate..(i + 1) * shape.candidate], i)),
        );
        let chosen = draws.below(k);
        let mean = truth[from + chosen];
        action.push(chosen as u32);
        reward.push(match world.binary {
            true => f64::from(u8::from(draws.uniform() < mean)),
            false => mean + 0.1 * draws.normal(),
        });
        inputs.context.extend(context);
        inputs.candidate.extend(candidate);
    }
    let rest = 0.3 / (k - 1) as f64;
    let log = Logged {
        action,
        reward,
        propensity: vec![1.0 / k as f64; rows],
        candidates: Sizes::Fixed(k),
        target: (0..rows * k).map(|i| if i % k == 0 { 0.7 } else { rest }).collect(),
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    (log, inputs, truth)
}

fn fitted(spec: &str, world: &World, folds: usize, log: &mut Logged, inputs: &Inputs) {
    let mut fit = CrossFit::new(spec, world.shape, folds, Weighting::Equal, Key::root(9)).unwrap();
    fit.add(log, inputs).unwrap();
    fit.finish().unwrap().fill(log, inputs).unwrap();
}

fn rms(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    libm::sqrt(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / a.len() as f64)
}

/// Error of the predictions against the truth, for a log of `rows` rows of one fixed seed.
fn error(spec: &str, world: &World, rows: usize) -> f64 {
    let (mut log, inputs, truth) = log(world, rows, Key::root(1));
    fitted(spec, world, 3, &mut log, &inputs);
    rms(&log.model, &truth)
}

#[test]
fn each_model_recovers_its_own_truth() {
    // Fixed seeds. The linear model estimates 5 numbers from 4000 rows of noise 0.1: error about 0.1·√(5/4000) = 0.0035.
    let linear = error("linear", &LINEAR, 6000);
    assert!(linear < 0.01, "{linear}");
    // Three arms of 3 numbers from about 4000 rows each: √(3·0.25/4000) = 0.014.
    let logistic = error("logistic", &LOGISTIC, 18_000);
    assert!(logistic < 0.03, "{logistic}");
    // A quarter of the plane pays; a line explains nothing of it (the truth has standard deviation 0.5).
    let (line, net) = (error("linear", &BENT, 6000), error("neural", &BENT, 6000));
    assert!(line > 0.4 && net < 0.2, "{line} {net}");
}

#[test]
fn nobody_predicts_a_row_that_it_has_seen() {
    // Rewards are coins, so a prediction can agree with them only by having seen them. Over 1000 rows the product of
    // two unrelated deviations has a mean of 0 with standard deviation at most 0.5·(rms of the predictions)/√1000: five
    // of them are a false alarm once in 3e6 a model.
    for spec in [
        "linear{lambda=0.01}",
        "logistic{lambda=0.01}",
        "neural{decay=0,steps=1000}",
    ] {
        let agreement = |folds| {
            let (mut log, inputs, _) = log(&NOISE, 1000, Key::root(2));
            fitted(spec, &NOISE, folds, &mut log, &inputs);
            let seen = |i: usize| log.model[i * 4 + log.action[i] as usize] - 0.5;
            let size = libm::sqrt((0..1000).map(|i| seen(i) * seen(i)).sum::<f64>() / 1000.0);
            let mean = (0..1000).map(|i| seen(i) * (log.reward[i] - 0.5)).sum::<f64>() / 1000.0;
            mean / (0.5 * size / libm::sqrt(1000.0))
        };
        let (apart, leaking) = (agreement(5), agreement(1));
        // Cross-fitted models lean a little the other way: a reward left out lowers the mean of the others.
        assert!(apart.abs() < 5.0, "{spec}: {apart}");
        assert!(
            leaking > 5.0,
            "{spec}: a model that has seen the row gives itself away, {leaking}"
        );
    }
}

#[test]
fn persons_stay_together() {
    let (mut log, inputs, _) = log(&NOISE, 400, Key::root(3));
    log.cluster = (0..400).map(|i| i / 8).collect();
    let mut fit = CrossFit::new("linear", NOISE.shape, 4, Weighting::Equal, Key::root(5)).unwrap();
    fit.add(&log, &inputs).unwrap();
    let models = fit.finish().unwrap();
    models.fill(&mut log, &inputs).unwrap();
    let whole = log.model.clone();
    // The fold is the person's, so a person moved to the front is predicted as before, whatever its rows' numbers.
    let mut part = Logged {
        action: log.action[80..88].to_vec(),
        reward: log.reward[80..88].to_vec(),
        propensity: log.propensity[80..88].to_vec(),
        target: log.target[320..352].to_vec(),
        cluster: log.cluster[80..88].to_vec(),
        model: vec![],
        candidates: Sizes::Fixed(4),
        first_row: 1,
    };
    let part_inputs = Inputs {
        context: inputs.context[80 * 8..88 * 8].to_vec(),
        ..Inputs::default()
    };
    models.fill(&mut part, &part_inputs).unwrap();
    assert_eq!(part.model, whole[320..352]);
}

#[test]
fn blocks_and_threads_change_no_bit() {
    for entry in MODELS {
        let mut all: Vec<Vec<u64>> = Vec::new();
        for (threads, block) in [(1, 3000), (2, 3000), (8, 3000), (8, 700)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            all.push(pool.install(|| {
                let (whole, inputs, _) = log(&LOGISTIC, 3000, Key::root(6));
                let spec = match entry.name {
                    "neural" => "neural{steps=100,rows=1500}",
                    "logistic" => "logistic{rows=1500}",
                    name => name,
                };
                let mut fit = CrossFit::new(spec, LOGISTIC.shape, 3, Weighting::Mrdr, Key::root(7)).unwrap();
                let mut blocks = blocks(&whole, &inputs, block);
                for (log, inputs) in &blocks {
                    fit.add(log, inputs).unwrap();
                }
                let models = fit.finish().unwrap();
                blocks
                    .iter_mut()
                    .flat_map(|(log, inputs)| {
                        models.fill(log, inputs).unwrap();
                        log.model.iter().map(|q| q.to_bits()).collect::<Vec<_>>()
                    })
                    .collect()
            }));
        }
        assert!(all.iter().all(|bits| *bits == all[0]), "{}", entry.name);
        assert_eq!(all[0].is_empty(), entry.name == "none");
    }
}

fn blocks(whole: &Logged, inputs: &Inputs, rows: usize) -> Vec<(Logged, Inputs)> {
    let k = whole.candidates.of(0).len();
    let d = inputs.context.len() / whole.len();
    (0..whole.len())
        .step_by(rows)
        .map(|from| {
            let to = whole.len().min(from + rows);
            let log = Logged {
                action: whole.action[from..to].to_vec(),
                reward: whole.reward[from..to].to_vec(),
                propensity: whole.propensity[from..to].to_vec(),
                target: whole.target[from * k..to * k].to_vec(),
                first_row: 1 + from as u64,
                ..whole.clone()
            };
            let inputs = Inputs {
                context: inputs.context[from * d..to * d].to_vec(),
                ..Inputs::default()
            };
            (log, inputs)
        })
        .collect()
}

#[test]
fn agrees_with_linfa() {
    use linfa::prelude::*;
    use linfa::traits::Fit;
    let (mut log, inputs, _) = log(&LOGISTIC, 900, Key::root(8));
    // One arm's rows; linfa penalises the slopes alone and we the intercept too, hence the tiny penalty.
    let rows: Vec<usize> = (0..900).filter(|&i| log.action[i] == 1).collect();
    let x = ndarray::Array2::from_shape_fn((rows.len(), 2), |(i, j)| f64::from(inputs.context[2 * rows[i] + j]));
    let y: Vec<f64> = rows.iter().map(|&i| log.reward[i]).collect();
    let first = rows[0];
    fitted("logistic{lambda=1e-9}", &LOGISTIC, 1, &mut log, &inputs);
    let labels: Vec<bool> = y.iter().map(|&r| r > 0.5).collect();
    let theirs = linfa_logistic::LogisticRegression::default()
        .alpha(1e-9)
        .gradient_tolerance(1e-9)
        .max_iterations(1000)
        .fit(&Dataset::new(x.clone(), ndarray::Array1::from(labels)))
        .unwrap();
    let s = theirs.intercept() + x.row(0).dot(theirs.params());
    // linfa may call either label the positive one.
    let sign = if theirs.labels().pos.class { 1.0 } else { -1.0 };
    let theirs = 1.0 / (1.0 + libm::exp(-sign * s));
    let ours = log.model[3 * first + 1];
    assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");

    fitted("linear{lambda=1e-9}", &LOGISTIC, 1, &mut log, &inputs);
    let theirs = linfa_linear::LinearRegression::new()
        .fit(&Dataset::new(x.clone(), ndarray::Array1::from(y)))
        .unwrap();
    let theirs = theirs.intercept() + x.row(0).dot(theirs.params());
    let ours = log.model[3 * first + 1];
    assert!((ours - theirs).abs() < 1e-8, "{ours} {theirs}");
}

#[test]
fn mrdr_lowers_the_variance_of_the_doubly_robust_estimate() {
    // A line through a curve: where it should be right depends on the weights. The logger rarely takes what the target
    // takes on the right, so that is where an error is dear.
    let (rows, k) = (20_000, 2);
    let mut log = Logged {
        action: vec![],
        reward: vec![],
        propensity: vec![],
        candidates: Sizes::Fixed(k),
        target: [1.0, 0.0].repeat(rows),
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    let mut inputs = Inputs::default();
    for row in 0..rows {
        let mut draws = Key::root(10).fold(row as u64).draws();
        let x = 2.0 * draws.uniform() - 1.0;
        let p = if x > 0.5 { 0.05 } else { 0.9 };
        let first = draws.uniform() < p;
        log.action.push(u32::from(!first));
        log.propensity.push(if first { p } else { 1.0 - p });
        log.reward.push(x * x + 0.05 * draws.normal());
        inputs.context.push(x as f32);
    }
    let shape = InputShape {
        context: 1,
        candidate: 0,
        arms: k,
    };
    let dr = || [find("dr").unwrap().build(None).unwrap()];
    let mut spread = |weighting| {
        let mut fit = CrossFit::new("linear", shape, 2, weighting, Key::root(11)).unwrap();
        fit.add(&log, &inputs).unwrap();
        fit.finish().unwrap().fill(&mut log, &inputs).unwrap();
        estimate(&log, &dr())[0].std_error()
    };
    let (equal, mrdr) = (spread(Weighting::Equal), spread(Weighting::Mrdr));
    // Fixed seed; by the integrals of the residuals the ratio is near 0.4.
    assert!(mrdr < 0.7 * equal, "{mrdr} {equal}");
}

#[test]
fn bad_input_is_an_error() {
    let shape = LOGISTIC.shape;
    let new = |spec: &str, folds| CrossFit::new(spec, shape, folds, Weighting::Equal, Key::root(0));
    for spec in [
        "liner",
        "linear{lambda=0}",
        "linear{alpha=1}",
        "neural{hidden=0}",
        "logistic{rows=1}",
        "none+x",
    ] {
        assert!(new(spec, 2).is_err(), "{spec}");
    }
    assert!(new("linear", 0).is_err());
    assert!(Weighting::named("equl").is_err());

    let (mut good, inputs, _) = log(&LOGISTIC, 10, Key::root(1));
    let add = |spec: &str, log: &Logged, inputs: &Inputs| new(spec, 2).unwrap().add(log, inputs);
    assert!(add("linear", &good, &Inputs::default()).is_err());
    let mut bad = inputs.clone();
    bad.context[5] = f32::NAN;
    let e = add("linear", &good, &bad).unwrap_err().to_string();
    assert_eq!(e, "row 3, column `context`: expected finite features, got NaN");
    let mut bad = inputs.clone();
    bad.arm = [vec![0; 29], vec![3]].concat();
    assert!(add("linear", &good, &bad).is_err());

    // One person leaves nobody to learn from.
    good.cluster = vec![1; 10];
    let mut fit = new("linear", 2).unwrap();
    fit.add(&good, &inputs).unwrap();
    assert!(matches!(fit.finish(), Err(Error::Empty { .. })));
    good.reward[4] = 2.0;
    let e = add("logistic", &good, &inputs).unwrap_err().to_string();
    assert!(
        e.starts_with("row 5, column `reward`: expected a reward in [0, 1]"),
        "{e}"
    );
}

#[test]
fn options_and_defaults_agree() {
    for entry in MODELS {
        let listed: Vec<_> = entry.options.iter().map(|o| o.0.to_string()).collect();
        let defaults = (entry.defaults)();
        assert!(listed.iter().all(|name| defaults.contains_key(name)), "{}", entry.name);
        assert_eq!(listed.len(), defaults.len(), "{}", entry.name);
    }
}
