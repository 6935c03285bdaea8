//! The policy in charge. A policy that keeps one model a user (`+per-user`) is held model by model, so that those of
//! users who have not learned for a while can lie on the disk: only the latest stay unpacked.

use super::settings::{Artefact, BuildPolicy};
use crate::journal::disk::Disk;
use crate::{Error, Result};
use oo_core::{Batch, Decision, Key, Policy, Round, Shape, Spec, UserId};
use oo_policies::state::Reader;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where policies live, and how they are made.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    /// The state folder. It holds the file of packed models as well.
    pub dir: &'a Path,
    pub disk: &'a Arc<dyn Disk>,
    pub build: &'a BuildPolicy,
    /// Models of one user each that stay unpacked.
    pub hot_users: usize,
}

/// See the module.
pub(crate) enum Models {
    /// One policy for everybody.
    One(Box<dyn Policy>),
    /// One a user.
    Each(Box<Each>),
}

/// One policy a user.
pub(crate) struct Each {
    inner: Spec,
    shape: Shape,
    build: BuildPolicy,
    blank: Box<dyn Policy>,
    /// What new people begin with, where the artefact says so.
    start: Option<Vec<u8>>,
    /// Unpacked, with the turn at which each learned last.
    hot: HashMap<UserId, (u64, Box<dyn Policy>)>,
    turns: BTreeMap<u64, UserId>,
    turn: u64,
    limit: usize,
    cold: HashMap<UserId, Place>,
    spill: Spill,
}

/// Where a packed model lies.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    offset: u64,
    len: u32,
}

/// A file without a name for packed models. It is no truth: a start makes it again from the snapshot.
struct Spill {
    dir: PathBuf,
    packed: Packed,
    end: u64,
    garbage: u64,
}

impl Spill {
    /// Garbage is tolerated up to this size.
    const TOLERATED: u64 = 64 << 20;

