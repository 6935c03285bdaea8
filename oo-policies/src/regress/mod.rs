//! Regressors that several policies share.

pub mod ridge;
pub mod symmetric;

pub use ridge::Ridge;
