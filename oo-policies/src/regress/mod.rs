//! Regressors that several policies share.

pub mod linear;
pub mod ridge;
pub mod symmetric;

pub use linear::{Linear, Model};
pub use ridge::Ridge;
