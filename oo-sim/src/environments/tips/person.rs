//! One person of the tips world: a list of tasks, a memory of tips, and the hours of looking at the screen.
//!
//! Everything that happens by itself (sessions, arrivals, what a task is like) is keyed by person and day or by the
//! task's identity, so it does not depend on the policy; only what was done and shown does.

use super::Timetable;
use oo_core::Key;
use oo_core::tips::history::{WINDOW_DAYS, fade};
use oo_core::tips::{Feedback, Habits, Moment, Profile, Showings, Task};
use std::collections::VecDeque;

/// Most open tasks a person keeps; what comes in beyond is not written down.
pub(super) const MOST: usize = 30;
/// Fewest: with less there is nothing to choose, so a person finds something new.
pub(super) const FEWEST: usize = 2;
/// Days a task stays open when no tip leads to it, in the mean: then it is done or dropped elsewhere.
const LIFE_DAYS: f64 = 8.0;
/// Tasks done through tips, in tasks a session; arrivals make up for them so that lists keep their length.
const DONE_PER_SESSION: f64 = 0.3;
/// Half-life of fatigue: the night between two days takes most of it.
const FATIGUE_HALF_LIFE: f64 = 8.0 * 60.0;
/// The window of the profile.
const WINDOW: u64 = WINDOW_DAYS * 1440;
/// Days before the world's beginning from which the first tasks may date; whole weeks keep weekdays.
pub(super) const PAST_DAYS: u64 = 28;
/// A serial number is day (16 bits), number within the day (6), occurrence of a recurring task (10).
const NUMBER_BITS: u32 = 6;
const OCCURRENCE_BITS: u32 = 10;
/// Numbers from here on are tasks found because the list ran empty; below are ordinary arrivals.
const FOUND: u64 = 30;

/// A task in the list.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub task: Task,
    /// When it leaves by itself.
    leaves: u64,
    /// It leaves because it is finished, so a recurring one comes back.
    finished: bool,
    shown: Showings,
}

impl Open {
    /// Showings of late, faded.
    pub fn shown_recently(&self, now: Moment) -> f64 {
        self.shown.recently(now)
    }
}

/// A tip shown, and what is known of it from when on.
#[derive(Clone, Debug)]
struct Memory {
    at: u64,
    known: Option<(u64, Feedback)>,
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    pub number: u64,
    pub habits: Habits,
    /// Rounds still to come, where the run counts rounds.
    pub quota: u64,
    home_peak: f64,
    key: Key,
    arrivals_per_day: f64,
    tasks: Vec<Open>,
    /// To come: arrivals of days already drawn, and recurrences.
    inbox: Vec<Open>,
    /// The next day (of the person's calendar) whose arrivals are not drawn yet.
    next_day: u64,
    /// The last day on which something was found, and how many things.
    found: (u64, u64),
    fatigue: f64,
    fatigue_at: u64,
    memories: VecDeque<Memory>,
}

impl Person {
    /// `key` belongs to this person; `tasks` is the usual length of the list.
    pub fn new(number: u64, habits: Habits, tasks: usize, quota: u64, timetable: Timetable, key: Key) -> Person {
        let sessions = match timetable {
            Timetable::Daily => habits.sessions_per_day,
            Timetable::Weekly(sessions) => sessions as f64 / 7.0,
        };
        let mut person = Person {
            number,
            home_peak: habits.peak_hour,
            habits,
            quota,
            key,
            arrivals_per_day: tasks as f64 / LIFE_DAYS + DONE_PER_SESSION * sessions,
            tasks: Vec::new(),
            inbox: Vec::new(),
            next_day: PAST_DAYS,
            found: (0, 0),
            fatigue: 0.0,
            fatigue_at: 0,
            memories: VecDeque::new(),
        };
        let start = PAST_DAYS * 1440;
        for n in 0..tasks as u64 {
            // Ages of a list in equilibrium are exponential like lives. Day 0 of the serials is this first list.
            let age = person.key.name("age").fold(n).draws().exponential() * LIFE_DAYS * 1440.0;
            let created = start - (age as u64).min(start);
            let serial = n << OCCURRENCE_BITS;
            let mut open = person.task(serial, created);
            open.leaves = start + (open.leaves - created);
            person.tasks.push(open);
        }
        person
    }

    /// The hours of day `day` of the world in which this person looks at the screen, one bit each.
    pub fn sessions(&self, day: u64, timetable: Timetable) -> u32 {
        let (key, active) = (self.key.name("session").fold(day), &self.habits.active);
        let total: f64 = active.iter().sum();
        match timetable {
            Timetable::Daily => (0..24u32)
                .filter(|&h| {
                    let share = active[h as usize] / total;
                    key.fold(u64::from(h)).uniform() < self.habits.sessions_per_day * share
                })
                .fold(0, |mask, h| mask | 1 << h),
            Timetable::Weekly(sessions) => {
                let mut days = [0u64, 1, 2, 3, 4, 5, 6];
                self.key.name("week").fold(day / 7).draws().shuffle(&mut days);
                if !days[..sessions].contains(&(day % 7)) {
                    return 0;
                }
                let mut left = key.uniform() * total;
                // The last active hour catches what rounding leaves over.
                let last = active.iter().rposition(|&w| w > 0.0).unwrap_or(0);
                let hour = active.iter().position(|&w| {
                    left -= w;
                    left < 0.0
                });
                1 << hour.unwrap_or(last)
            }
        }
    }

