//! A question with everything that answers it: a folder with its settings, its steps, and what came out.
//!
//! A folder has `README.md` for people, [`steps.toml`](Manifest) with the commands, the files that these read, and
//! `expected.toml` with what they give at a small size, to be checked again.

mod draw;
mod expected;
mod findings;
mod folder;
mod markdown;
mod run;

pub use draw::figures;
pub use expected::Expected;
pub use findings::{Finding, KINDS, Kind, Said};
pub(crate) use folder::markdown;
pub use folder::{Figure, Folder, Manifest, Shape, Step, find, index};
pub use run::{Size, run};
