//! The closed loop: people with task lists, one tip at a time, and what the tip does to the list and the person.
//!
//! A tick is an hour. Everybody with a session in that hour has one open round whose candidates are that person's
//! open tasks. A task that is done leaves the list (and comes back later when it recurs); a tip tires; the same tip
//! again tires more. Sessions, arrivals and the tasks' properties do not depend on the policy, and a reaction is
//! keyed by person, hour and task, so the same tip to the same person at the same moment is taken the same way
//! whatever was shown to others.

mod person;
pub mod personas;

use super::{Horizon, Make, World};
use oo_core::environment::{Arrival, Environment, Outcome};
use oo_core::judge::Judge;
use oo_core::spec::require;
use oo_core::tips::{Feedback, Habits, Moment, Profile, Reaction, RewardSpec, Scene};
use oo_core::{ActionId, Candidates, Error, Key, Result, Round, Shape, UserId, features};
use person::{FEWEST, MOST, PAST_DAYS, Person};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// The name in specs.
pub const NAME: &str = "tips";
/// The presets.
pub const PRESETS: [&str; 2] = ["standard", "sparse"];
/// Days that fit into a task's serial number.
const MOST_DAYS: usize = 60_000;
/// A snoozed task that is finished outside the application takes so many minutes, all equally likely.
const LATE_MINUTES: Range<u64> = 60..1441;

/// The options of the tips world. The reward is no option of it: the caller passes one to [`Tips::build`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TipsConfig {
    /// `standard` (several sessions a day), or `sparse` (four sessions a week).
    pub preset: String,
    /// The number of people.
    pub users: usize,
    /// How long, in days.
    pub days: usize,
    /// The usual number of open tasks, 2 to 30.
    pub tasks: usize,
    /// How much people differ in what they like, 1 as the table of personas has it, 0 not at all.
    pub differences: f64,
    /// Hours by which everybody's best hour moves each day.
    pub drift: f64,
    /// Probability that a snoozed task is finished outside the application within the next 1 to 24 hours.
    pub delayed: f64,
    /// Probability that a feedback is lost.
    pub missing: f64,
}

impl Default for TipsConfig {
    fn default() -> TipsConfig {
        TipsConfig {
            preset: "standard".into(),
            users: 40,
            days: 14,
            tasks: 8,
            differences: 1.0,
            drift: 0.0,
            delayed: 0.0,
            missing: 0.0,
        }
    }
}

/// When people look at the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timetable {
    /// Any number of hours a day, by the person's habits.
    Daily,
    /// So many days of each week (Monday to Sunday), one hour of each.
    Weekly(usize),
}

/// One round that waits for a decision.
struct Opening {
    user: usize,
    context: usize,
    rows: Range<usize>,
    profile: Profile,
}

/// The tips world. See the module.
pub struct Tips {
    shape: Shape,
    config: TipsConfig,
    timetable: Timetable,
    reward: RewardSpec,
    /// The mean reward of a snoozed task that is finished outside the application.
    late_reward: f64,
    judge: Arc<dyn Judge>,
    key: Key,
    people: Vec<Person>,
    /// Rounds that all people together still have.
    left: u64,
    /// Hours since the beginning; the next one to look at.
    next_hour: u64,
    end_hour: u64,
    /// The current tick.
    hour: u64,
    /// Who has a session in which hour of today.
    today: Vec<Vec<usize>>,
    open: Vec<Opening>,
    first_index: u64,
    context: Vec<f32>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
    expected: Vec<f64>,
    /// The judge states its response.
    known: bool,
}

