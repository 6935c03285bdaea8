//! Live experiments: two arms with users of their own, who come back or do not, looked at after every few decisions.

use super::*;
use crate::stats::{Arm, Cluster};
use oo_core::Key;

/// How users come.
#[derive(Clone, Copy, Debug)]
enum Coming {
    /// Each once.
    Once,
    /// The same 150 of each arm, over and over.
    Again,
    /// A new one with every fifth decision; the others are drawn from those who were there.
    Mixed,
}

struct World {
    arms: [Arm; 2],
    users: [Vec<(f64, Cluster)>; 2],
}

impl World {
    fn new() -> World {
        World {
            arms: Default::default(),
            users: Default::default(),
        }
    }

    /// A decision of arm `a`: r2's kind of reward, −1, 0.1 or 1, by a mood that the user keeps, `lift` more for the
    /// challenger.
    fn step(&mut self, a: usize, coming: Coming, spread: f64, lift: f64, draws: &mut oo_core::key::Draws) {
        let known = self.users[a].len();
        let new = match coming {
            Coming::Once => true,
            Coming::Again => known < 150,
            Coming::Mixed => known < 20 || draws.below(5) == 0,
        };
        let i = if new {
            self.users[a].push((spread * draws.normal(), Cluster::default()));
            known
        } else {
            draws.below(known)
        };
        let (mood, before) = self.users[a][i];
        let u = draws.uniform() + mood;
        let reward = if u < 0.3 {
            -1.0
        } else if u < 0.65 {
            0.1
        } else {
            1.0
        };
        let after = Cluster {
            sum: before.sum + reward + lift * a as f64,
            count: before.count + 1.0,
        };
        self.arms[a].change(before, after);
        self.users[a][i].1 = after;
    }

    fn evidence(&self) -> Evidence {
        let seen = Seen::unpaired(&self.arms[0], &self.arms[1]);
        Evidence {
            source: Source::Live,
            decisions: seen.time as u64,
            unit: "users",
            ..evidence(seen)
        }
    }
}

/// Answers of the gate over a whole experiment of so many decisions, a look after every `step`; the first that is one.
fn first_answer(
    rule: &Rule,
    key: Key,
    (coming, spread, lift): (Coming, f64, f64),
    decisions: u32,
    step: u32,
) -> Answer {
    let (mut world, mut draws) = (World::new(), key.draws());
    for n in 1..=decisions {
        let a = draws.below(2);
        world.step(a, coming, spread, lift, &mut draws);
        if n % step == 0 {
            let answer = decide(rule, &[world.evidence()], &History::default()).answer;
            if answer != Answer::Undecided {
                return answer;
            }
        }
    }
    Answer::Undecided
}

fn live(looks: Looks) -> Rule {
    let mut rule = bare(looks);
    (rule.live.min_decisions, rule.live.min_clusters) = (200, 50);
    rule
}

fn false_alarms(runs: u64, decisions: u32, step: u32) {
    for (coming, spread) in [
        (Coming::Once, 0.0),
        (Coming::Again, 0.0),
        (Coming::Again, 0.3),
        (Coming::Mixed, 0.0),
        (Coming::Mixed, 0.3),
    ] {
        let root = Key::root(19).name("live").name(&format!("{coming:?}"));
        let answers = |rule: &Rule| -> Vec<Answer> {
            let answer = |run| first_answer(rule, root.fold(run), (coming, spread, 0.0), decisions, step);
            (0..runs).map(answer).collect()
        };
        let share = |answers: &[Answer], wrong| answers.iter().filter(|a| **a == wrong).count() as f64 / runs as f64;
        let anytime = answers(&live(ANY));
        let (promoted, sent_away) = (share(&anytime, Answer::Promote), share(&anytime, Answer::Keep));
        let naive = share(&answers(&live(Looks::Planned(1))), Answer::Promote);
        println!(
            "{coming:?}, moods of sd {spread}: promoted {promoted}, sent away {sent_away}, by Student's bound {naive}, of \
             {runs} runs with {} looks",
            decisions / step
        );
        // At most 5 % each way by theory; no sampling error is allowed for.
        assert!(
            promoted <= 0.05 && sent_away <= 0.05,
            "{coming:?} {spread}: {promoted} {sent_away}"
        );
        // The looks are real: a bound for one look is wrong far more often, but where moods outweigh everything and the
        // same users only confirm them.
        assert!(naive > 0.08 || spread > 0.0, "{coming:?} {spread}: {naive}");
    }
}

#[test]
fn identical_arms_are_promoted_or_sent_away_at_most_at_the_stated_rate() {
    false_alarms(300, 6_000, 50);
}

/// The full size; figures and command are in docs/gate.md.
#[test]
#[ignore = "half a minute"]
fn identical_arms_in_1_000_runs_with_a_look_after_every_tenth_decision() {
    false_alarms(1000, 10_000, 10);
}

#[test]
fn a_better_arm_is_promoted_and_a_worse_one_sent_away() {
    let rule = live(ANY);
    let root = Key::root(20).name("live effect");
    for (lift, right) in [(0.15, Answer::Promote), (-0.15, Answer::Keep)] {
        let answers = (0..60).map(|run| first_answer(&rule, root.fold(run), (Coming::Mixed, 0.1, lift), 20_000, 100));
        let answers: Vec<Answer> = answers.collect();
        let found = answers.iter().filter(|a| **a == right).count();
        // The other way at most 5 % by theory; in truth this far off, never.
        assert!(found >= 57, "{lift}: {found} of 60");
    }
}

#[test]
fn operations_and_a_broken_assignment_end_it() {
    let rule = live(ANY);
    let mut world = World::new();
    let mut draws = Key::root(21).draws();
    for n in 0..40 {
        world.step(n % 2, Coming::Once, 0.0, 0.0, &mut draws);
    }
    let say = |e: &Evidence| decide(&rule, std::slice::from_ref(e), &History::default());
    let mut e = world.evidence();
    assert_eq!(say(&e).answer, Answer::Undecided);
    let share = |bad: f64| Arm::of(&[Cluster { sum: bad, count: 1.0 }; 20]);
    // Below every minimum: a challenger that always fails is ended, one that never does not yet begun.
    e.operations = [(Operation::Fallbacks, Seen::unpaired(&share(0.0), &share(1.0)))].into();
    assert_eq!(say(&e).answer, Answer::Keep);
    e.operations = [(Operation::Fallbacks, Seen::unpaired(&share(0.0), &share(0.0)))].into();
    assert_eq!(say(&e).answer, Answer::Undecided);
    e.operations = [(Operation::Slow, Seen::unpaired(&share(1.0), &share(1.0)))].into();
    assert_eq!(say(&e).answer, Answer::Undecided);
    e.diagnostics.push(Diagnostic {
        name: "sample ratio".into(),
        required: "p of at least 0.001".into(),
        seen: 1e-4,
        holds: false,
        times: None,
        ends: true,
    });
    let verdict = say(&e);
    assert_eq!(verdict.answer, Answer::Keep);
    let failed: Vec<_> = verdict.checks.iter().filter(|c| c.outcome == Outcome::Fail).collect();
    assert!(failed.len() == 1 && failed[0].name == "sample ratio", "{failed:?}");
}
