//! Regressors that several policies share.

pub mod cross;
pub mod fourier;
pub mod linear;
pub mod ridge;
pub mod symmetric;
pub mod window;

pub use linear::{Estimate, Linear, Model};
pub use ridge::Ridge;
