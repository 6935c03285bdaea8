//! Regressors that several policies share.

pub mod cross;
pub mod linear;
pub mod ridge;
pub mod symmetric;

pub use linear::{Estimate, Linear, Model};
pub use ridge::Ridge;
