//! One model a user: `lin-ucb+per-user`. Nothing is shared, so a new user starts blank, or from a saved model:
//! `lin-ucb+warm{from=FILE}+per-user`.

use crate::state::{Reader, Writer};
use crate::{Maker, Wrapper};
use oo_core::{Batch, Error, Key, Method, Policy, Proposal, Result, Round, UserId};
use serde_json::Map;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The wrapper's name.
pub const NAME: &str = "per-user";

/// The wrapper's line in the table.
pub const WRAPPER: Wrapper = Wrapper {
    name: NAME,
    summary: "One model a user; nothing is shared",
    options: &[],
    defaults: Map::new,
    wrap: |make, options, _| match options.keys().next() {
        None => Ok(Arc::new(move || Ok(Box::new(PerUser::new(make.clone())?)))),
        Some(option) => Err(Error::Unknown {
            kind: "option of per-user".into(),
            name: option.clone(),
            known: vec!["none".into()],
        }),
    },
};

/// The entry of a saved state that holds what new people begin with.
pub const START: &str = "start";

/// A saved state with what new people are to begin with.
///
/// # Errors
/// A state that is none of this wrapper.
pub fn with_start(state: &[u8], start: &[u8]) -> Result<Vec<u8>> {
    let mut r = Reader::new(NAME, "", state)?;
    let mut w = Writer::new(NAME, "");
    let users = r.u64s("users")?;
    for user in &users {
        let name = user.to_string();
        w.state(&name, r.state(&name)?);
    }
    w.state(START, start);
    w.u64s("users", users);
    Ok(w.finish())
}

/// See the module.
pub struct PerUser {
    make: Maker,
    blank: Box<dyn Policy>,
    /// What new people begin with, where a saved state says so.
    start: Option<Vec<u8>>,
    users: BTreeMap<UserId, Box<dyn Policy>>,
}

impl PerUser {
    /// A wrapper around what `make` makes.
    pub fn new(make: Maker) -> Result<Self> {
        let blank = make()?;
        Ok(PerUser {
            make,
            blank,
            start: None,
            users: BTreeMap::new(),
        })
    }

    fn model(&mut self, user: UserId) -> Result<&mut dyn Policy> {
        if !self.users.contains_key(&user) {
            let mut model = (self.make)()?;
            if let Some(start) = &self.start {
                model.load(start)?;
            }
            self.users.insert(user, model);
        }
        match self.users.get_mut(&user) {
            Some(model) => Ok(model.as_mut()),
            None => Err(Error::Failed("a model that was just made is gone".into())),
        }
    }
}

impl Policy for PerUser {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        self.users
            .get(&round.user)
            .unwrap_or(&self.blank)
            .propose(round, key, out)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        // Row by row: each belongs to one user, and within a user the order is kept.
        for i in 0..batch.rows().len() {
            let row = &batch.rows()[i..=i];
            let user = batch.log().row(row[0]).round.user;
            self.model(user)?.update(&Batch::new(batch.log(), row))?;
        }
        Ok(())
    }

    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        let model = self.users.get(&round.user).unwrap_or(&self.blank);
        model.contributions(round, i, out)
    }

    fn shares_weights(&self) -> bool {
        self.blank.shares_weights()
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(NAME, "");
        for (user, model) in &self.users {
            w.state(&user.0.to_string(), model.save());
        }
        if let Some(start) = &self.start {
            w.state(START, &start[..]);
        }
        w.u64s("users", self.users.keys().map(|user| user.0));
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(NAME, "", bytes)?;
        let mut users = BTreeMap::new();
        for user in r.u64s("users")? {
            let mut model = (self.make)()?;
            model.load(r.state(&user.to_string())?)?;
            users.insert(UserId(user), model);
        }
        let start = if r.has(START) {
            Some(r.state(START)?.to_vec())
        } else {
            None
        };
        r.finish()?;
        let mut blank = (self.make)()?;
        if let Some(start) = &start {
            blank.load(start)?;
        }
        (self.users, self.start, self.blank) = (users, start, blank);
        Ok(())
    }

    fn forget(&mut self, user: UserId) {
        self.users.remove(&user);
    }
}
