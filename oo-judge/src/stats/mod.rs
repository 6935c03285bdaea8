//! The arithmetic behind a verdict: intervals, paired differences, multiplicity, power.
//!
//! Rounds of one person (or of one replicate) are not independent, so nothing here counts rounds: the unit is a
//! [`Cluster`], and every variance is a variance between clusters. Rows of a log are units only where nobody says which
//! cluster they belong to.

pub mod best;
pub mod equivalence;
pub mod intervals;
pub mod multiplicity;
pub mod paired;
pub mod power;
pub mod ranks;
pub mod sequences;
pub mod unpaired;

pub use best::probability_of_best;
pub use equivalence::{equivalence, non_inferiority};
pub use intervals::{Interval, Quantile, Rows, delta, delta_difference};
pub use multiplicity::{benjamini_hochberg, holm};
pub use paired::{Cluster, Difference, Estimate, difference, mean_interval};
pub use power::units_for_power;
pub use ranks::{Ranks, ranks};
pub use sequences::{
    AnytimeDifference, Bet, DifferenceSequence, MeanSequence, Size, ValueSequence, anytime_difference, sample_ratio,
};
pub use unpaired::{Arm, TwoMeans, two_means};
