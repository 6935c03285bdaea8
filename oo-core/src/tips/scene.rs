//! One moment of one person with one task on the screen.

use serde::{Deserialize, Serialize};

/// Minutes since a Monday at 00:00, local time of the person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Moment(pub u64);

/// Days between 1969-12-29, a Monday, and 1970-01-01.
const MONDAY: i64 = 3;

impl Moment {
    /// The moment that a clock shows which counts milliseconds since 1970 by the person's time; the first Monday before
    /// counts as the earliest.
    pub fn from_unix_ms(local_ms: i64) -> Moment {
        let minutes = local_ms.div_euclid(60_000) + MONDAY * 1440;
        Moment(minutes.max(0) as u64)
    }

    /// Hour of the day with its fraction, in [0, 24).
    pub fn hour(self) -> f64 {
        (self.0 % 1440) as f64 / 60.0
    }

    /// Day of the week, Monday 0 to Sunday 6.
    pub fn weekday(self) -> u64 {
        self.0 / 1440 % 7
    }

    /// Days since the beginning.
    pub fn day(self) -> u64 {
        self.0 / 1440
    }
}

/// A task in somebody's list.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Unique in its world.
    pub id: u64,
    /// 1 (low) to 4 (urgent), as Todoist counts.
    pub priority: u8,
    /// When it came in.
    pub created: Moment,
    /// When it should be finished.
    pub due: Option<Moment>,
    /// How long it takes, in minutes.
    pub effort_minutes: f64,
    /// Comes back so many days after it was done.
    pub recurs_days: Option<u64>,
}

impl Task {
    /// True when the due moment has passed.
    pub fn is_overdue(&self, now: Moment) -> bool {
        self.due.is_some_and(|due| due < now)
    }

    /// Age in days, with its fraction.
    pub fn age_days(&self, now: Moment) -> f64 {
        now.0.saturating_sub(self.created.0) as f64 / 1440.0
    }
}

/// Aggregates over a person's last 30 days; `None` where there is no history yet.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// Done among all reactions, in [0, 1].
    pub completion_rate_30d: Option<f64>,
    /// Dismissed among all reactions, in [0, 1].
    pub dismiss_rate_30d: Option<f64>,
    /// Mean dwell, in milliseconds.
    pub mean_dwell_ms_30d: Option<f64>,
    /// The hour with most done tasks, in [0, 24).
    pub preferred_hour: Option<f64>,
    /// Tips shown.
    pub tip_volume_30d: Option<f64>,
}

/// How a kind of person reacts: weights on the log-odds of done and dismiss. The personas are rows of this type.
///
/// What pulls a person towards done (the fields ending in `_pull`) is taken from dismiss at half its strength:
/// who is drawn to a task does not throw it away.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Habits {
    /// The persona's name.
    pub name: String,
    /// Log-odds of done (against snooze) for a middling task at a middling moment.
    pub done_bias: f64,
    /// Log-odds of dismiss (against snooze) likewise.
    pub dismiss_bias: f64,
    /// Added to done when the task is overdue.
    pub overdue_pull: f64,
    /// Added for urgent (priority 4) and subtracted for low (priority 1) tasks.
    pub priority_pull: f64,
    /// Added for a task of 30 days or older, in proportion below.
    pub age_pull: f64,
    /// Added for short tasks (5 minutes) and subtracted for long ones (2 hours).
    pub ease_pull: f64,
    /// The hour at which this person gets things done.
    pub peak_hour: f64,
    /// Added at the peak hour, subtracted twelve hours from it (cosine between).
    pub peak_pull: f64,
    /// Multiplies `priority_pull` by (1 − this) away from the peak: at 1, urgency counts only at the peak.
    pub priority_at_peak: f64,
    /// Added on Saturday and Sunday, subtracted at 2/5 of it on the other days.
    pub weekend_pull: f64,
    /// Cost per unit of fatigue on done; half of it is added to dismiss.
    pub fatigue_cost: f64,
    /// Cost per recent showing of the same task on done; added to dismiss.
    pub repetition_cost: f64,
    /// Mean of ln(dwell in ms) of done tasks.
    pub log_dwell: f64,
    /// Typical sessions a day.
    pub sessions_per_day: f64,
    /// Hours in which the person may look at the screen, as weights for 24 hours.
    pub active: Vec<f64>,
}

/// What a judge of reactions sees.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The person.
    pub habits: &'a Habits,
    /// The task on the screen.
    pub task: &'a Task,
    /// Now.
    pub now: Moment,
    /// Recent tips weigh 1 and fade: 0 is fresh, 3 is worn out.
    pub fatigue: f64,
    /// Showings of this very task in the last days, faded likewise.
    pub shown_recently: f64,
    /// What the profile features say.
    pub profile: &'a Profile,
}
