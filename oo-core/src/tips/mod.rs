//! The domain: tasks, moments, people, reactions and rewards.

pub mod reaction;
pub mod reward;
pub mod scene;

pub use reaction::{Feedback, Reaction};
pub use reward::RewardSpec;
pub use scene::{Habits, Moment, Profile, Scene, Task};
