//! The tips world: people with tasks, tired of too many tips, in closed loop.
//!
//! Ticks are hours. Whoever looks at the screen in that hour is shown one of their open tasks; the judge says how
//! they react; the reaction changes what they are shown next (tasks get done, fatigue rises, a tip seen again
//! bores), so a policy shapes its own future. When people look, and what comes into their lists, does not depend
//! on the policy; and the same person, moment and task get the same outcome whoever chose it.

mod person;
mod personas;

use super::World;
use oo_core::judge::Judge;
use oo_core::spec::require;
use oo_core::tips::{Feedback, Moment, Profile, Reaction, RewardSpec, Scene};
use oo_core::{ActionId, Arrival, Candidates, Environment, Key, Outcome, Result, Round, Shape, UserId, features};
use person::Person;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    Standard,
    Sparse,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    preset: Preset,
    users: u64,
    days: u64,
    tasks: f64,
    drift: f64,
    delayed: f64,
    missing: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            preset: Preset::Standard,
            users: 40,
            days: 14,
            tasks: 8.0,
            drift: 0.0,
            delayed: 0.0,
            missing: 0.0,
        }
    }
}

/// Name and help an option.
pub const OPTIONS: &[(&str, &str)] = &[
    ("preset", "standard (about two looks a day) or sparse (about four a week: fewer than five rewards)"),
    ("users", "people; personas go round; --users wins"),
    ("days", "days; --days wins"),
    ("tasks", "the usual length of a list; 1 to 25"),
    ("drift", "hours a day by which everybody's best hour moves"),
    ("delayed", "probability that a snoozed task is finished elsewhere, one hour to a day later; 0 to 1"),
    ("missing", "probability that feedback never arrives; 0 to 1"),
];

/// One round that is open in this tick.
#[derive(Debug)]
struct Open {
    user: usize,
    index: u64,
    context: Vec<f32>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
    expected: Vec<f64>,
    profile: Profile,
}

/// See the module.
pub struct Tips {
    config: Config,
    shape: Shape,
    reward: RewardSpec,
    judge: Arc<dyn Judge>,
    key: Key,
    people: Vec<Person>,
    /// Rounds that each person still gets, where the run counts rounds and not days.
    left: Option<Vec<u64>>,
    now: Moment,
    started: bool,
    /// Hours of today, a list a person.
    today: Vec<Vec<u64>>,
    open: Vec<Open>,
    rounds: u64,
}

impl Tips {
    /// Builds the world. With `horizon.rounds`, everybody gets exactly rounds / users of them (the first ones one
    /// more where it does not divide) and the days follow.
    pub fn build(mut config: Config, world: &World) -> Result<Self> {
        config.users = world.horizon.users.unwrap_or(config.users);
        config.days = world.horizon.days.unwrap_or(config.days);
        let owner = "tips";
        require((1..=1_000_000).contains(&config.users), owner, "users", "1 to 1000000", config.users)?;
        require((1..=10_000).contains(&config.days), owner, "days", "1 to 10000", config.days)?;
        require((1.0..=25.0).contains(&config.tasks), owner, "tasks", "1 to 25", config.tasks)?;
        require(config.drift.is_finite(), owner, "drift", "a number", config.drift)?;
        require((0.0..=1.0).contains(&config.delayed), owner, "delayed", "0 to 1", config.delayed)?;
        require((0.0..=1.0).contains(&config.missing), owner, "missing", "0 to 1", config.missing)?;
        let key = world.key.name("tips");
        let sparse = config.preset == Preset::Sparse;
        let people: Vec<Person> =
            (0..config.users).map(|u| Person::new(u, config.tasks, sparse, key.name("user").fold(u))).collect();
        let left = world.horizon.rounds.map(|rounds| {
            (0..config.users).map(|u| rounds / config.users + u64::from(u < rounds % config.users)).collect()
        });
        Ok(Tips {
            shape: features::shape(),
            reward: world.reward.clone(),
            judge: world.judge.clone(),
            key,
            people,
            left,
            now: Moment(0),
            started: false,
            today: Vec::new(),
            open: Vec::new(),
            rounds: 0,
            config,
        })
    }