impl Tips {
    /// Builds the world that `key` names.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a preset, [`Error::Option`] for a value out of range.
    pub fn build(
        config: TipsConfig,
        horizon: Horizon,
        reward: RewardSpec,
        judge: Arc<dyn Judge>,
        key: Key,
    ) -> Result<Tips> {
        let mut config = config;
        config.users = horizon.users.unwrap_or(config.users);
        config.days = horizon.days.unwrap_or(config.days);
        let timetable = match config.preset.as_str() {
            "standard" => Timetable::Daily,
            // Below five reactions a week a person is a beginner to every policy, for months.
            "sparse" => Timetable::Weekly(4),
            _ => {
                return Err(Error::Unknown {
                    kind: "preset of tips".into(),
                    name: config.preset,
                    known: PRESETS.map(String::from).to_vec(),
                });
            }
        };
        require(
            (1..=u32::MAX as usize).contains(&config.users),
            NAME,
            "users",
            "1 or more",
            config.users,
        )?;
        require(
            (1..=MOST_DAYS).contains(&config.days),
            NAME,
            "days",
            "1 to 60000",
            config.days,
        )?;
        require(
            (FEWEST..=MOST).contains(&config.tasks),
            NAME,
            "tasks",
            "2 to 30",
            config.tasks,
        )?;
        require(
            (0.0..=4.0).contains(&config.differences),
            NAME,
            "differences",
            "0 to 4",
            config.differences,
        )?;
        require(
            config.drift.is_finite(),
            NAME,
            "drift",
            "a finite number of hours a day",
            config.drift,
        )?;
        require(
            (0.0..=1.0).contains(&config.delayed),
            NAME,
            "delayed",
            "a probability",
            config.delayed,
        )?;
        require(
            (0.0..=1.0).contains(&config.missing),
            NAME,
            "missing",
            "a probability",
            config.missing,
        )?;
        if let Some(rounds) = horizon.rounds {
            require(rounds > 0, NAME, "rounds", "1 or more", rounds)?;
        }
        let days = if horizon.rounds.is_some() {
            horizon.days.unwrap_or(MOST_DAYS)
        } else {
            config.days
        };
        let kinds = personas::personas();
        let users = config.users as u64;
        let people: Vec<Person> = (0..users)
            .map(|u| {
                let key = key.name("person").fold(u);
                let mut habits: Habits = personas::individual(&kinds[u as usize % kinds.len()], key.name("habits"));
                if config.differences != 1.0 {
                    personas::differ(&mut habits, &kinds, config.differences);
                }
                let quota = horizon
                    .rounds
                    .map_or(u64::MAX, |r| r / users + u64::from(u < r % users));
                Person::new(u, habits, config.tasks, quota, timetable, key)
            })
            .collect();
        let late = LATE_MINUTES
            .map(|minutes| reward.reward(&late_feedback(minutes)))
            .sum::<f64>();
        Ok(Tips {
            shape: features::shape(),
            timetable,
            late_reward: late / (LATE_MINUTES.end - LATE_MINUTES.start) as f64,
            reward,
            judge,
            key,
            people,
            left: horizon.rounds.unwrap_or(u64::MAX),
            next_hour: 0,
            end_hour: days as u64 * 24,
            hour: 0,
            today: vec![Vec::new(); 24],
            open: Vec::new(),
            first_index: 0,
            context: Vec::new(),
            ids: Vec::new(),
            features: Vec::new(),
            expected: Vec::new(),
            known: false,
            config,
        })
    }

    /// The people's calendar: the world's time after some weeks of past, so that first tasks can be old.
    fn moment(&self) -> Moment {
        Moment((PAST_DAYS * 24 + self.hour) * 60)
    }

    /// The tasks that open round `i` offers, in the order of its candidates; for listings and tests.
    pub fn offered(&self, i: usize) -> impl Iterator<Item = &oo_core::tips::Task> {
        self.people[self.open[i].user].tasks().iter().map(|open| &open.task)
    }

    fn begin_day(&mut self, day: u64) {
        self.today.iter_mut().for_each(Vec::clear);
        for (u, person) in self.people.iter().enumerate().filter(|(_, p)| p.quota > 0) {
            let mask = person.sessions(day, self.timetable);
            (0..24)
                .filter(|h| mask >> h & 1 == 1)
                .for_each(|h| self.today[h].push(u));
        }
    }

    fn open_rounds(&mut self) {
        self.first_index += self.open.len() as u64;
        self.open.clear();
        self.context.clear();
        self.ids.clear();
        self.features.clear();
        self.expected.clear();
        self.known = true;
        let now = self.moment();
        for &user in &self.today[(self.hour % 24) as usize] {
            let person = &mut self.people[user];
            if person.quota == 0 {
                continue; // used up since this morning
            }
            person.catch_up(now, self.config.drift);
            let profile = person.profile(now);
            let (context, first) = (self.context.len(), self.ids.len());
            features::context_into(now, &profile, &mut self.context);
            let fatigue = person.fatigue(now);
            for open in person.tasks() {
                let shown_recently = open.shown_recently(now);
                self.ids.push(ActionId(open.task.id));
                features::candidate_into(
                    &open.task,
                    now,
                    shown_recently,
                    &self.context[context..],
                    &mut self.features,
                );
                let scene = Scene {
                    habits: &person.habits,
                    task: &open.task,
                    now,
                    fatigue,
                    shown_recently,
                    profile: &profile,
                };
                match self.judge.response(&scene).filter(|_| self.known) {
                    Some(response) => {
                        let late = self.config.delayed * response.probs[1] * (self.late_reward - self.reward.snooze);
                        self.expected.push(self.reward.expected(&response) + late);
                    }
                    None => self.known = false,
                }
            }
            self.open.push(Opening {
                user,
                context,
                rows: first..self.ids.len(),
                profile,
            });
        }
    }
}

fn late_feedback(minutes: u64) -> Feedback {
    Feedback {
        reaction: Reaction::Done,
        dwell_ms: Some(minutes * 60_000),
    }
}

