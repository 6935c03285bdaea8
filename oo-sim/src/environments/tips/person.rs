//! One person of the tips world: habits, open tasks, and what was shown.

use super::personas;
use oo_core::Key;
use oo_core::tips::{Feedback, Habits, Moment, Profile, Reaction, Task};
use std::collections::BTreeMap;

/// Fatigue halves in so many minutes: a working day clears it.
const FATIGUE_HALF_LIFE: f64 = 8.0 * 60.0;
/// The memory of having seen a task halves in two days.
const SHOWN_HALF_LIFE: f64 = 2.0 * 1440.0;
/// Days that the profile looks back.
const WINDOW_DAYS: u64 = 30;
/// Nobody's list grows beyond this; what comes then is forgotten.
const MOST_TASKS: usize = 30;

fn fade(value: f64, since: Moment, now: Moment, half_life: f64) -> f64 {
    value * libm::exp2(-(now.0.saturating_sub(since.0) as f64) / half_life)
}

/// See the module.
#[derive(Debug)]
pub struct Person {
    pub habits: Habits,
    pub tasks: Vec<Task>,
    user: u64,
    key: Key,
    target: f64,
    fatigue: (f64, Moment),
    shown: BTreeMap<u64, (f64, Moment)>,
    history: Vec<(Moment, Feedback)>,
}

impl Person {
    /// User number `user`; personas go round. `sparse` people look at the screen four times a week.
    pub fn new(user: u64, target: f64, sparse: bool, key: Key) -> Self {
        let mut habits = personas::habits(user as usize);
        // No two people of a persona are alike: log-odds vary by 0.25, the peak by an hour.
        let mut draws = key.name("habits").draws();
        for pull in [
            &mut habits.done_bias,
            &mut habits.dismiss_bias,
            &mut habits.overdue_pull,
            &mut habits.priority_pull,
            &mut habits.age_pull,
            &mut habits.ease_pull,
        ] {
            *pull += 0.25 * draws.normal();
        }
        habits.peak_hour = (habits.peak_hour + draws.normal()).rem_euclid(24.0);
        if sparse {
            habits.sessions_per_day = 4.0 / 7.0;
        }
        Person {
            habits,
            tasks: Vec::new(),
            user,
            key,
            target,
            fatigue: (0.0, Moment(0)),
            shown: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// Hours of this day at which the person looks at the screen, rising. They do not depend on what was shown.
    pub fn sessions(&self, day: u64) -> Vec<u64> {
        let rate = self.habits.sessions_per_day / self.habits.active.iter().sum::<f64>();
        let key = self.key.name("sessions").fold(day);
        (0..24).filter(|&h| key.fold(h).uniform() < (rate * self.habits.active[h as usize]).min(1.0)).collect()
    }

    /// Tasks that come in on `day`; the same whatever was done before.
    pub fn receive(&mut self, day: u64) {
        let arrivals = if day == 0 {
            self.target.round() as u64
        } else {
            // A quarter of the usual list comes in a day, a whole number with the right mean.
            let mean = self.target / 4.0;
            let extra = self.key.name("arrivals").fold(day).uniform() < mean.fract();
            mean as u64 + u64::from(extra)
        };
        for k in 0..arrivals {
            let mut d = self.key.name("task").fold(day).fold(k).draws();
            let backlog = if day == 0 { d.exponential() * 4.0 * 1440.0 } else { 0.0 };
            let start = day * 1440 + 6 * 60 + d.below(720) as u64;
            // Urgent tasks are rarer; half have a due moment, within about four days (some already past on day 0).
            let priority = [1, 1, 1, 2, 2, 3, 3, 4][d.below(8)];
            let due = (d.uniform() < 0.6).then(|| {
                let ahead = d.exponential() * 4.0 * 1440.0 - backlog;
                Moment((start as f64 + ahead).max(0.0) as u64)
            });
            let effort_minutes = libm::exp(3.2 + 0.9 * d.normal()).clamp(2.0, 480.0);
            let recurs_days = (d.uniform() < 0.15).then(|| [1, 2, 7][d.below(3)]);
            let id = (self.user << 40) | (day << 20) | (k << 10);
            // Moments begin at 0, so a backlog shows as tasks created then, with due moments already near.
            let created = Moment(if day == 0 { 0 } else { start });
            self.add(Task { id, priority, created, due, effort_minutes, recurs_days });
        }
    }

    fn add(&mut self, task: Task) {
        if self.tasks.len() < MOST_TASKS {
            self.tasks.push(task);
        }
    }

    /// How worn out the person is now.
    pub fn fatigue(&self, now: Moment) -> f64 {
        fade(self.fatigue.0, self.fatigue.1, now, FATIGUE_HALF_LIFE)
    }

    /// How often this task was seen lately.
    pub fn shown(&self, task: u64, now: Moment) -> f64 {
        self.shown.get(&task).map_or(0.0, |&(v, since)| fade(v, since, now, SHOWN_HALF_LIFE))
    }

    /// The tip of task `task` was shown.
    pub fn show(&mut self, task: u64, now: Moment) {
        self.fatigue = (self.fatigue(now) + 1.0, now);
        self.shown.insert(task, (self.shown(task, now) + 1.0, now));
    }

    /// What the person did with it, for the profile.
    pub fn remember(&mut self, now: Moment, feedback: Feedback) {
        self.history.push((now, feedback));
    }

    /// The task is finished; a recurring one comes back under the next number of its family.
    pub fn finish(&mut self, task: u64, now: Moment) {
        let Some(i) = self.tasks.iter().position(|t| t.id == task) else { return };
        let done = self.tasks.remove(i);
        self.shown.remove(&task);
        if let Some(days) = done.recurs_days.filter(|_| done.id & 0x3ff != 0x3ff) {
            let due = Moment(now.0 + days * 1440);
            self.add(Task { id: done.id + 1, created: now, due: Some(due), ..done });
        }
    }

    /// Aggregates over the last 30 days.
    pub fn profile(&self, now: Moment) -> Profile {
        let from = now.0.saturating_sub(WINDOW_DAYS * 1440);
        let recent = || self.history.iter().filter(|(at, _)| at.0 >= from);
        let n = recent().count() as f64;
        if n == 0.0 {
            return Profile::default();
        }
        let share = |r: Reaction| Some(recent().filter(|(_, f)| f.reaction == r).count() as f64 / n);
        let dwell = recent().filter_map(|(_, f)| f.dwell_ms).map(|d| d as f64).sum::<f64>() / n;
        let mut by_hour = [0u32; 24];
        for (at, f) in recent() {
            by_hour[at.hour() as usize] += u32::from(f.reaction == Reaction::Done);
        }
        // The first of the best hours, so that a tie is no draw.
        let best = (0..24).fold(0, |best, h| if by_hour[h] > by_hour[best] { h } else { best });
        Profile {
            completion_rate_30d: share(Reaction::Done),
            dismiss_rate_30d: share(Reaction::Dismiss),
            mean_dwell_ms_30d: Some(dwell),
            preferred_hour: (by_hour[best] > 0).then_some(best as f64),
            tip_volume_30d: Some(n),
        }
    }
}
