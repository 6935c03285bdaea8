//! The hot paths that are counted (`instructions.rs`) and timed (`time.rs`): one table, made from the registries, so that
//! a new policy or estimator is measured without a line here.
//!
//! The data are drawn from fixed keys. What a case prepares can be repeated; repetitions go on with what was learned.

mod bodies;
mod estimators;
mod features;
mod journal;
mod policies;

use std::hint::black_box;

/// What is measured.
pub type Work = Box<dyn FnMut()>;

/// One hot path.
pub struct Case {
    /// What kind of thing is done.
    pub group: &'static str,
    /// Which of them: letters, digits and underscores.
    pub name: String,
    prepare: Box<dyn Fn() -> Work>,
}

impl Case {
    fn new(group: &'static str, name: &str, prepare: impl Fn() -> Work + 'static) -> Case {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        Case {
            group,
            name: name.chars().map(plain).collect::<String>().trim_matches('_').into(),
            prepare: Box::new(prepare),
        }
    }

    /// Makes the data and the state, none of which is measured.
    pub fn prepare(&self) -> Work {
        (self.prepare)()
    }
}

/// All of them, a group at a time.
pub fn all() -> Vec<Case> {
    let groups = [
        policies::cases(),
        estimators::cases(),
        features::cases(),
        journal::cases(),
        bodies::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// Callgrind counts what happens inside this function and nothing else: `instructions.rs` names it.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
    // Not the last thing it does, so that the call above stays a call.
    black_box(());
}