impl Make for Tips {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "people with habits who are shown one tip at a time";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        (
            "preset",
            "standard (several sessions a day) or sparse (four sessions a week)",
        ),
        ("users", "people, unless the run says otherwise; at least 1"),
        ("days", "days, unless the run says otherwise; 1 to 60000"),
        ("tasks", "the usual number of open tasks; 2 to 30"),
        (
            "differences",
            "how much people differ in what they like: 1 as the personas say, 0 not at all; 0 to 4",
        ),
        (
            "drift",
            "hours by which everybody's best hour moves each day; any finite number",
        ),
        (
            "delayed",
            "probability that a snoozed task is finished elsewhere within 1 to 24 hours; 0 to 1",
        ),
        ("missing", "probability that a feedback is lost; 0 to 1"),
    ];
    type Config = TipsConfig;

    fn build(config: TipsConfig, world: &World) -> Result<Tips> {
        let (reward, judge) = (world.reward.clone(), world.judge.clone());
        Tips::build(config, world.horizon, reward, judge, world.key)
    }
}

impl Environment for Tips {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn advance(&mut self) -> Result<bool> {
        while self.next_hour < self.end_hour && self.left > 0 {
            self.hour = self.next_hour;
            self.next_hour += 1;
            if self.hour.is_multiple_of(24) {
                self.begin_day(self.hour / 24);
            }
            if self.today[(self.hour % 24) as usize].is_empty() {
                continue;
            }
            self.open_rounds();
            if !self.open.is_empty() {
                return Ok(true);
            }
        }
        self.first_index += self.open.len() as u64;
        self.open.clear();
        Ok(false)
    }

    fn now(&self) -> u64 {
        self.hour * 60
    }

    fn open(&self) -> usize {
        self.open.len()
    }

    fn round(&self, i: usize) -> Round<'_> {
        let (opening, dim) = (&self.open[i], self.shape.candidate.len());
        let rows = opening.rows.clone();
        Round {
            index: self.first_index + i as u64,
            user: UserId(self.people[opening.user].number),
            context: &self.context[opening.context..opening.context + self.shape.context.len()],
            candidates: Candidates {
                ids: &self.ids[rows.clone()],
                features: &self.features[rows.start * dim..rows.end * dim],
                dim,
            },
        }
    }

    fn expected(&self, i: usize) -> Option<&[f64]> {
        self.known.then(|| &self.expected[self.open[i].rows.clone()])
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let dimension = |what, got, expected| Err(Error::Dimension { what, got, expected });
        if chosen.len() != self.open.len() {
            return dimension("choices of a tick", chosen.len(), self.open.len());
        }
        let now = self.moment();
        let mut scenes = Vec::with_capacity(chosen.len());
        for (opening, &i) in self.open.iter().zip(chosen) {
            let person = &self.people[opening.user];
            let Some(open) = person.tasks().get(i) else {
                return dimension(
                    "a choice among the candidates (positions count from 0)",
                    i,
                    opening.rows.len(),
                );
            };
            let scene = Scene {
                habits: &person.habits,
                task: &open.task,
                now,
                fatigue: person.fatigue(now),
                shown_recently: open.shown_recently(now),
                profile: &opening.profile,
            };
            let key = self
                .key
                .name("outcome")
                .fold(person.number)
                .fold(self.hour)
                .fold(open.task.id);
            scenes.push((scene, key));
        }
        let mut feedbacks = Vec::with_capacity(scenes.len());
        self.judge.react(&scenes, &mut feedbacks)?;
        if feedbacks.len() != scenes.len() {
            return dimension("feedbacks of the judge", feedbacks.len(), scenes.len());
        }
        let keys: Vec<Key> = scenes.iter().map(|(_, key)| *key).collect();
        for (((opening, &i), key), reacted) in self.open.iter().zip(chosen).zip(keys).zip(feedbacks) {
            let snoozed = reacted.reaction == Reaction::Snooze;
            let later = (snoozed && key.name("late").uniform() < self.config.delayed).then(|| {
                let span = (LATE_MINUTES.end - LATE_MINUTES.start) as usize;
                LATE_MINUTES.start + key.name("minutes").draws().below(span) as u64
            });
            let feedback = later.map_or(reacted, late_feedback);
            let lost = key.name("lost").uniform() < self.config.missing;
            let arrival = match later {
                _ if lost => Arrival::Never,
                Some(minutes) => Arrival::After(minutes),
                None => Arrival::Now,
            };
            let known = (!lost).then_some((now.0 + later.unwrap_or(0), feedback));
            let done = reacted.reaction == Reaction::Done;
            self.people[opening.user].settle(i, now, done, later, known);
            self.left -= 1;
            out.push(Outcome {
                reward: self.reward.reward(&feedback),
                feedback: Some(feedback),
                arrival,
            });
        }
        self.first_index += self.open.len() as u64;
        self.open.clear();
        Ok(())
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.people
            .get(usize::try_from(user.0).ok()?)
            .map(|p| p.habits.name.as_str())
    }
}

#[cfg(test)]
mod tests;
