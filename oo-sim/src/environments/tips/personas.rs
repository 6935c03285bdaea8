//! The kinds of people in the tips world: one table, a reason beside each number.
//!
//! The numbers are invented, not fitted. They are set so that an arbitrary tip is about as often welcome as not,
//! while the right tip at the right hour is clearly better, and so that the personas disagree about which tip that
//! is. Pulls are log-odds between the middle and the end of a scale (see [`Habits`] and the rule judge): 0.5 is a
//! leaning, 1 a habit, 1.5 a character trait.

use oo_core::Key;
use oo_core::tips::Habits;

/// Weights for 24 hours from spans `(from, to, weight)`, `to` exclusive; spans may pass midnight.
fn hours(spans: &[(usize, usize, f64)]) -> Vec<f64> {
    let mut active = vec![0.0; 24];
    for &(from, to, weight) in spans {
        let to = if to <= from { to + 24 } else { to };
        (from..to).for_each(|h| active[h % 24] = weight);
    }
    active
}

/// Every persona; user `u` is of persona `u` modulo their number.
pub fn personas() -> Vec<Habits> {
    vec![
        Habits {
            name: "deadline-driven".into(),
            done_bias: -0.5,       // without a deadline little happens
            dismiss_bias: -0.4,    // the rest is pushed away fairly often
            overdue_pull: 1.6,     // the trait: what is late gets done
            priority_pull: 0.9,    // urgency reads like a deadline
            age_pull: 0.2,         // age alone hardly matters
            ease_pull: 0.3,        // quick things slip in
            peak_hour: 10.0,       // late morning, before lunch and meetings
            peak_pull: 0.4,        // pressure works at any hour
            priority_at_peak: 0.2, // likewise
            weekend_pull: -0.3,    // deadlines are at work
            fatigue_cost: 0.20,    // average
            repetition_cost: 0.25, // a reminder of a deadline is half welcome
            log_dwell: 10.8,       // about 50 s: starts at once
            sessions_per_day: 3.0, // looks often
            active: hours(&[(8, 19, 1.0), (19, 22, 0.4)]),
        },
        Habits {
            name: "evening-relaxed".into(),
            done_bias: -0.3,       // easy-going
            dismiss_bias: -0.7,    // rarely annoyed
            overdue_pull: -0.2,    // late is late, no reason to hurry
            priority_pull: -0.4,   // urgent things spoil the evening
            age_pull: 0.3,         // old small things are pleasant to clear
            ease_pull: 1.2,        // the trait: short tasks on the sofa
            peak_hour: 20.0,       // after dinner
            peak_pull: 0.9,        // strongly so
            priority_at_peak: 0.0, // the dislike of urgency does not depend on the hour
            weekend_pull: 0.2,     // a little more time
            fatigue_cost: 0.25,    // wants to be left alone sooner
            repetition_cost: 0.30, // average
            log_dwell: 11.5,       // about 100 s: takes the time
            sessions_per_day: 2.0, // an evening person sees few tips by day
            active: hours(&[(12, 14, 0.3), (17, 23, 1.0)]),
        },
        Habits {
            name: "low-priority-first".into(),
            done_bias: -0.2,       // busy, with the wrong things
            dismiss_bias: -0.5,    // average
            overdue_pull: -0.4,    // overdue things are unpleasant ones
            priority_pull: -1.4,   // the trait: procrastinates on what matters
            age_pull: -0.2,        // fresh things attract
            ease_pull: 0.7,        // small ones first
            peak_hour: 14.0,       // after lunch
            peak_pull: 0.3,        // weakly
            priority_at_peak: 0.0, // avoidance knows no hour
            weekend_pull: 0.0,     // none
            fatigue_cost: 0.20,    // average
            repetition_cost: 0.35, // being reminded of the avoided thing hurts
            log_dwell: 11.0,       // one minute
            sessions_per_day: 3.0, // looks for distraction
            active: hours(&[(9, 22, 1.0)]),
        },
        Habits {
            name: "consistent-responder".into(),
            done_bias: 0.2,        // does what is suggested
            dismiss_bias: -1.0,    // hardly ever dismisses
            overdue_pull: 0.6,     // sensible: late first
            priority_pull: 0.6,    // sensible: urgent first
            age_pull: 0.2,         // sensible: old first
            ease_pull: 0.3,        // a little
            peak_hour: 9.0,        // a morning routine
            peak_pull: 0.3,        // reliable all day
            priority_at_peak: 0.0, // likewise
            weekend_pull: 0.0,     // likewise
            fatigue_cost: 0.12,    // patient
            repetition_cost: 0.15, // patient
            log_dwell: 11.0,       // one minute
            sessions_per_day: 3.0, // regular
            active: hours(&[(7, 22, 1.0)]),
        },
        Habits {
            name: "overdue-ignorer".into(),
            done_bias: -0.1,       // active with fresh things
            dismiss_bias: -0.5,    // average
            overdue_pull: -1.5,    // the trait: what is late is written off
            priority_pull: 0.6,    // among the fresh ones the urgent first
            age_pull: -0.9,        // old is nearly as bad as late
            ease_pull: 0.3,        // a little
            peak_hour: 11.0,       // before lunch
            peak_pull: 0.4,        // average
            priority_at_peak: 0.3, // somewhat
            weekend_pull: -0.1,    // hardly
            fatigue_cost: 0.20,    // average
            repetition_cost: 0.40, // nagging about the past is the worst
            log_dwell: 10.9,       // about 55 s
            sessions_per_day: 3.0, // average
            active: hours(&[(8, 21, 1.0)]),
        },
        Habits {
            name: "shift-worker".into(),
            done_bias: -0.3,                               // tired
            dismiss_bias: -0.4,                            // and short-tempered
            overdue_pull: 0.5,                             // a mild bad conscience
            priority_pull: 1.1,                            // does the necessary
            age_pull: 0.0,                                 // no view on age
            ease_pull: 0.8,                                // between shifts only short things fit
            peak_hour: 15.0,                               // before the late shift
            peak_pull: 0.8,                                // the window is narrow
            priority_at_peak: 0.6,                         // and only then is there a head for urgent things
            weekend_pull: 0.0,                             // shifts know no weekend
            fatigue_cost: 0.28,                            // wears out soon
            repetition_cost: 0.30,                         // average
            log_dwell: 11.2,                               // about 75 s
            sessions_per_day: 2.5,                         // breaks
            active: hours(&[(12, 17, 1.0), (22, 3, 0.8)]), // before and during the shift, on both sides of midnight
        },
        Habits {
            name: "weekend-warrior".into(),
            done_bias: -0.5,       // little during the week, which is most of the time
            dismiss_bias: -0.6,    // but without anger
            overdue_pull: 0.5,     // the week's leftovers
            priority_pull: 0.2,    // no strong view
            age_pull: 0.8,         // old things get their turn on Saturday
            ease_pull: -0.8,       // likes a big job
            peak_hour: 11.0,       // after a late breakfast
            peak_pull: 0.4,        // average
            priority_at_peak: 0.0, // none
            weekend_pull: 1.2,     // the trait
            fatigue_cost: 0.18,    // rested
            repetition_cost: 0.25, // average
            log_dwell: 11.6,       // about 110 s: bigger jobs
            sessions_per_day: 2.0, // few on weekdays
            active: hours(&[(9, 21, 1.0)]),
        },
        Habits {
            name: "night-owl".into(),
            done_bias: -0.2,       // productive, at its hour
            dismiss_bias: -0.5,    // average
            overdue_pull: 0.4,     // a little
            priority_pull: 1.3,    // deep work on what matters …
            age_pull: 0.1,         // no view
            ease_pull: -0.4,       // … and on what is long
            peak_hour: 0.5,        // half past midnight
            peak_pull: 1.1,        // the trait
            priority_at_peak: 1.0, // urgency counts at night only
            weekend_pull: 0.1,     // hardly
            fatigue_cost: 0.18,    // long concentration
            repetition_cost: 0.30, // average
            log_dwell: 11.3,       // about 80 s
            sessions_per_day: 2.5, // late, but then often
            active: hours(&[(13, 19, 0.5), (19, 3, 1.0)]),
        },
    ]
}