    fn over(&self) -> bool {
        match &self.left {
            // A person who never looks must not keep the world alive for ever.
            Some(left) => left.iter().all(|&l| l == 0) || self.now.day() >= 10_000,
            None => self.now.day() >= self.config.days,
        }
    }

    fn begin_day(&mut self) {
        let day = self.now.day();
        for person in &mut self.people {
            person.receive(day);
            if day > 0 {
                person.habits.peak_hour = (person.habits.peak_hour + self.config.drift).rem_euclid(24.0);
            }
        }
        self.today = self.people.iter().map(|p| p.sessions(day)).collect();
    }

    fn open_rounds(&mut self) {
        let hour = self.now.0 / 60 % 24;
        self.open.clear();
        for user in 0..self.people.len() {
            let wanted = self.left.as_ref().is_none_or(|left| left[user] > 0);
            if !wanted || !self.today[user].contains(&hour) {
                continue;
            }
            let person = &self.people[user];
            // Tasks that come in later today are not there yet.
            let tasks = || person.tasks.iter().filter(|t| t.created <= self.now);
            if tasks().next().is_none() {
                continue;
            }
            let profile = person.profile(self.now);
            let mut open = Open {
                user,
                index: self.rounds,
                context: Vec::new(),
                ids: tasks().map(|t| ActionId(t.id)).collect(),
                features: Vec::new(),
                expected: Vec::new(),
                profile,
            };
            features::context_into(self.now, &profile, &mut open.context);
            for task in tasks() {
                let shown = person.shown(task.id, self.now);
                features::candidate_into(task, self.now, shown, &open.context, &mut open.features);
                let scene = Scene {
                    habits: &person.habits,
                    task,
                    now: self.now,
                    fatigue: person.fatigue(self.now),
                    shown_recently: shown,
                    profile: &profile,
                };
                if let Some(response) = self.judge.response(&scene) {
                    open.expected.push(self.reward.expected(&response));
                }
            }
            if let Some(left) = &mut self.left {
                left[user] -= 1;
            }
            self.rounds += 1;
            self.open.push(open);
        }
    }

    /// What becomes of a reaction: when it is heard of, and a task finished elsewhere.
    fn outcome(&self, feedback: Feedback, key: Key) -> Outcome {
        let mut outcome = Outcome { reward: self.reward.reward(&feedback), feedback: Some(feedback), ..Outcome::default() };
        if feedback.reaction == Reaction::Snooze && key.name("elsewhere").uniform() < self.config.delayed {
            let minutes = 60 + (key.name("delay").uniform() * 1380.0) as u64;
            let later = Feedback { reaction: Reaction::Done, dwell_ms: Some(minutes * 60_000) };
            outcome.reward = self.reward.reward(&later);
            outcome.feedback = Some(later);
            outcome.arrival = Arrival::After(minutes);
        }
        if key.name("missing").uniform() < self.config.missing {
            outcome.arrival = Arrival::Never;
        }
        outcome
    }
}

impl Environment for Tips {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn advance(&mut self) -> Result<bool> {
        loop {
            if self.started {
                self.now = Moment(self.now.0 + 60);
            }
            if self.over() {
                return Ok(false);
            }
            if self.now.0.is_multiple_of(1440) {
                self.begin_day();
            }
            self.started = true;
            self.open_rounds();
            if !self.open.is_empty() {
                return Ok(true);
            }
        }
    }

    fn now(&self) -> u64 {
        self.now.0
    }

    fn open(&self) -> usize {
        self.open.len()
    }

