//! The arithmetic behind a verdict: intervals, paired differences, multiplicity, power.
//!
//! Rounds of one person (or of one replicate) are not independent, so nothing here counts rounds: the unit is a
//! [`Cluster`], and every variance is a variance between clusters.

pub mod multiplicity;
pub mod paired;
pub mod power;

pub use multiplicity::holm;
pub use paired::{Cluster, Difference, Estimate, difference, mean_interval};
pub use power::units_for_power;
