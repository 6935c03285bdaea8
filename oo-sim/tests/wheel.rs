//! The wheel against published-protocol reference runs.
//!
//! The reference is an implementation of LinFullPost in numpy after the protocol of Riquelme, Tucker, Snoek (2018),
//! section 5.4: 2,000 rounds, 20 seeds, a bias feature, two first pulls an arm, a0 = b0 = 6, lambda = 0.25; regret in
//! per cent of uniform's expected regret. It shares no random numbers with this library.

use oo_core::Key;
use oo_core::key::Draws;
use oo_sim::experiment::{Experiment, Plan};
use oo_sim::runner::{cells, run_cell};

/// Radius, mean and standard error of the reference.
const REFERENCE: [(f64, f64, f64); 5] = [
    (0.5, 7.994_933_696_021_637, 0.577_889_433_486_482_9),
    (0.7, 8.766_683_291_770_331, 0.490_105_999_339_438_4),
    (0.9, 23.306_538_969_616_24, 2.598_030_491_347_931),
    (0.95, 38.583_470_031_544_75, 2.487_839_455_026_311),
    (0.99, 85.915_500_480_719_29, 4.670_381_963_053_691),
];

/// The same after 80,000 rounds, from 3 seeds.
const LONG_REFERENCE: [(f64, f64, f64); 5] = [
    (0.5, 0.803_813_895_500_842_8, 0.021_400_999_444_239_333),
    (0.7, 1.023_295_926_850_179, 0.089_682_250_775_185_24),
    (0.9, 3.941_347_424_045_450_2, 0.173_773_343_237_244_4),
    (0.95, 5.563_596_214_515_916, 0.582_887_990_423_363_9),
    (0.99, 41.726_044_226_056_295, 19.261_227_513_872_88),
];

fn plan(delta: f64, rounds: u64, seeds: u64) -> Plan {
    let experiment = Experiment {
        env: vec![format!("wheel{{delta={delta}}}")],
        policies: vec!["lin-full-post".into()],
        rounds: Some(rounds),
        seeds,
        seed: 1000,
        ..Experiment::default()
    };
    experiment.plan().expect("a sound experiment")
}

/// Regret in per cent of what uniform choice is expected to lose in the same rounds.
fn regret_percent(plan: &Plan) -> Vec<f64> {
    cells(plan)
        .into_iter()
        .map(|cell| {
            let records = run_cell(plan, cell).expect("a run");
            let (mut lost, mut uniform) = (0.0, 0.0);
            for (best, expected) in records.best.iter().zip(&records.expected) {
                let (best, expected) = (best.expect("known"), expected.expect("known"));
                lost += best - expected;
                // Inside, one arm pays 1.2 and four 1; outside, one pays 50, one 1.2 and three 1.
                uniform += best - if best < 2.0 { 5.2 / 5.0 } else { 54.2 / 5.0 };
            }
            100.0 * lost / uniform
        })
        .collect()
}

