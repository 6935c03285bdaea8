//! What every registered policy must do; a new line in the table is checked without a new test.

mod common;

use common::{Sample, build, play, specs};
use oo_core::{Batch, Decision, Key, Method, Policy, Proposal, Result, Round};

/// Proposes what another policy proposed once: a million draws then cost no more than drawing.
struct Again {
    probs: Vec<f64>,
    method: Method,
}

impl Policy for Again {
    fn propose(&self, _: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        out.probs.copy_from_slice(&self.probs);
        Ok(self.method)
    }
    fn update(&mut self, _: &Batch<'_>) -> Result<()> {
        Ok(())
    }
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    fn load(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn draws_follow_the_propensities() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 200);
        let sample = Sample::new(1000, 5);
        let mut decision = Decision::new();
        policy.decide(&sample.round(), Key::root(2), &mut decision).unwrap();
        // Only simulated probabilities may differ from key to key.
        if !matches!(decision.method(), Method::MonteCarlo { .. }) {
            let (probs, method) = (decision.probs().to_vec(), decision.method());
            for i in 0..100 {
                policy
                    .decide(&sample.round(), Key::root(2).fold(i), &mut decision)
                    .unwrap();
                assert_eq!(decision.probs(), probs, "{spec} proposes by the key");
            }
            policy = Box::new(Again { probs, method });
        }
        let (mut seen, mut expected) = ([0.0; 5], [0.0; 5]);
        for i in 0..1_000_000u64 {
            policy
                .decide(&sample.round(), Key::root(2).fold(i), &mut decision)
                .unwrap();
            seen[decision.chosen()] += 1.0;
            for (e, p) in expected.iter_mut().zip(decision.probs()) {
                *e += p;
            }
        }
        assert!((expected.iter().sum::<f64>() - 1e6).abs() < 1e-3, "{spec}");
        let (mut chi_square, mut possible) = (0.0, 0);
        for (s, e) in seen.iter().zip(&expected) {
            if *e > 0.0 {
                chi_square += (s - e) * (s - e) / e;
                possible += 1;
            } else {
                assert_eq!(*s, 0.0, "{spec} chose what it gave probability 0");
            }
        }
        // Exceeded with probability 0.001 a policy, by degrees of freedom; the keys are fixed. Where probabilities vary
        // from draw to draw (Monte Carlo) the statistic is smaller, never larger.
        let limit = [1e-9, 10.83, 13.82, 16.27, 18.47][possible - 1];
        println!(
            "{spec}: chi-square {chi_square:.2} with {} degrees of freedom",
            possible - 1
        );
        assert!(chi_square < limit, "{spec}: {chi_square}");
    }
}

#[test]
fn the_order_of_candidates_does_not_matter() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 300);
        let sample = Sample::new(2000, 6);
        let order = [3, 0, 5, 1, 4, 2];
        let (mut a, mut b) = (Decision::new(), Decision::new());
        policy.decide(&sample.round(), Key::root(3), &mut a).unwrap();
        policy
            .decide(&sample.permuted(&order).round(), Key::root(3), &mut b)
            .unwrap();
        for (position, &i) in order.iter().enumerate() {
            assert!(
                (a.probs()[i] - b.probs()[position]).abs() < 1e-12,
                "{spec}: {:?} {:?}",
                a.probs(),
                b.probs()
            );
        }
    }
}

#[test]
fn saving_and_loading_changes_nothing() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 500);
        let saved = policy.save();
        let mut twin = build(&spec);
        twin.load(&saved).unwrap();
        assert_eq!(twin.save(), saved, "{spec}");
        assert_eq!(
            play(policy.as_mut(), 500, 10_500),
            play(twin.as_mut(), 500, 10_500),
            "{spec}"
        );
    }
}

#[test]
fn foreign_and_damaged_states_are_refused_and_change_nothing() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 50);
        let saved = policy.save();
        let mut flipped = saved.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let foreign = build(if spec.contains("ucb1") { "uniform" } else { "ucb1" }).save();
        for bad in [&flipped[..], &saved[..saved.len() - 1], &[], &foreign] {
            assert!(policy.load(bad).is_err(), "{spec} took a bad state");
            assert_eq!(policy.save(), saved, "{spec} was changed by a bad state");
        }
    }
}

#[test]
fn any_number_of_threads_sees_the_same() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 200);
        let policy = policy.as_ref();
        let decide_all = || {
            let mut decision = Decision::new();
            (0..50u64)
                .map(|t| {
                    policy
                        .decide(&Sample::new(t, 7).round(), Key::root(4).fold(t), &mut decision)
                        .unwrap();
                    (decision.chosen(), decision.propensity().to_bits())
                })
                .collect::<Vec<_>>()
        };
        let alone = decide_all();
        for threads in [2, 8] {
            std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|_| scope.spawn(decide_all)).collect();
                for handle in handles {
                    assert_eq!(handle.join().unwrap(), alone, "{spec}");
                }
            });
        }
    }
}

