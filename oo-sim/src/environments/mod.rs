//! The worlds by name, the wrappers around them, and how a spec becomes a world.

pub mod arms;
pub mod bernoulli;
pub mod classification;
pub mod delay;
pub mod drift;
pub mod linear;
pub mod logistic;
pub mod tips;
pub mod wheel;

use oo_core::judge::Judge;
use oo_core::spec::{Part, configure};
use oo_core::tips::RewardSpec;
use oo_core::{ActionId, Candidates, Environment, Error, Key, Result, Round, Shape, Spec, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How far to go; what is `None` is left to the world's own options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    /// People (tips).
    pub users: Option<usize>,
    /// Days (tips).
    pub days: Option<usize>,
    /// Rounds in all. In the tips world everybody gets `rounds / users` of them, the first `rounds % users` people
    /// one more, and the world lasts until the slowest person is through; days given here still end it.
    pub rounds: Option<u64>,
}

/// What every world is built from besides its own options.
#[derive(Clone)]
pub struct World {
    /// The key of this seed; leaves out the policy's name.
    pub key: Key,
    /// How reactions become rewards (tips).
    pub reward: RewardSpec,
    /// Who reacts (tips).
    pub judge: Arc<dyn Judge>,
    /// How far to go.
    pub horizon: Horizon,
}

impl World {
    /// The key of everything that happens in the rounds.
    fn rounds_key(&self) -> Key {
        self.key.name("world")
    }
}

/// How a world comes from its options: its file's one promise to the table.
pub trait Make: Environment + Sized + 'static {
    /// The name on the command line.
    const NAME: &'static str;
    /// One line of help.
    const SUMMARY: &'static str;
    /// Name and one line of help an option; every field of `Config` has one (tested).
    const OPTIONS: &'static [(&'static str, &'static str)];
    /// The options with their defaults.
    type Config: Default + Serialize + DeserializeOwned;
    /// Makes the world of one seed.
    fn build(config: Self::Config, world: &World) -> Result<Self>;
}

/// How a wrapper comes from its options and the world inside it.
pub trait Wrap: Environment + Sized + 'static {
    /// The name on the command line, after the plus sign.
    const NAME: &'static str;
    /// One line of help.
    const SUMMARY: &'static str;
    /// Name and one line of help an option; every field of `Config` has one (tested).
    const OPTIONS: &'static [(&'static str, &'static str)];
    /// The options with their defaults.
    type Config: Default + Serialize + DeserializeOwned;
    /// Wraps `inner`; `key` is the wrapper's own.
    fn build(config: Self::Config, inner: Box<dyn Environment>, key: Key) -> Result<Self>;
}

/// One world in the table.
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Name and help an option.
    pub options: &'static [(&'static str, &'static str)],
    /// The options with their default values.
    pub defaults: fn() -> Map<String, Value>,
    make: fn(&Part, &World) -> anyhow::Result<Box<dyn Environment>>,
}

type WrapFn = fn(Box<dyn Environment>, &Map<String, Value>, Key) -> Result<Box<dyn Environment>>;

/// One wrapper in the table.
pub struct Wrapper {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Name and help an option.
    pub options: &'static [(&'static str, &'static str)],
    /// The options with their default values.
    pub defaults: fn() -> Map<String, Value>,
    wrap: WrapFn,
}

/// The table entry of a world.
pub const fn entry<W: Make>() -> Entry {
    Entry {
        name: W::NAME,
        summary: W::SUMMARY,
        options: W::OPTIONS,
        defaults: defaults::<W::Config>,
        make: |part, world| Ok(Box::new(W::build(configure(W::NAME, &part.options)?, world)?)),
    }
}

/// The table entry of a wrapper.
pub const fn wrapper<W: Wrap>() -> Wrapper {
    Wrapper {
        name: W::NAME,
        summary: W::SUMMARY,
        options: W::OPTIONS,
        defaults: defaults::<W::Config>,
        wrap: |inner, options, key| Ok(Box::new(W::build(configure(W::NAME, options)?, inner, key)?)),
    }
}

