//! Tests of the tips world.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

fn world(config: TipsConfig, horizon: Horizon, seed: u64) -> Tips {
    let judge = Arc::from(oo_judge::reactions::judge("rule").unwrap());
    Tips::build(
        config,
        horizon,
        RewardSpec::named("r2").unwrap(),
        judge,
        Key::root(seed),
    )
    .unwrap()
}

/// One round as a policy and a log see it.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    user: u64,
    at: u64,
    ids: Vec<u64>,
    chosen: usize,
    row: Vec<f32>,
    expected: Vec<f64>,
    outcome: Outcome,
}

/// Plays a world to its end with `choose(round, expected)`.
fn play(mut world: Tips, mut choose: impl FnMut(&Round<'_>, &[f64]) -> usize) -> Vec<Seen> {
    let (mut seen, mut outcomes) = (Vec::new(), Vec::new());
    while world.advance().unwrap() {
        assert!(world.open() > 0);
        let mut chosen = Vec::new();
        let from = seen.len();
        for i in 0..world.open() {
            let round = world.round(i);
            assert_eq!(round.index, seen.len() as u64);
            let expected = world.expected(i).unwrap();
            let c = choose(&round, expected);
            chosen.push(c);
            seen.push(Seen {
                user: round.user.0,
                at: world.now(),
                ids: round.candidates.ids.iter().map(|id| id.0).collect(),
                chosen: c,
                row: round.context.iter().chain(round.candidates.row(c)).copied().collect(),
                expected: expected.to_vec(),
                outcome: Outcome::default(),
            });
        }
        outcomes.clear();
        world.respond(&chosen, &mut outcomes).unwrap();
        for (s, o) in seen[from..].iter_mut().zip(&outcomes) {
            s.outcome = *o;
        }
    }
    seen
}

fn uniform(key: Key) -> impl FnMut(&Round<'_>, &[f64]) -> usize {
    move |round, _| key.fold(round.index).draws().below(round.candidates.len())
}

fn best(_: &Round<'_>, expected: &[f64]) -> usize {
    (0..expected.len()).fold(0, |b, i| if expected[i] > expected[b] { i } else { b })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    sum / n
}

#[test]
fn the_same_key_gives_the_same_world() {
    let run = |seed| {
        play(
            world(TipsConfig::default(), Horizon::default(), seed),
            uniform(Key::root(9)),
        )
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn sessions_and_identities_do_not_depend_on_the_policy() {
    let run =
        |f: &mut dyn FnMut(&Round<'_>, &[f64]) -> usize| play(world(TipsConfig::default(), Horizon::default(), 3), f);
    let (a, b) = (run(&mut uniform(Key::root(1))), run(&mut best));
    let sessions = |s: &[Seen]| s.iter().map(|s| (s.user, s.at)).collect::<Vec<_>>();
    assert_eq!(sessions(&a), sessions(&b));
    for s in a.iter().chain(&b) {
        assert!((FEWEST..=MOST).contains(&s.ids.len()), "{}", s.ids.len());
        assert_eq!(
            s.ids.iter().collect::<BTreeSet<_>>().len(),
            s.ids.len(),
            "an identity twice"
        );
        assert!(s.ids.iter().all(|id| id >> 32 == s.user));
        assert!(s.row.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn learning_pays() {
    let horizon = Horizon {
        days: Some(28),
        ..Horizon::default()
    };
    for preset in PRESETS {
        let config = TipsConfig {
            preset: preset.into(),
            users: 80,
            ..TipsConfig::default()
        };
        let seen = play(world(config.clone(), horizon, 4), uniform(Key::root(2)));
        let level = mean(seen.iter().map(|s| s.outcome.reward));
        let gap = mean(
            seen.iter()
                .map(|s| s.expected.iter().copied().fold(f64::MIN, f64::max) - mean(s.expected.iter().copied())),
        );
        let greedy = mean(play(world(config, horizon, 4), best).iter().map(|s| s.outcome.reward));
        let length = mean(seen.iter().map(|s| s.ids.len() as f64));
        println!(
            "{preset}: uniform {level:.3}, gap {gap:.3}, oracle {greedy:.3}, open {length:.2}, n {}",
            seen.len()
        );
        assert!((-0.1..=0.3).contains(&level), "{level}");
        assert!(gap >= 0.15, "{gap}");
        assert!(greedy > level + 0.1, "{greedy} against {level}");
        assert!((6.0..=11.0).contains(&length), "{length}");
    }
}

#[test]
fn rewards_average_to_what_is_expected() {
    let config = TipsConfig {
        users: 80,
        days: 28,
        delayed: 0.3,
        missing: 0.2,
        ..TipsConfig::default()
    };
    let seen = play(world(config, Horizon::default(), 5), uniform(Key::root(3)));
    let n = seen.len() as f64;
    let bias = mean(seen.iter().map(|s| s.outcome.reward - s.expected[s.chosen]));
    // Rewards lie in [−1, 1], so the sd of a difference is at most 1: 5 sd, a false alarm once in 1.7e6 seeds.
    assert!(bias.abs() < 5.0 / n.sqrt(), "{bias} over {n}");
    let lost = mean(
        seen.iter()
            .map(|s| f64::from(u8::from(s.outcome.arrival == Arrival::Never))),
    );
    assert!((lost - 0.2).abs() < 5.0 * (0.16 / n).sqrt(), "{lost}");
    let late = seen.iter().filter_map(|s| match s.outcome.arrival {
        Arrival::After(minutes) => Some((minutes, s.outcome.feedback.unwrap())),
        _ => None,
    });
    let mut count = 0;
    for (minutes, feedback) in late {
        assert!((60..=1440).contains(&minutes));
        assert_eq!(feedback, late_feedback(minutes));
        count += 1;
    }
    assert!(count > 100, "{count} late ones among {n}");
}

#[test]
fn sparse_gives_fewer_than_five_reactions_a_week() {
    let config = TipsConfig {
        preset: "sparse".into(),
        days: 56,
        ..TipsConfig::default()
    };
    let seen = play(world(config, Horizon::default(), 6), uniform(Key::root(4)));
    let mut weeks = BTreeMap::new();
    for s in &seen {
        *weeks.entry((s.user, s.at / (7 * 1440))).or_insert(0) += 1;
    }
    assert_eq!(weeks.len(), 40 * 8);
    assert!(weeks.values().all(|&n| n == 4), "{weeks:?}");
}

#[test]
fn the_same_tip_is_taken_the_same_way_whatever_others_see() {
    // User 0 always gets the first candidate; the others something else in the two runs.
    let run = |seed: u64| {
        let mut others = uniform(Key::root(seed));
        let config = TipsConfig {
            delayed: 0.2,
            missing: 0.1,
            ..TipsConfig::default()
        };
        let seen = play(world(config, Horizon::default(), 7), move |round, expected| {
            if round.user.0 == 0 { 0 } else { others(round, expected) }
        });
        seen.into_iter().partition::<Vec<_>, _>(|s| s.user == 0)
    };
    let ((mine, others), (mine_too, others_too)) = (run(1), run(2));
    assert!(!mine.is_empty());
    assert_eq!(mine, mine_too);
    assert_ne!(others, others_too);
}

#[test]
fn the_world_ends() {
    let seen = play(
        world(
            TipsConfig::default(),
            Horizon {
                days: Some(3),
                ..Horizon::default()
            },
            8,
        ),
        best,
    );
    assert!(seen.iter().all(|s| s.at < 3 * 1440));
    let horizon = Horizon {
        users: Some(10),
        days: None,
        rounds: Some(203),
    };
    let seen = play(world(TipsConfig::default(), horizon, 8), best);
    let count = |u| seen.iter().filter(|s| s.user == u).count();
    assert_eq!(
        (0..10).map(count).collect::<Vec<_>>(),
        [21, 21, 21, 20, 20, 20, 20, 20, 20, 20]
    );
    let mut ended = world(TipsConfig::default(), horizon, 8);
    while ended.advance().unwrap() {
        let chosen = vec![0; ended.open()];
        ended.respond(&chosen, &mut Vec::new()).unwrap();
    }
    assert!(!ended.advance().unwrap() && ended.open() == 0);
}

#[test]
fn drift_moves_the_best_hour() {
    let run = |drift| {
        let config = TipsConfig {
            drift,
            ..TipsConfig::default()
        };
        play(world(config, Horizon::default(), 9), |_, _| 0)
    };
    let (still, moving) = (run(0.0), run(1.0));
    let at = |s: &Seen| s.at < 60 * 24;
    assert_ne!(
        still.iter().rfind(|s| !at(s)).unwrap().expected,
        moving.iter().rfind(|s| !at(s)).unwrap().expected
    );
}

#[test]
fn done_tasks_leave_and_recurring_ones_come_back() {
    let config = TipsConfig {
        users: 16,
        days: 28,
        ..TipsConfig::default()
    };
    let seen = play(world(config, Horizon::default(), 10), best);
    let mut done = BTreeSet::new();
    let mut back = 0;
    for s in &seen {
        assert!(s.ids.iter().all(|id| !done.contains(id)), "a done task was offered");
        back += s.ids.iter().filter(|id| *id & 0x3ff > 0).count();
        if s.outcome.feedback.unwrap().reaction == Reaction::Done {
            done.insert(s.ids[s.chosen]);
        }
    }
    assert!(back > 50, "{back}");
}

#[test]
fn wrong_options_are_refused() {
    let judge = || -> Arc<dyn Judge> { Arc::from(oo_judge::reactions::judge("rule").unwrap()) };
    let build = |config| {
        let reward = RewardSpec::named("r2").unwrap();
        Tips::build(config, Horizon::default(), reward, judge(), Key::root(0))
            .err()
            .map(|e| e.to_string())
    };
    let message = build(TipsConfig {
        preset: "sprase".into(),
        ..TipsConfig::default()
    })
    .unwrap();
    assert!(message.contains("did you mean `sparse`"), "{message}");
    assert!(
        build(TipsConfig {
            tasks: 1,
            ..TipsConfig::default()
        })
        .unwrap()
        .contains("2 to 30")
    );
    assert!(
        build(TipsConfig {
            missing: 1.5,
            ..TipsConfig::default()
        })
        .unwrap()
        .contains("a probability")
    );
}
