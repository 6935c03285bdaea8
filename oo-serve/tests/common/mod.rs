//! What the tests of the engine share: a small world of requests, and settings.
#![allow(dead_code, unreachable_pub)]

pub mod child;
pub mod recorder;

use oo_core::tips::{Feedback as Reacted, Reaction};
use oo_core::{Key, Shape};
use oo_serve::engine::{Artefact, Given, Target};
use oo_serve::{Ask, Feedback, Settings};
use std::collections::BTreeSet;

pub const DIM: usize = 12;

pub fn shape() -> Shape {
    Shape {
        context: vec!["bias".into()],
        candidate: (0..DIM).map(|i| format!("f{i}")).collect(),
        actions: None,
    }
}

pub fn settings(spec: &str) -> Settings {
    Settings::new(Artefact::blank(spec).unwrap(), shape())
}

/// A request of ten candidates, the same whoever asks for number `i`.
pub struct Request {
    pub user: String,
    pub context: Vec<f32>,
    pub ids: Vec<String>,
    pub features: Vec<f32>,
}

impl Request {
    pub fn new(i: u64, users: u64) -> Self {
        let mut draws = Key::root(5).fold(i).draws();
        Request {
            user: format!("user-{}", i % users),
            context: vec![1.0],
            ids: (0..10).map(|c| format!("tip-{}", (i + c) % 40)).collect(),
            features: (0..10 * DIM).map(|_| draws.uniform() as f32).collect(),
        }
    }

    pub fn ask<R>(&self, id: Option<&str>, act: impl FnOnce(&Ask<'_>) -> R) -> R {
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        act(&Ask {
            user: &self.user,
            decision_id: id,
            context: &self.context,
            ids: &ids,
            features: &self.features,
            ..Ask::default()
        })
    }
}

pub fn done(decision: &str, feedback_id: Option<&str>, dwell_ms: u64) -> Feedback {
    Feedback {
        target: Target::Decision(decision.into()),
        feedback_id: feedback_id.map(Into::into),
        given: Given::Reaction(Reacted {
            reaction: Reaction::Done,
            dwell_ms: Some(dwell_ms),
        }),
        client_time: None,
        early: false,
    }
}

/// Users as a policy of a test saves them, and back.
pub fn saved(users: &BTreeSet<u64>) -> Vec<u8> {
    users.iter().flat_map(|user| user.to_le_bytes()).collect()
}

pub fn loaded(bytes: &[u8]) -> BTreeSet<u64> {
    let users = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    users.collect()
}

/// A copy of a state folder, as a kill at this moment would leave it.
pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            // A file that goes while it is copied was not there.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