fn defaults<C: Default + Serialize>() -> Map<String, Value> {
    match serde_json::to_value(C::default()) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The prefix of worlds made from a data set.
const DATA: &str = "data:";

/// All worlds.
pub static ENVIRONMENTS: &[Entry] = &[
    entry::<tips::Tips>(),
    entry::<linear::Linear>(),
    entry::<logistic::Logistic>(),
    entry::<bernoulli::Bernoulli>(),
    entry::<wheel::Wheel>(),
    classification::ENTRY,
];

/// All wrappers.
pub static WRAPPERS: &[Wrapper] = &[
    wrapper::<drift::Drift>(),
    wrapper::<delay::Delay>(),
    wrapper::<arms::Arms>(),
];

fn entry_of(base: &Part) -> Result<&'static Entry> {
    // A path is no name of the table, so `data:` is recognised by its prefix.
    let data = ENVIRONMENTS
        .iter()
        .find(|e| base.name.starts_with(DATA) && e.name.starts_with(DATA));
    match data {
        Some(entry) => Ok(entry),
        None => oo_core::registry::find(ENVIRONMENTS, |e| e.name, base, "environment", &[]),
    }
}

/// Whether the world that `spec` names has this option.
///
/// # Errors
/// An unknown name.
pub fn has_option(spec: &Spec, name: &str) -> Result<bool> {
    Ok(entry_of(spec.base())?.options.iter().any(|(known, _)| *known == name))
}

/// Builds the world that `spec` names, with its wrappers around it, the first of them innermost.
///
/// # Errors
/// Unknown names and options, options out of range, data that is missing or bad, wrappers that do not fit.
pub fn build(spec: &Spec, world: &World) -> anyhow::Result<Box<dyn Environment>> {
    let base = spec.base();
    let mut built = (entry_of(base)?.make)(base, world)?;
    for (i, part) in spec.wrappers().iter().enumerate() {
        let wrapper = oo_core::registry::find(WRAPPERS, |w| w.name, part, "environment wrapper", &[])?;
        // Two wrappers of one name draw apart; another wrapper between them moves nobody's numbers.
        let before = spec.wrappers()[..i].iter().filter(|p| p.name == part.name).count();
        built = (wrapper.wrap)(built, &part.options, world.key.name(wrapper.name).fold(before as u64))?;
    }
    Ok(built)
}

/// The SHA-256 of the file that a world reads, where it reads one: what it holds is part of the world's identity.
///
/// # Errors
/// A data set that is unknown or not on this machine, a file that cannot be read.
pub fn reads(spec: &Spec) -> anyhow::Result<Option<String>> {
    let Some(name) = spec.base().name.strip_prefix(DATA) else {
        return Ok(None);
    };
    let path = crate::datasets::cache::locate(name)?;
    crate::datasets::cache::sha256(&path).map(Some)
}

/// The names `x0`, `x1`, … of features without a meaning.
fn feature_names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("x{i}")).collect()
}

/// A direction drawn uniformly: `d` normals scaled to length 1.
fn unit_vector(draws: &mut oo_core::key::Draws, out: &mut [f64]) {
    out.iter_mut().for_each(|x| *x = draws.normal());
    let length = libm::sqrt(out.iter().map(|x| x * x).sum());
    // A vector of zeros has probability 0; the guard keeps NaN out of the world all the same.
    out.iter_mut().for_each(|x| *x /= f64::max(length, 1e-300));
}

/// What worlds with one round a tick and the actions `0..n` have in common.
struct Stage {
    shape: Shape,
    ids: Vec<ActionId>,
    context: Vec<f32>,
    features: Vec<f32>,
    expected: Vec<f64>,
    opened: u64,
    rounds: u64,
}

impl Stage {
    fn new(context: Vec<String>, candidate: Vec<String>, actions: usize, rounds: u64) -> Stage {
        Stage {
            ids: (0..actions as u64).map(ActionId).collect(),
            context: vec![0.0; context.len()],
            features: vec![0.0; actions * candidate.len()],
            expected: vec![0.0; actions],
            shape: Shape {
                context,
                candidate,
                actions: Some(actions),
            },
            opened: 0,
            rounds,
        }
    }

    /// Opens the next round and gives its index, `None` at the end.
    fn next(&mut self) -> Option<u64> {
        (self.opened < self.rounds).then(|| {
            self.opened += 1;
            self.index()
        })
    }

    /// The index of the open round.
    fn index(&self) -> u64 {
        self.opened.saturating_sub(1)
    }

    fn round(&self) -> Round<'_> {
        let dim = self.shape.candidate.len();
        Round {
            index: self.index(),
            user: UserId(0),
            context: &self.context,
            candidates: Candidates {
                ids: &self.ids,
                features: &self.features,
                dim,
            },
        }
    }

    /// The one chosen position.
    fn chosen(&self, chosen: &[usize]) -> Result<usize> {
        count(chosen, 1)?;
        let n = self.ids.len();
        if chosen[0] < n {
            Ok(chosen[0])
        } else {
            Err(position(chosen[0], n))
        }
    }
}