/// Mean and standard error over the seeds.
fn summary(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

#[test]
fn lin_full_post_agrees_with_the_reference() {
    for (delta, mean, se) in REFERENCE {
        let (own, own_se) = summary(&regret_percent(&plan(delta, 2000, 20)));
        // Two and a half standard errors of the difference of two means: exceeded in about 6 % of draws of all seeds,
        // the reference's included; with these seeds always or never.
        assert!(
            (own - mean).abs() <= 2.5 * (se * se + own_se * own_se).sqrt(),
            "delta {delta}: {own} ± {own_se}, the reference has {mean} ± {se}"
        );
    }
}

/// Minutes long: `cargo test --release -p oo-sim --test wheel -- --ignored --nocapture` prints the comparison.
#[test]
#[ignore = "takes minutes"]
fn lin_full_post_agrees_with_the_long_reference() {
    for (delta, mean, se) in LONG_REFERENCE {
        let values = regret_percent(&plan(delta, 80_000, 20));
        let (own, own_se) = summary(&values);
        println!("{delta}: {own:.3} ± {own_se:.3}, reference {mean:.3} ± {se:.3}; seeds {values:.2?}");
        // Nearly all that differs between seeds is when the rare arms are found. The reference's standard errors come
        // from three seeds and are themselves uncertain: Student's t with 2 degrees of freedom reaches 4.3.
        assert!(
            (own - mean).abs() <= 4.3 * (se * se + own_se * own_se).sqrt(),
            "delta {delta}: {own} ± {own_se}, the reference has {mean} ± {se}"
        );
    }
}

/// An action of the textbook algorithm: sums over its rows, and nothing that is updated in place.
#[derive(Clone, Default)]
struct Textbook {
    n: f64,
    gram: [[f64; 3]; 3],
    moment: [f64; 3],
    squares: f64,
}

impl Textbook {
    /// One draw of the noise and of the expected reward at `x`.
    fn draw(&self, x: [f64; 3], draws: &mut Draws) -> f64 {
        let mut a = self.gram;
        (0..3).for_each(|i| a[i][i] += 0.25);
        let cofactor = |i: usize, j: usize| {
            let at = |r: usize, c: usize| a[(i + r) % 3][(j + c) % 3];
            at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
        };
        let determinant: f64 = (0..3).map(|j| a[0][j] * cofactor(0, j)).sum();
        // Symmetric, so the adjugate needs no transposing.
        let inverse = |u: [f64; 3]| -> [f64; 3] {
            std::array::from_fn(|i| (0..3).map(|j| cofactor(i, j) * u[j]).sum::<f64>() / determinant)
        };
        let dot = |u: [f64; 3], v: [f64; 3]| u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
        let theta = inverse(self.moment);
        let b = 6.0 + 0.5 * (self.squares - dot(theta, self.moment));
        let noise = b / gamma(6.0 + 0.5 * self.n, draws);
        dot(theta, x) + (noise * dot(x, inverse(x))).sqrt() * draws.normal()
    }

    fn learn(&mut self, x: [f64; 3], reward: f64) {
        self.n += 1.0;
        self.squares += reward * reward;
        for i in 0..3 {
            self.moment[i] += reward * x[i];
            (0..3).for_each(|j| self.gram[i][j] += x[i] * x[j]);
        }
    }
}

/// Marsaglia, Tsang (2000), for shapes of at least 1.
fn gamma(shape: f64, draws: &mut Draws) -> f64 {
    let d = shape - 1.0 / 3.0;
    loop {
        let x = draws.normal();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        let u = 1.0 - draws.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// The algorithm as published, with draws instead of probabilities, in the same worlds: prints what it loses.
#[test]
#[ignore = "takes minutes"]
fn lin_full_post_loses_what_the_textbook_algorithm_loses() {
    for delta in [0.9, 0.95] {
        let plan = plan(delta, 80_000, 20);
        let ours = regret_percent(&plan);
        let mut theirs = Vec::new();
        for cell in cells(&plan) {
            let mut env = plan.environment(cell.env, cell.seed).expect("a world");
            let mut arms = vec![Textbook::default(); 5];
            let (mut lost, mut uniform, mut outcomes) = (0.0, 0.0, Vec::new());
            let key = Key::root(cell.seed).name("textbook");
            let mut t = 0;
            while env.advance().expect("a tick") {
                let c = env.round(0).context;
                let x = [0, 1, 2].map(|i| f64::from(c[i]));
                let mut draws = key.fold(t).draws();
                let scores: Vec<f64> = arms.iter().map(|arm| arm.draw(x, &mut draws)).collect();
                let best = (0..5).max_by(|&i, &j| scores[i].total_cmp(&scores[j])).expect("five");
                let chosen = if t < 10 { t as usize % 5 } else { best };
                let expected = env.expected(0).expect("known");
                let high = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                lost += high - expected[chosen];
                uniform += high - expected.iter().sum::<f64>() / 5.0;
                outcomes.clear();
                env.respond(&[chosen], &mut outcomes).expect("an outcome");
                arms[chosen].learn(x, outcomes[0].reward);
                t += 1;
            }
            theirs.push(100.0 * lost / uniform);
        }
        let ((own, own_se), (mean, se)) = (summary(&ours), summary(&theirs));
        println!("{delta}: {own:.3} ± {own_se:.3}, textbook {mean:.3} ± {se:.3}; seeds {theirs:.2?}");
        // Three standard errors: exceeded in 0.3 % of draws of all seeds.
        assert!((own - mean).abs() <= 3.0 * (se * se + own_se * own_se).sqrt());
    }
}