    fn round(&self, i: usize) -> Round<'_> {
        let open = &self.open[i];
        Round {
            index: open.index,
            user: UserId(open.user as u64),
            context: &open.context,
            candidates: Candidates { ids: &open.ids, features: &open.features, dim: self.shape.candidate.len() },
        }
    }

    fn expected(&self, i: usize) -> Option<&[f64]> {
        let open = &self.open[i];
        (open.expected.len() == open.ids.len()).then_some(&open.expected)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let mut scenes = Vec::with_capacity(chosen.len());
        for (open, &choice) in self.open.iter().zip(chosen) {
            let person = &self.people[open.user];
            let id = open.ids[choice].0;
            let Some(task) = person.tasks.iter().find(|t| t.id == id) else {
                return Err(oo_core::Error::Failed(format!("task {id} is gone")));
            };
            let scene = Scene {
                habits: &person.habits,
                task,
                now: self.now,
                fatigue: person.fatigue(self.now),
                shown_recently: person.shown(id, self.now),
                profile: &open.profile,
            };
            let key = self.key.name("outcome").fold(open.user as u64).fold(self.now.0).fold(id);
            scenes.push((scene, key));
        }
        let mut feedback = Vec::with_capacity(chosen.len());
        self.judge.react(&scenes, &mut feedback)?;
        let keys: Vec<Key> = scenes.iter().map(|(_, key)| *key).collect();
        for (i, &choice) in chosen.iter().enumerate() {
            let outcome = self.outcome(feedback[i], keys[i]);
            let (user, id) = (self.open[i].user, self.open[i].ids[choice].0);
            let person = &mut self.people[user];
            person.show(id, self.now);
            person.remember(self.now, feedback[i]);
            if outcome.feedback.is_some_and(|f| f.reaction == Reaction::Done) {
                person.finish(id, self.now);
            }
            out.push(outcome);
        }
        Ok(())
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.people.get(user.0 as usize).map(|p| p.habits.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{play, world};
    use super::*;

    fn tips(config: Config, seed: u64) -> Box<dyn Environment> {
        Box::new(Tips::build(config, &world(seed)).unwrap())
    }

    #[test]
    fn choosing_well_pays() {
        let uniform = play(tips(Config::default(), 1), |r, key| key.draws().below(r.len()));
        let oracle = play(tips(Config::default(), 1), |e, _| (0..e.len()).fold(0, |b, i| if e[i] > e[b] { i } else { b }));
        let (uniform, oracle) = (uniform.mean(), oracle.mean());
        println!("uniform {uniform:.3}, best {oracle:.3}");
        assert!((-0.3..0.4).contains(&uniform) && oracle > uniform + 0.15, "{uniform} {oracle}");
    }

    #[test]
    fn sparse_people_give_fewer_than_five_rewards_a_week() {
        let config = Config { preset: Preset::Sparse, users: 80, days: 28, ..Config::default() };
        let played = play(tips(config, 1), |_, _| 0);
        let weekly = played.rewards.len() as f64 / (80.0 * 4.0);
        assert!((3.0..5.0).contains(&weekly), "{weekly}");
    }

    #[test]
    fn the_horizon_in_rounds_is_exact() {
        let mut w = world(2);
        w.horizon.users = Some(5);
        w.horizon.rounds = Some(100);
        let played = play(Box::new(Tips::build(Config::default(), &w).unwrap()), |_, _| 0);
        assert_eq!(played.rewards.len(), 100);
    }

    #[test]
    fn the_same_moment_and_tip_get_the_same_outcome() {
        // In the first tick the state is the same whatever the policy, so equal choices must agree.
        let first = |pick: fn(usize) -> usize| {
            let mut e = tips(Config::default(), 3);
            assert!(e.advance().unwrap());
            let chosen: Vec<usize> = (0..e.open()).map(pick).collect();
            let mut out = Vec::new();
            e.respond(&chosen, &mut out).unwrap();
            out
        };
        let (a, b) = (first(|_| 0), first(|i| usize::from(i > 0)));
        assert_eq!(a[0], b[0]);
    }
}
