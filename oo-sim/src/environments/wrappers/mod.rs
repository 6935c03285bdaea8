//! What can be put around an environment with `+`.

pub mod arms;
pub mod delay;
pub mod drift;
