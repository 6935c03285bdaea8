//! Off-policy evaluation of a log: which estimators and intervals are asked for, what the target policy would do, the
//! passes over the log, and how the answer is told.

pub mod answer;
pub mod asked;
pub mod evaluate;
pub mod intervals;
mod pass;
pub mod reward_model;
mod running;
pub mod target;
pub mod warnings;

pub use answer::Answer;
pub use asked::Asked;
pub use evaluate::{Job, evaluate};
pub use intervals::Method;
pub use target::Learn;
