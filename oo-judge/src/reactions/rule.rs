//! The rule judge: a seeded response model whose every probability can be read off.
//!
//! The log-odds of "done" and of "dismiss" against "snooze" are sums of the person's pulls (each a field of
//! [`Habits`](oo_core::tips::Habits)) times a scaled fact about task and moment; a softmax gives the three
//! probabilities. Dwell is lognormal. The scales are chosen so that a fact runs over about [−1, 1], so a pull
//! reads as "log-odds between the middle and the end of the scale".

use oo_core::judge::{Judge, Response};
use oo_core::tips::{Feedback, Reaction, Scene};
use oo_core::{Key, Result};
use std::f64::consts::TAU;

/// Dwell of a snooze: about 8 s, a glance and a decision.
const SNOOZE_DWELL: (f64, f64) = (8.987_196_820_661_972, 0.7); // ln 8000
/// Dwell of a dismissal: about 4 s, quicker than a snooze.
const DISMISS_DWELL: (f64, f64) = (8.294_049_640_102_028, 0.6); // ln 4000
/// Spread of ln(dwell) of a finished task: two thirds lie within a factor of 2.2.
const DONE_SPREAD: f64 = 0.8;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleJudge;

/// The log-odds of done and dismiss against snooze.
fn log_odds(scene: &Scene<'_>) -> (f64, f64) {
    let (h, task, now) = (scene.habits, scene.task, scene.now);
    let overdue = f64::from(u8::from(task.is_overdue(now)));
    let priority = (f64::from(task.priority.clamp(1, 4)) - 2.5) / 1.5;
    let age = (task.age_days(now) / 30.0).min(1.0);
    // 5 minutes is +1, 2 hours is −1, linear in the logarithm.
    let ease = 1.0 - 2.0 * libm::log(task.effort_minutes.clamp(5.0, 120.0) / 5.0) / libm::log(24.0);
    let peak = libm::cos(TAU * (now.hour() - h.peak_hour) / 24.0);
    // At the peak 1; twelve hours away 1 − priority_at_peak.
    let urgency = 1.0 - h.priority_at_peak * (1.0 - peak) / 2.0;
    let weekend = if now.weekday() >= 5 { 1.0 } else { -0.4 };
    let pull = h.overdue_pull * overdue
        + h.priority_pull * priority * urgency
        + h.age_pull * age
        + h.ease_pull * ease
        + h.peak_pull * peak
        + h.weekend_pull * weekend;
    let worn = h.fatigue_cost * scene.fatigue;
    let repeated = h.repetition_cost * scene.shown_recently;
    let done = h.done_bias + pull - worn - repeated;
    // What draws a person to a task also keeps them from throwing it away, at half the strength.
    let dismiss = h.dismiss_bias - 0.5 * pull + 0.5 * worn + repeated;
    (done, dismiss)
}

impl Judge for RuleJudge {
    fn react(&self, scenes: &[(Scene<'_>, Key)], out: &mut Vec<Feedback>) -> Result<()> {
        for (scene, key) in scenes {
            let response = respond(scene);
            let u = key.name("reaction").uniform();
            let [done, snooze, _] = response.probs;
            let which = if u < done {
                0
            } else if u < done + snooze {
                1
            } else {
                2
            };
            let (mean, sd) = response.log_dwell[which];
            let dwell = libm::exp(mean + sd * key.name("dwell").normal());
            out.push(Feedback {
                reaction: Reaction::ALL[which],
                dwell_ms: Some(dwell as u64),
            });
        }
        Ok(())
    }

    fn response(&self, scene: &Scene<'_>) -> Option<Response> {
        Some(respond(scene))
    }
}

fn respond(scene: &Scene<'_>) -> Response {
    let (done, dismiss) = log_odds(scene);
    let high = done.max(dismiss).max(0.0);
    let odds = [done, 0.0, dismiss].map(|l| libm::exp(l - high));
    let sum = odds[0] + odds[1] + odds[2];
    let dwell = (scene.habits.log_dwell, DONE_SPREAD);
    Response {
        probs: odds.map(|o| o / sum),
        log_dwell: [dwell, SNOOZE_DWELL, DISMISS_DWELL],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::tips::{Habits, Moment, Profile, Task};

    fn with_scene<T>(f: impl FnOnce(Scene<'_>) -> T) -> T {
        let habits = Habits {
            name: "test".into(),
            done_bias: 0.0,
            dismiss_bias: -0.5,
            overdue_pull: 1.0,
            priority_pull: 0.5,
            age_pull: -0.3,
            ease_pull: 0.5,
            peak_hour: 9.0,
            peak_pull: 0.8,
            priority_at_peak: 0.5,
            weekend_pull: 0.2,
            fatigue_cost: 0.4,
            repetition_cost: 0.5,
            log_dwell: 11.0,
            sessions_per_day: 2.0,
            active: vec![1.0; 24],
        };
        let task = Task {
            id: 1,
            priority: 4,
            created: Moment(0),
            due: Some(Moment(600)),
            effort_minutes: 20.0,
            recurs_days: None,
        };
        f(Scene {
            habits: &habits,
            task: &task,
            now: Moment(2000),
            fatigue: 0.5,
            shown_recently: 1.0,
            profile: &Profile::default(),
        })
    }

    #[test]
    fn draws_follow_the_stated_response() {
        with_scene(|scene| {
            let response = RuleJudge.response(&scene).unwrap();
            assert!((response.probs.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let n = 100_000u64;
            let scenes: Vec<_> = (0..n).map(|i| (scene, Key::root(9).fold(i))).collect();
            let mut out = Vec::new();
            RuleJudge.react(&scenes, &mut out).unwrap();
            let chi_square: f64 = (0..3)
                .map(|r| {
                    let seen = out.iter().filter(|f| f.reaction == Reaction::ALL[r]).count() as f64;
                    let expected = n as f64 * response.probs[r];
                    (seen - expected) * (seen - expected) / expected
                })
                .sum();
            // Two degrees of freedom: exceeded with probability 1e-6.
            assert!(chi_square < 27.6, "{chi_square}");
        });
    }

    #[test]
    fn the_same_key_gives_the_same_feedback() {
        with_scene(|scene| {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            RuleJudge.react(&[(scene, Key::root(1))], &mut a).unwrap();
            RuleJudge
                .react(&[(scene, Key::root(1)), (scene, Key::root(2))], &mut b)
                .unwrap();
            assert_eq!(a[0], b[0]);
        });
    }

    #[test]
    fn being_worn_out_costs() {
        with_scene(|scene| {
            let fresh = RuleJudge.response(&Scene { fatigue: 0.0, ..scene }).unwrap().probs;
            let worn = RuleJudge.response(&Scene { fatigue: 3.0, ..scene }).unwrap().probs;
            assert!(worn[0] < fresh[0] && worn[2] > fresh[2]);
        });
    }
}
