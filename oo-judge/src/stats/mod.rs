//! Statistics on rewards: intervals, paired differences, several comparisons at once, power.
//!
//! Observations of one seed or one person hang together, so sums and counts are taken a cluster, and clusters are
//! what is independent.

mod multiplicity;
mod paired;
mod power;

pub use multiplicity::holm;
pub use paired::{Cluster, Difference, Estimate, difference, mean_interval};
pub use power::units_for_power;
