//! People by their number, rising. A copy costs next to nothing: it shares them a few at a time, until one side changes one.

use super::person::Person;
use oo_core::UserId;
use std::sync::Arc;

/// People that are shared, and copied, together.
const FEW: usize = 16;

type Few = Vec<(UserId, Person)>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// The first of each of `few`; rising.
    firsts: Vec<UserId>,
    few: Vec<Arc<Few>>,
    len: usize,
}

impl Crowd {
    /// How many people there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without people.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where somebody is, or would be.
    fn place(&self, user: UserId) -> usize {
        self.firsts.partition_point(|first| *first <= user).saturating_sub(1)
    }

    /// Somebody who is there.
    pub fn get(&self, user: UserId) -> Option<&Person> {
        let few = self.few.get(self.place(user))?;
        let at = few.binary_search_by_key(&user, |(u, _)| *u).ok()?;
        Some(&few[at].1)
    }

    /// Somebody, who is there from now on.
    pub fn or_default(&mut self, user: UserId) -> &mut Person {
        if self.few.is_empty() {
            self.firsts.push(user);
            self.few.push(Arc::default());
        }
        let mut i = self.place(user);
        if self.few[i].len() >= FEW && self.few[i].binary_search_by_key(&user, |(u, _)| *u).is_err() {
            let rest = Arc::make_mut(&mut self.few[i]).split_off(FEW / 2);
            self.firsts.insert(i + 1, rest[0].0);
            self.few.insert(i + 1, Arc::new(rest));
            i = self.place(user);
        }
        let few = Arc::make_mut(&mut self.few[i]);
        let at = match few.binary_search_by_key(&user, |(u, _)| *u) {
            Ok(at) => at,
            Err(at) => {
                few.insert(at, (user, Person::default()));
                self.firsts[i] = few[0].0;
                self.len += 1;
                at
            }
        };
        &mut few[at].1
    }

    /// Takes somebody out.
    pub fn remove(&mut self, user: UserId) {
        let i = self.place(user);
        let Some(few) = self.few.get_mut(i) else { return };
        let Ok(at) = few.binary_search_by_key(&user, |(u, _)| *u) else {
            return;
        };
        Arc::make_mut(few).remove(at);
        self.len -= 1;
        match few.first() {
            Some((first, _)) => self.firsts[i] = *first,
            None => {
                self.firsts.remove(i);
                self.few.remove(i);
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (UserId, &Person)> {
        self.few.iter().flat_map(|few| few.iter().map(|(u, p)| (*u, p)))
    }

    /// Their numbers.
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.iter().map(|(user, _)| user)
    }

    /// What is kept of each.
    pub fn values(&self) -> impl Iterator<Item = &Person> {
        self.iter().map(|(_, person)| person)
    }

    /// Changes whoever is to be changed. Where that is nobody, a copy goes on sharing.
    pub fn change(&mut self, who: impl Fn(&Person) -> bool, mut change: impl FnMut(&mut Person)) {
        for few in self.few.iter_mut().filter(|few| few.iter().any(|(_, p)| who(p))) {
            Arc::make_mut(few)
                .iter_mut()
                .map(|(_, p)| p)
                .filter(|p| who(p))
                .for_each(&mut change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::person::{Posterior, Shared};
    use super::*;
    use crate::regress::symmetric::Symmetric;
    use oo_core::Key;
    use std::collections::BTreeMap;

    #[test]
    fn is_an_ordered_map_and_a_copy_stays_what_it_was() {
        let shared = Shared {
            spread: Symmetric::diagonal(1, 1.0),
            precision: Symmetric::diagonal(1, 1.0),
            noise: 1.0,
        };
        let blank = Posterior::blank(&shared);
        let (mut crowd, mut plain) = (Crowd::default(), BTreeMap::new());
        let mut copies = Vec::new();
        let mut draws = Key::root(41).draws();
        for step in 0..20_000 {
            let user = UserId(draws.below(500) as u64);
            if draws.below(3) == 0 {
                crowd.remove(user);
                plain.remove(&user);
            } else {
                crowd.or_default(user).keep(&[1.0, 0.0, 0.0, 0.0], 1.0, &blank);
                *plain.entry(user).or_insert(0) += 1;
            }
            assert_eq!(crowd.get(user).map(Person::rows), plain.get(&user).copied());
            assert_eq!((crowd.len(), crowd.is_empty()), (plain.len(), plain.is_empty()));
            if step % 1000 == 0 {
                copies.push((crowd.clone(), plain.clone()));
            }
        }
        for (crowd, plain) in copies {
            let rows = crowd.iter().map(|(user, person)| (user, person.rows()));
            assert!(rows.eq(plain));
        }
    }
}