/// One person of a kind: the same character, moved a little. Two thirds of the people lie within 0.2 log-odds and
/// one hour of their persona, which leaves personas recognisable and people worth learning one by one.
pub fn individual(persona: &Habits, key: Key) -> Habits {
    let mut habits = persona.clone();
    let near = |name: &str, sd: f64| sd * key.name(name).normal();
    habits.done_bias += near("done_bias", 0.2);
    habits.dismiss_bias += near("dismiss_bias", 0.2);
    habits.overdue_pull += near("overdue_pull", 0.2);
    habits.priority_pull += near("priority_pull", 0.2);
    habits.age_pull += near("age_pull", 0.2);
    habits.ease_pull += near("ease_pull", 0.2);
    habits.peak_hour = (habits.peak_hour + near("peak_hour", 1.0)).rem_euclid(24.0);
    habits.weekend_pull += near("weekend_pull", 0.1);
    habits.log_dwell += near("log_dwell", 0.2);
    habits.sessions_per_day *= libm::exp(near("sessions", 0.15));
    habits
}

/// Moves a person towards the average of all personas (`differences` below 1) or away from it (above 1), in all that
/// says what the person likes. Their hours stay as they are.
pub fn differ(habits: &mut Habits, personas: &[Habits], differences: f64) {
    type Trait = fn(&mut Habits) -> &mut f64;
    let traits: [Trait; 12] = [
        |h| &mut h.done_bias,
        |h| &mut h.dismiss_bias,
        |h| &mut h.overdue_pull,
        |h| &mut h.priority_pull,
        |h| &mut h.age_pull,
        |h| &mut h.ease_pull,
        |h| &mut h.peak_pull,
        |h| &mut h.priority_at_peak,
        |h| &mut h.weekend_pull,
        |h| &mut h.fatigue_cost,
        |h| &mut h.repetition_cost,
        |h| &mut h.log_dwell,
    ];
    for of in traits {
        let sum: f64 = personas.iter().map(|p| *of(&mut p.clone())).sum();
        let mean = sum / personas.len() as f64;
        let value = of(habits);
        *value = mean + differences * (*value - mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_scale_about_the_average() {
        let all = personas();
        let mut same = all[0].clone();
        differ(&mut same, &all, 1.0);
        assert!((same.overdue_pull - all[0].overdue_pull).abs() < 1e-12);
        let mut people = all.clone();
        people.iter_mut().for_each(|p| differ(p, &all, 0.0));
        assert!(
            people
                .iter()
                .all(|p| (p.priority_pull - people[0].priority_pull).abs() < 1e-12)
        );
        let mut double = all[0].clone();
        differ(&mut double, &all, 2.0);
        let moved = double.overdue_pull - people[0].overdue_pull;
        assert!((moved - 2.0 * (all[0].overdue_pull - people[0].overdue_pull)).abs() < 1e-12);
    }

    #[test]
    fn rows_are_well_formed() {
        let all = personas();
        assert_eq!(all.len(), 8);
        for h in &all {
            assert_eq!(h.active.len(), 24, "{}", h.name);
            assert!(
                h.active.iter().sum::<f64>() > 2.0 * h.sessions_per_day,
                "{}: hours for its sessions",
                h.name
            );
            assert!((0.0..24.0).contains(&h.peak_hour));
            let moved = individual(h, Key::root(1));
            assert!((0.0..24.0).contains(&moved.peak_hour) && moved != *h && moved.name == h.name);
        }
    }
}
