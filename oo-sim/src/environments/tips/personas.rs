//! The people of the tips world. The first five carry the names of the original's personas, whose numbers were
//! never published: every number here is our own choice, for the reason in its row or column.

use oo_core::tips::Habits;

/// One row a persona: name; done bias, dismiss bias; overdue, priority, age, ease pulls; peak hour, peak pull,
/// priority at peak; weekend pull; fatigue, repetition cost; ln dwell; sessions a day; active hours.
type RowOf = (&'static str, [f64; 14], &'static [(u64, u64)]);

/// Log-odds of 0.5 shift a probability near one half by about 12 points; pulls between 0.3 and 1.6 are visible and
/// none decides alone. Repetition (0.5 to 0.9) costs more than fatigue (0.2 to 0.45): the same tip again annoys
/// sooner than another one. ln dwell 11.0 is one minute, the middle of r2's best band.
const PERSONAS: &[RowOf] = &[
    // Works by the calendar: what is late comes first, whatever it weighs.
    ("deadline-driven", [-0.2, -0.7, 1.5, 0.6, 0.1, 0.2, 10.0, 0.4, 0.3, -0.3, 0.30, 0.6, 11.0, 2.2], &[(8, 18)]),
    // Comes alive after supper, with easy things.
    ("evening-relaxed", [-0.3, -0.5, 0.3, 0.2, 0.0, 1.0, 20.0, 1.0, 0.2, 0.2, 0.30, 0.6, 11.4, 1.8], &[(17, 23)]),
    // Warms up on what does not matter, and avoids what does.
    ("low-priority-first", [-0.2, -0.5, 0.1, -1.2, 0.2, 0.8, 11.0, 0.3, 0.0, 0.0, 0.25, 0.6, 10.8, 2.0], &[(9, 21)]),
    // Does most of what is asked.
    ("consistent-responder", [0.5, -1.2, 0.5, 0.5, 0.1, 0.3, 9.0, 0.2, 0.2, 0.0, 0.20, 0.5, 11.0, 2.4], &[(7, 20)]),
    // Late tasks are a reproach and are pushed away.
    ("overdue-ignorer", [-0.1, -0.3, -1.6, 0.6, -0.6, 0.4, 14.0, 0.4, 0.2, 0.0, 0.30, 0.7, 10.9, 2.0], &[(8, 20)]),
    // Alert at night, urgent things then only.
    ("shift-worker", [-0.2, -0.5, 0.5, 1.0, 0.0, 0.3, 2.0, 1.0, 0.9, 0.1, 0.40, 0.7, 11.2, 1.8], &[(0, 6), (18, 24)]),
    // The week is for work elsewhere.
    ("weekend-warrior", [-0.3, -0.4, 0.6, 0.5, 0.4, -0.5, 11.0, 0.5, 0.2, 1.2, 0.30, 0.6, 11.8, 1.6], &[(8, 20)]),
    // Mornings are wasted on this person.
    ("night-owl", [-0.2, -0.5, 0.5, 0.9, 0.0, 0.3, 23.0, 1.1, 0.9, 0.1, 0.35, 0.9, 11.1, 2.0], &[(11, 24)]),
];

/// The number of personas.
pub fn count() -> usize {
    PERSONAS.len()
}

/// The habits of persona `i`, before a person's own variation.
pub fn habits(i: usize) -> Habits {
    let (name, n, spans) = PERSONAS[i % PERSONAS.len()];
    let mut active = vec![0.02; 24]; // anybody may look at any hour
    for &(from, to) in spans {
        (from..to).for_each(|h| active[h as usize] = 1.0);
    }
    Habits {
        name: name.into(),
        done_bias: n[0],
        dismiss_bias: n[1],
        overdue_pull: n[2],
        priority_pull: n[3],
        age_pull: n[4],
        ease_pull: n[5],
        peak_hour: n[6],
        peak_pull: n[7],
        priority_at_peak: n[8],
        weekend_pull: n[9],
        fatigue_cost: n[10],
        repetition_cost: n[11],
        log_dwell: n[12],
        sessions_per_day: n[13],
        active,
    }
}