    fn new(dir: &Path, disk: &Arc<dyn Disk>) -> Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("models.{}.{number}.tmp", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        // It lives as long as its handle.
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        Ok(Spill {
            dir: dir.into(),
            packed: Packed {
                disk: Arc::clone(disk),
                file: Arc::new(file),
            },
            end: 0,
            garbage: 0,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<Place> {
        self.packed.file.write_all_at(bytes, self.end)?;
        let place = Place {
            offset: self.end,
            len: bytes.len() as u32,
        };
        self.end += bytes.len() as u64;
        Ok(place)
    }
}

/// The file of packed models, to be read.
#[derive(Clone)]
pub(crate) struct Packed {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
}

impl Packed {
    fn get(&self, place: Place) -> oo_core::Result<Vec<u8>> {
        let mut bytes = vec![0; place.len as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let why = match self
                .disk
                .read_at(&self.file, &mut bytes[filled..], place.offset + filled as u64)
            {
                Ok(0) => "it ends too early".into(),
                Ok(n) => {
                    filled += n;
                    continue;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => e.to_string(),
            };
            return Err(oo_core::Error::Failed(format!("a packed model cannot be read: {why}")));
        }
        Ok(bytes)
    }
}

/// A copy of the models at one moment, cheap to take, to be written at leisure.
pub(crate) enum Frozen {
    One(Whole),
    Each {
        hot: Vec<(UserId, Vec<u8>)>,
        cold: Vec<(UserId, Place)>,
        packed: Packed,
        /// What new people begin with. It is the artefact's, and so no part of what is written.
        start: Option<Vec<u8>>,
    },
}

/// One policy for everybody: a copy, or its state where it cannot be copied cheaply.
pub(crate) enum Whole {
    Copy(Box<dyn Policy>),
    State(Vec<u8>),
}

impl Whole {
    fn state(&self) -> Cow<'_, [u8]> {
        match self {
            Whole::Copy(policy) => Cow::Owned(policy.save()),
            Whole::State(bytes) => Cow::Borrowed(bytes),
        }
    }
}

impl Frozen {
    /// Writes 1, user, length and state of each, users rising; one state of user 0 where there is one policy.
    pub fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut item = |user: u64, bytes: &[u8]| {
            out.write_all(&[1])?;
            out.write_all(&user.to_le_bytes())?;
            out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            out.write_all(bytes)
        };
        match self {
            Frozen::One(whole) => item(0, &whole.state()),
            Frozen::Each { hot, cold, packed, .. } => {
                let (mut hot, mut cold) = (hot.iter().peekable(), cold.iter().peekable());
                loop {
                    let hot_first = match (hot.peek(), cold.peek()) {
                        (None, None) => return Ok(()),
                        (Some(h), Some(c)) => h.0 < c.0,
                        (h, _) => h.is_some(),
                    };
                    if hot_first {
                        let Some((user, bytes)) = hot.next() else { return Ok(()) };
                        item(user.0, bytes)?;
                    } else {
                        let Some((user, place)) = cold.next() else {
                            return Ok(());
                        };
                        item(user.0, &packed.get(*place).map_err(std::io::Error::other)?)?;
                    }
                }
            }
        }
    }
}

impl Frozen {
    /// The state as [`oo_core::Policy::save`] gives it.
    ///
    /// # Errors
    /// A packed model that cannot be read.
    pub fn state(&self) -> oo_core::Result<Vec<u8>> {
        let (hot, cold, packed, start) = match self {
            Frozen::One(whole) => return Ok(whole.state().into_owned()),
            Frozen::Each {
                hot,
                cold,
                packed,
                start,
            } => (hot, cold, packed, start),
        };
        let mut all: BTreeMap<UserId, Vec<u8>> = hot.iter().cloned().collect();
        for (user, place) in cold {
            all.insert(*user, packed.get(*place)?);
        }
        let mut w = oo_policies::state::Writer::new(oo_policies::per_user::NAME, "");
        for (user, bytes) in &all {
            w.state(&user.0.to_string(), &bytes[..]);
        }
        if let Some(start) = start {
            w.state(oo_policies::per_user::START, &start[..]);
        }
        w.u64s("users", all.keys().map(|user| user.0));
        Ok(w.finish())
    }
}

impl Models {
    /// The policy of an artefact.
    ///
    /// # Errors
    /// A spec that cannot be built for the shape, a state that does not fit.
    pub fn new(artefact: &Artefact, shape: &Shape, home: Home<'_>) -> Result<Self> {
        let Home { dir, build, .. } = home;
        // A preset may stand for a policy a user; a name that the tables lack is for `build` to know.
        let spec = oo_policies::expand(&artefact.spec)?;
        let per_user = spec
            .wrappers()
            .last()
            .is_some_and(|w| w.name == oo_policies::per_user::NAME);
        // Whatever is wrong with the spec is said by the one who knows.
        let mut whole = build(&spec, shape)?;
        if !per_user {
            if let Some(state) = &artefact.state {
                whole.load(state)?;
            }
            return Ok(Models::One(whole));
        }
        let mut inner = spec;
        inner.parts.pop();
        let mut each = Each {
            blank: build(&inner, shape)?,
            start: None,
            build: Arc::clone(build),
            inner,
            shape: shape.clone(),
            hot: HashMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            limit: home.hot_users.max(1),
            cold: HashMap::new(),
            spill: Spill::new(dir, home.disk)?,
        };
        if let Some(state) = &artefact.state {
            let mut r = Reader::new(oo_policies::per_user::NAME, "", state)?;
            for user in r.u64s("users")? {
                each.adopt(UserId(user), r.state(&user.to_string())?)?;
            }
            if r.has(oo_policies::per_user::START) {
                let start = r.state(oo_policies::per_user::START)?;
                each.blank.load(start)?;
                each.start = Some(start.into());
            }
            r.finish()?;
        }
        Ok(Models::Each(Box::new(each)))
    }

    /// Proposes and draws. See [`oo_core::Policy`].
    pub fn decide(&self, round: &Round<'_>, key: Key, out: &mut Decision) -> oo_core::Result<()> {
        match self {
            Models::One(policy) => policy.decide(round, key, out),
            Models::Each(each) => match (each.hot.get(&round.user), each.cold.get(&round.user)) {
                (Some((_, policy)), _) => policy.decide(round, key, out),
                (None, Some(place)) => each.unpack(*place)?.decide(round, key, out),
                (None, None) => each.blank.decide(round, key, out),
            },
        }
    }

    /// What each feature adds to a score; see [`oo_core::Policy`].
    pub fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        match self {
            Models::One(policy) => policy.contributions(round, i, out),
            Models::Each(each) => match (each.hot.get(&round.user), each.cold.get(&round.user)) {
                (Some((_, policy)), _) => policy.contributions(round, i, out),
                (None, Some(place)) => each.unpack(*place).is_ok_and(|p| p.contributions(round, i, out)),
                (None, None) => each.blank.contributions(round, i, out),
            },
        }
    }

    /// See [`oo_core::Policy`].
    pub fn shares_weights(&self) -> bool {
        match self {
            Models::One(policy) => policy.shares_weights(),
            Models::Each(each) => each.blank.shares_weights(),
        }
    }

    /// Makes sure that a user's model can learn now: one that lies packed is read.
    ///
    /// # Errors
    /// A packed model that cannot be read; nothing is then changed.
    pub fn warm(&mut self, user: UserId) -> oo_core::Result<()> {
        match self {
            Models::Each(each) if each.cold.contains_key(&user) => each.model(user).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Learns rows of one user.
    pub fn update(&mut self, user: UserId, batch: &Batch<'_>) -> oo_core::Result<()> {
        match self {
            Models::One(policy) => policy.update(batch),
            Models::Each(each) => each.model(user)?.update(batch),
        }
    }

    /// The same, but for work that can be done aside; true where some is left. See [`oo_core::Policy::update_quickly`].
    pub fn update_quickly(&mut self, user: UserId, batch: &Batch<'_>) -> oo_core::Result<bool> {
        match self {
            Models::One(policy) => policy.update_quickly(batch),
            // A person's model is small.
            Models::Each(each) => each.model(user)?.update(batch).map(|()| false),
        }
    }

    /// A copy of one policy for everybody, where that is cheap.
    pub fn copy(&self) -> Option<Box<dyn Policy>> {
        match self {
            Models::One(policy) => policy.copy(),
            Models::Each(_) => None,
        }
    }

    /// Another policy for everybody; gives back what there was.
    pub fn exchange(&mut self, policy: Box<dyn Policy>) -> Models {
        std::mem::replace(self, Models::One(policy))
    }

    /// Forgets what is kept of one user alone.
    pub fn forget(&mut self, user: UserId) {
        match self {
            Models::One(policy) => policy.forget(user),
            Models::Each(each) => {
                if let Some((turn, _)) = each.hot.remove(&user) {
                    each.turns.remove(&turn);
                }
                if let Some(place) = each.cold.remove(&user) {
                    each.spill.garbage += u64::from(place.len);
                }
            }
        }
    }

    /// Forgets what is kept of these users; true where there was anything.
    pub fn forget_all(&mut self, users: &[UserId]) -> bool {
        let before = match self {
            Models::One(policy) => Some(policy.save()),
            Models::Each(_) => None,
        };
        let mut any = false;
        for user in users {
            if let Models::Each(each) = &*self {
                any |= each.hot.contains_key(user) || each.cold.contains_key(user);
            }
            self.forget(*user);
        }
        match (&*self, before) {
            (Models::One(policy), Some(before)) => policy.save() != before,
            _ => any,
        }
    }

    /// A copy of everything, to be written at leisure.
    pub fn freeze(&self) -> Frozen {
        match self {
            Models::One(policy) => Frozen::One(match policy.copy() {
                Some(copy) => Whole::Copy(copy),
                None => Whole::State(policy.save()),
            }),
            Models::Each(each) => {
                let mut hot: Vec<_> = each.hot.iter().map(|(u, (_, p))| (*u, p.save())).collect();
                let mut cold: Vec<_> = each.cold.iter().map(|(u, p)| (*u, *p)).collect();
                hot.sort_unstable_by_key(|(u, _)| *u);
                cold.sort_unstable_by_key(|(u, _)| *u);
                Frozen::Each {
                    hot,
                    cold,
                    packed: each.spill.packed.clone(),
                    start: each.start.clone(),
                }
            }
        }
    }

    /// Nobody's model is left, before others are adopted.
    pub fn clear(&mut self) {
        if let Models::Each(each) = self {
            each.hot.clear();
            each.turns.clear();
            each.cold.clear();
        }
    }

    /// Takes back one item of what [`Frozen::write`] wrote.
    pub fn adopt(&mut self, user: UserId, bytes: &[u8]) -> Result<()> {
        match self {
            Models::One(policy) => Ok(policy.load(bytes)?),
            Models::Each(each) => each.adopt(user, bytes),
        }
    }
}

impl Each {
    fn adopt(&mut self, user: UserId, bytes: &[u8]) -> Result<()> {
        let place = self
            .spill
            .put(bytes)
            .map_err(Error::io("write a packed model to", &self.spill.dir))?;
        self.cold.insert(user, place);
        Ok(())
    }

    fn unpack(&self, place: Place) -> oo_core::Result<Box<dyn Policy>> {
        let mut policy = (self.build)(&self.inner, &self.shape)?;
        policy.load(&self.spill.packed.get(place)?)?;
        Ok(policy)
    }

    fn model(&mut self, user: UserId) -> oo_core::Result<&mut dyn Policy> {
        self.turn += 1;
        if !self.hot.contains_key(&user) {
            let policy = match self.cold.get(&user).copied() {
                Some(place) => self.unpack(place)?,
                None => {
                    let mut policy = (self.build)(&self.inner, &self.shape)?;
                    if let Some(start) = &self.start {
                        policy.load(start)?;
                    }
                    policy
                }
            };
            if let Some(place) = self.cold.remove(&user) {
                self.spill.garbage += u64::from(place.len);
            }
            self.hot.insert(user, (self.turn, policy));
            self.turns.insert(self.turn, user);
            self.cool();
        }
        match self.hot.get_mut(&user) {
            Some((turn, policy)) => {
                self.turns.remove(turn);
                self.turns.insert(self.turn, user);
                *turn = self.turn;
                Ok(policy.as_mut())
            }
            None => Err(oo_core::Error::Failed("a model that was just made is gone".into())),
        }
    }

    /// Packs those who learned longest ago, until few enough are unpacked. A disk that is full leaves them in memory.
    fn cool(&mut self) {
        while self.hot.len() > self.limit {
            let Some((&turn, &user)) = self.turns.first_key_value() else {
                return;
            };
            let Some((_, policy)) = self.hot.get(&user) else { return };
            let Ok(place) = self.spill.put(&policy.save()) else {
                return;
            };
            self.turns.remove(&turn);
            self.hot.remove(&user);
            self.cold.insert(user, place);
        }
        if self.spill.garbage > Spill::TOLERATED && self.spill.garbage > self.spill.end / 2 {
            // Failing to tidy up harms nobody: the old file stays.
            let _ = self.tidy();
        }
    }

    fn tidy(&mut self) -> Result<()> {
        let mut spill = Spill::new(&self.spill.dir, &self.spill.packed.disk)?;
        let mut cold = HashMap::with_capacity(self.cold.len());
        for (user, place) in &self.cold {
            let bytes = self.spill.packed.get(*place)?;
            cold.insert(*user, spill.put(&bytes).map_err(Error::io("write", &spill.dir))?);
        }
        (self.spill, self.cold) = (spill, cold);
        Ok(())
    }
}
