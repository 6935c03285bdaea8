//! Everything that passes judgement: reactions of people, and statistics on what came of choices.

pub mod reactions;
pub mod stats;
