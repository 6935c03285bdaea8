//! Regressors that several policies share.

pub mod cross;
pub mod first_order;
pub mod fourier;
pub mod learner;
pub mod linear;
pub mod ridge;
pub mod symmetric;
pub mod window;

pub use first_order::FirstOrder;
pub use learner::Learner;
pub use linear::{Estimate, Linear, Model};
pub use ridge::Ridge;