#[test]
fn sets_of_any_size_work() {
    for spec in specs() {
        let mut policy = build(&spec);
        play(policy.as_mut(), 0, 100);
        let mut decision = Decision::new();
        for n in [10_000, 300, 64, 9, 2, 1] {
            policy
                .decide(&Sample::new(n as u64, n).round(), Key::root(6), &mut decision)
                .unwrap();
            assert_eq!(decision.probs().len(), n, "{spec}");
        }
        assert_eq!(decision.propensity(), 1.0, "{spec} with one candidate");
    }
}

#[test]
fn features_that_are_not_finite_are_refused() {
    for spec in specs() {
        let mut sample = Sample::new(1, 4);
        sample.features[40] = f32::NAN;
        let error = build(&spec)
            .decide(&sample.round(), Key::root(1), &mut Decision::new())
            .unwrap_err();
        assert!(error.to_string().contains("must be finite"), "{spec}: {error}");
    }
}

#[test]
fn monte_carlo_propensities_are_near_the_ideal_ones() {
    // Two candidates have a closed form; the same two and a hopeless third are simulated.
    let mut policy = build("lin-ts{draws=100000}");
    play(policy.as_mut(), 0, 100);
    let sample = Sample::new(3000, 5);
    let mut decision = Decision::new();
    policy.decide(&sample.round(), Key::root(8), &mut decision).unwrap();
    let first = decision.probs().to_vec();
    assert_eq!(decision.method(), Method::MonteCarlo { draws: 100_000 });
    policy.decide(&sample.round(), Key::root(9), &mut decision).unwrap();
    for (a, b) in first.iter().zip(decision.probs()) {
        // Two estimates of one probability: 6 sd of their difference at 100,000 draws is at most 0.0135.
        assert!((a - b).abs() < 0.0135, "{first:?} {:?}", decision.probs());
    }
}

#[test]
fn options_match_their_help() {
    for entry in oo_policies::POLICIES {
        let mut told: Vec<_> = entry.options.iter().map(|(n, _)| n.to_string()).collect();
        let mut has: Vec<_> = (entry.defaults)().keys().cloned().collect();
        told.sort();
        has.sort();
        assert_eq!(told, has, "{}", entry.name);
    }
}

#[test]
fn contributions_sum_to_the_expectation() {
    let more = [
        "lin-ucb{alpha=0}",
        "lin-ucb{alpha=0,model=disjoint}",
        "hierarchical{features=v3,draws=4}",
    ];
    let (mut explained, mut shared) = (Vec::new(), 0);
    for spec in specs().into_iter().chain(more.map(String::from)) {
        let mut policy = build(&spec);
        let sample = Sample::new(3000, 4);
        let (round, mut parts) = (sample.round(), Vec::new());
        if !policy.contributions(&round, 0, &mut parts) {
            assert!(parts.is_empty(), "{spec} explains what it cannot");
            continue;
        }
        play(policy.as_mut(), 0, 200);
        // An upper bound is no expectation.
        if spec.starts_with("lin-ucb") && !spec.contains("alpha=0") {
            continue;
        }
        let mut decision = Decision::new();
        policy.decide(&round, Key::root(4), &mut decision).unwrap();
        let sums: Vec<f64> = (0..4)
            .map(|i| {
                parts.clear();
                assert!(policy.contributions(&round, i, &mut parts), "{spec}");
                for &(feature, amount) in &parts {
                    let value = round.context.iter().chain(round.candidates.row(i)).nth(feature);
                    assert!(
                        value.is_some_and(|v| *v != 0.0 || amount == 0.0),
                        "{spec}: feature {feature}"
                    );
                }
                parts.iter().map(|(_, amount)| amount).sum()
            })
            .collect();
        // Up to a constant: some start from a level of their own.
        for i in 1..4 {
            let (want, got) = (decision.scores()[i] - decision.scores()[0], sums[i] - sums[0]);
            assert!((want - got).abs() < 1e-9, "{spec}: {want} {got}");
        }
        if policy.shares_weights() {
            let (context, features) = (
                vec![1.0; round.context.len()],
                vec![1.0; round.candidates.features.len()],
            );
            let mut ones = round;
            (ones.context, ones.candidates.features) = (&context, &features);
            let [first, last] = [0, 3].map(|i| {
                let mut weights = Vec::new();
                assert!(policy.contributions(&ones, i, &mut weights));
                weights
            });
            assert_eq!(first, last, "{spec}");
            assert!(first.iter().any(|(_, weight)| *weight != 0.0), "{spec}");
            shared += 1;
        }
        explained.push(spec);
    }
    assert!(explained.len() >= 8, "{explained:?}");
    assert!(
        shared >= 5 && shared < explained.len(),
        "{shared} share weights of {explained:?}"
    );
}
