//! Regressors that several policies share.

pub mod adam;
pub mod cross;
pub mod first_order;
pub mod fourier;
pub mod graph;
pub mod lanes;
pub mod learner;
pub mod linear;
pub mod mlp;
pub mod net;
pub mod novelty;
pub mod options;
pub mod replay;
pub mod ridge;
pub mod sums;
pub mod symmetric;
pub mod window;

pub use first_order::FirstOrder;
pub use learner::Learner;
pub use linear::{Estimate, Linear, Model};
pub use ridge::Ridge;
pub use sums::Sums;
