//! The domain: tasks, moments, people, reactions and rewards.

pub mod history;
pub mod reaction;
pub mod reward;
pub mod scene;

pub use history::Showings;
pub use reaction::{Feedback, Reaction};
pub use reward::RewardSpec;
pub use scene::{Habits, Moment, Profile, Scene, Task};