/// Refuses any number of choices but one an open round.
fn count(chosen: &[usize], open: usize) -> Result<()> {
    if chosen.len() == open {
        return Ok(());
    }
    Err(Error::Dimension {
        what: "choices in a tick",
        got: chosen.len(),
        expected: open,
    })
}

/// The error for a chosen position that is not offered.
fn position(i: usize, candidates: usize) -> Error {
    Error::Failed(format!(
        "position {i} was chosen, but the round offers {candidates} candidates (positions from 0)"
    ))
}

/// The parts of [`Environment`] that a world with a `stage` does not decide itself.
macro_rules! staged {
    () => {
        fn shape(&self) -> &oo_core::Shape {
            &self.stage.shape
        }

        fn now(&self) -> u64 {
            self.stage.index()
        }

        fn round(&self, _: usize) -> oo_core::Round<'_> {
            self.stage.round()
        }

        fn expected(&self, _: usize) -> Option<&[f64]> {
            Some(&self.stage.expected)
        }
    };
}
use staged;

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Outcome;
    use oo_core::tips::{Feedback, Reaction, Scene};

    /// The tips world has tests of its own; the other worlds never ask a judge.
    struct Nobody;

    impl Judge for Nobody {
        fn react(&self, scenes: &[(Scene<'_>, Key)], out: &mut Vec<Feedback>) -> Result<()> {
            out.extend(scenes.iter().map(|_| Feedback {
                reaction: Reaction::Done,
                dwell_ms: None,
            }));
            Ok(())
        }
    }

    fn world(rounds: u64) -> World {
        World {
            key: Key::root(3),
            reward: RewardSpec::named("r1").unwrap(),
            judge: Arc::new(Nobody),
            horizon: Horizon {
                users: Some(3),
                days: Some(2),
                rounds: Some(rounds),
            },
        }
    }

    fn make(text: &str, rounds: u64) -> anyhow::Result<Box<dyn Environment>> {
        build(&Spec::parse(text)?, &world(rounds))
    }

    /// Runs to the end, checks every round, and gives all that was seen.
    fn play(env: &mut dyn Environment) -> (Vec<String>, Vec<Outcome>) {
        let (mut seen, mut outcomes, mut now) = (vec![], vec![], 0);
        let shape = env.shape().clone();
        while env.advance().unwrap() {
            assert!(env.open() > 0);
            assert!(env.now() >= now);
            now = env.now();
            let mut chosen = vec![];
            for r in 0..env.open() {
                let round = env.round(r);
                let all = round.candidates;
                assert_eq!(round.context.len(), shape.context.len());
                assert_eq!(
                    (all.dim, all.features.len()),
                    (shape.candidate.len(), all.len() * shape.candidate.len())
                );
                assert!(round.context.iter().chain(all.features).all(|x| x.is_finite()));
                let mut ids = all.ids.to_vec();
                ids.sort();
                ids.dedup();
                assert!(!ids.is_empty() && ids.len() == all.len());
                if let Some(n) = shape.actions {
                    assert!(ids.iter().map(|id| id.0).eq(0..n as u64));
                }
                assert!(env.expected(r).is_none_or(|e| e.len() == all.len()));
                chosen.push(round.index as usize % all.len());
                seen.push(format!("{round:?} {:?}", env.expected(r)));
            }
            let before = outcomes.len();
            env.respond(&chosen, &mut outcomes).unwrap();
            assert_eq!(outcomes.len() - before, chosen.len());
        }
        (seen, outcomes)
    }

    #[test]
    fn every_world_runs_to_its_end_and_repeats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toy.csv");
        std::fs::write(&path, "a,b,label\n1,7,0\n2,7,1\n3,7,2\n4,7,0\n").unwrap();
        let data = format!("data:{}", path.display());
        for entry in ENVIRONMENTS {
            let base = if entry.name.starts_with(DATA) {
                data.as_str()
            } else {
                entry.name
            };
            let text = if base.contains(' ') { continue } else { base };
            let (seen, outcomes) = play(make(text, 4).unwrap().as_mut());
            assert!(!seen.is_empty(), "{text}");
            if entry.name != "tips" {
                assert_eq!(seen.len(), 4, "{text}");
            }
            assert_eq!((seen, outcomes), play(make(text, 4).unwrap().as_mut()), "{text}");
            for wrapper in WRAPPERS {
                let text = format!("{text}+{}", wrapper.name);
                match make(&text, 4) {
                    Ok(mut env) => assert!(!play(env.as_mut()).0.is_empty(), "{text}"),
                    Err(e) => assert!(matches!(e.downcast_ref(), Some(Error::Unfit { .. })), "{text}: {e}"),
                }
            }
        }
    }

    #[test]
    fn options_and_defaults_agree() {
        let tables = ENVIRONMENTS.iter().map(|e| (e.name, e.options, e.defaults));
        for (name, options, defaults) in tables.chain(WRAPPERS.iter().map(|w| (w.name, w.options, w.defaults))) {
            let mut listed: Vec<_> = options.iter().map(|o| o.0.to_string()).collect();
            let mut known: Vec<_> = defaults().keys().cloned().collect();
            listed.sort();
            known.sort();
            assert_eq!(listed, known, "{name}");
        }
    }

    #[test]
    fn scaled_features_have_mean_0_and_sd_1_and_constants_are_0() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toy.csv");
        std::fs::write(&path, "a,b,label\n1,0.1,0\n3,0.1,1\n1,0.1,1\n3,0.1,0\n").unwrap();
        let mut env = make(&format!("data:{}{{order=file}}", path.display()), 10).unwrap();
        let mut rows = vec![];
        while env.advance().unwrap() {
            rows.push((env.round(0).context.to_vec(), env.expected(0).unwrap().to_vec()));
        }
        assert_eq!(env.shape().context, ["a", "b", "bias"]);
        assert_eq!(rows[0], (vec![-1.0, 0.0, 1.0], vec![1.0, 0.0]));
        assert_eq!(rows[1], (vec![1.0, 0.0, 1.0], vec![0.0, 1.0]));
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn rows_of_length_1_keep_their_direction_and_the_bias() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toy.csv");
        std::fs::write(&path, "a,b,label\n3,4,0\n0,0,1\n").unwrap();
        let spec = format!("data:{}{{order=file,scale=false,unit=true}}", path.display());
        let mut env = make(&spec, 10).unwrap();
        assert!(env.advance().unwrap());
        assert_eq!(env.round(0).context, [0.6, 0.8, 1.0]);
        assert!(env.advance().unwrap());
        assert_eq!(env.round(0).context, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn drift_moves_every_reward_from_its_round_on() {
        let mut env = make("bernoulli{means=0.1/0.2/0.3}+drift{at=2,every=3}", 8).unwrap();
        let mut before = vec![0.1, 0.2, 0.3];
        for index in 0..8 {
            assert!(env.advance().unwrap());
            let expected = env.expected(0).unwrap().to_vec();
            let moved = expected.iter().zip(&before).all(|(a, b)| a != b);
            assert_eq!(moved, [2, 5].contains(&index), "{index}");
            before = expected;
        }
        let e = make("linear+arms+drift", 1).err().unwrap();
        assert!(matches!(e.downcast_ref(), Some(Error::Unfit { .. })), "{e}");
    }

    #[test]
    fn delay_and_arms_do_what_they_say() {
        use oo_core::Arrival;
        let (_, fixed) = play(make("linear+delay{rounds=7}", 5).unwrap().as_mut());
        assert!(fixed.iter().all(|o| o.arrival == Arrival::After(7)));
        let (_, lost) = play(make("linear+delay{missing=1.0}", 5).unwrap().as_mut());
        assert!(lost.iter().all(|o| o.arrival == Arrival::Never));
        let (_, random) = play(
            make("bernoulli+delay{kind=geometric,rounds=20}", 10_000)
                .unwrap()
                .as_mut(),
        );
        let waits = random
            .iter()
            .map(|o| if let Arrival::After(n) = o.arrival { n } else { 0 });
        // The mean of 10,000 geometric times has sd sqrt(20 * 19) / 100 = 0.195; five of them.
        let mean = waits.sum::<u64>() as f64 / 10_000.0;
        assert!((mean - 20.0).abs() < 0.98, "{mean}");
        let mut env = make("bernoulli+arms{keep=0.001,every=2}", 6).unwrap();
        while env.advance().unwrap() {
            assert_eq!(env.round(0).candidates.len(), 1);
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        for text in [
            "lineer",
            "linear{d=0}",
            "bernoulli{means=1/2}",
            "wheel{delta=2}",
            "data:mushrom",
            "linear+dellay",
            "linear+arms{keep=0}",
            "linear+delay{missing=2}",
            "linear{noise=-1}",
            "data:obd_bts_men",
        ] {
            assert!(make(text, 1).is_err(), "{text}");
        }
        let mut env = make("bernoulli", 1).unwrap();
        assert!(env.advance().unwrap());
        assert!(env.respond(&[9], &mut vec![]).is_err());
        assert!(env.respond(&[], &mut vec![]).is_err());
    }
}