    /// Brings list and habits up to `now`, which never falls.
    pub fn catch_up(&mut self, now: Moment, drift: f64) {
        let days = (now.0 - PAST_DAYS * 1440) as f64 / 1440.0;
        self.habits.peak_hour = (self.home_peak + drift * days).rem_euclid(24.0);
        while self.next_day <= now.day() {
            self.draw_arrivals(self.next_day);
            self.next_day += 1;
        }
        let gone = |open: &mut Open| open.leaves <= now.0;
        for open in self.tasks.extract_if(.., gone).collect::<Vec<_>>() {
            if open.finished {
                self.recur(&open.task, open.leaves);
            }
        }
        let mut come: Vec<Open> = self.inbox.extract_if(.., |open| open.task.created <= now).collect();
        come.sort_by_key(|open| (open.task.created, open.task.id));
        come.retain(|open| open.leaves > now.0);
        come.truncate(MOST.saturating_sub(self.tasks.len()));
        self.tasks.append(&mut come);
        while self.tasks.len() < FEWEST {
            if self.found.0 != now.day() {
                self.found = (now.day(), 0);
            }
            let number = FOUND + self.found.1;
            // 34 a day: a session takes at most one task, and there are at most 24.
            if number >= 1 << NUMBER_BITS {
                break;
            }
            self.found.1 += 1;
            let mut open = self.task(serial(now.day(), number), now.0);
            open.leaves = open.leaves.max(now.0 + 1);
            self.tasks.push(open);
        }
    }

    fn draw_arrivals(&mut self, day: u64) {
        let mut draws = self.key.name("arrivals").fold(day).draws();
        // Poisson: exponential gaps that fit into one day.
        let mut at = draws.exponential();
        let mut number = 0;
        while at < self.arrivals_per_day && number < FOUND {
            // Things come in between 7 and 22 o'clock.
            let minute = (7.0 + 15.0 * at / self.arrivals_per_day) * 60.0;
            let open = self.task(serial(day, number), day * 1440 + minute as u64);
            self.inbox.push(open);
            at += draws.exponential();
            number += 1;
        }
    }

    /// What the task of this serial number is like; occurrences of one recurring task are alike.
    fn task(&self, serial: u64, created: u64) -> Open {
        let key = self.key.name("task").fold(serial >> OCCURRENCE_BITS);
        let u = key.name("priority").uniform();
        // Most tasks in most lists carry the lowest priority, because it is the default.
        let priority = 1 + [0.4, 0.65, 0.85].iter().filter(|&&p| u >= p).count() as u8;
        // Median 20 minutes; two thirds between 8 and 50.
        let effort = libm::exp(libm::log(20.0) + 0.9 * key.name("effort").normal()).clamp(2.0, 240.0);
        let r = key.name("recurs").uniform();
        let recurs_days = [(0.05, 1), (0.10, 3), (0.20, 7)]
            .iter()
            .find(|(p, _)| r < *p)
            .map(|&(_, days)| days);
        let lead = match recurs_days {
            Some(days) => Some(days as f64),
            // A quarter has no date; the others are due in three days in the mean, 6 hours at least.
            None => (key.name("dated").uniform() >= 0.25).then(|| 0.25 + 2.75 * key.name("lead").draws().exponential()),
        };
        let life = self.key.name("life").fold(serial).draws().exponential() * LIFE_DAYS * 1440.0;
        Open {
            task: Task {
                id: self.number << 32 | serial,
                priority,
                created: Moment(created),
                due: lead.map(|days| Moment(created + (days * 1440.0) as u64)),
                effort_minutes: effort,
                recurs_days,
            },
            leaves: created + 1 + life as u64,
            finished: false,
            shown: Showings::none(Moment(created)),
        }
    }

    fn recur(&mut self, task: &Task, at: u64) {
        let serial = task.id & 0xffff_ffff;
        let last = (1 << OCCURRENCE_BITS) - 1;
        if let Some(days) = task.recurs_days.filter(|_| serial & last < last) {
            let open = self.task(serial + 1, at + days * 1440);
            self.inbox.push(open);
        }
    }

    /// The open tasks; positions stay until the next `settle`.
    pub fn tasks(&self) -> &[Open] {
        &self.tasks
    }

    /// Fatigue, faded.
    pub fn fatigue(&self, now: Moment) -> f64 {
        fade(self.fatigue, now.0 - self.fatigue_at, FATIGUE_HALF_LIFE)
    }

    /// Books a tip: task `i` was shown, and `known` says what the application heard of it and when. A task done
    /// `later` minutes from now stays in the list until then.
    pub fn settle(&mut self, i: usize, now: Moment, done: bool, later: Option<u64>, known: Option<(u64, Feedback)>) {
        self.fatigue = self.fatigue(now) + 1.0;
        self.fatigue_at = now.0;
        self.memories.push_back(Memory { at: now.0, known });
        let open = &mut self.tasks[i];
        open.shown.add(now);
        if let Some(minutes) = later {
            let at = now.0 + minutes;
            // An earlier finish promised by another showing stands.
            if !(open.finished && open.leaves <= at) {
                (open.leaves, open.finished) = (at, true);
            }
        } else if done {
            let open = self.tasks.remove(i);
            self.recur(&open.task, now.0);
        }
        self.quota -= 1;
    }

    /// What the application knows by `now` about the last 30 days. A lost feedback counts as a tip shown only.
    pub fn profile(&mut self, now: Moment) -> Profile {
        while self.memories.front().is_some_and(|m| m.at + WINDOW < now.0) {
            self.memories.pop_front();
        }
        let heard = |m: &Memory| m.known.filter(|(at, _)| *at <= now.0).map(|(at, f)| (Moment(at), f));
        Profile::of(self.memories.iter().map(heard))
    }
}

/// Days count from 1 on the world's first day; 0 is the list that people start with.
fn serial(day: u64, number: u64) -> u64 {
    ((day - PAST_DAYS + 1) << NUMBER_BITS | number) << OCCURRENCE_BITS
}
