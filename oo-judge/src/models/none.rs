//! No reward model: q = 0 everywhere, and the direct part is 0.

use super::{Build, Made, Plan};
use crate::Result;
use oo_core::registry::OptionHelp;
use serde::{Deserialize, Serialize};

/// `none` has no options.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {}

/// See the module.
pub struct Nothing;

impl Build for Nothing {
    const NAME: &'static str = "none";
    const SUMMARY: &'static str = "no model: doubly robust estimators fall back to importance weighting";
    const PAPER: &'static str = "";
    const OPTIONS: &'static [OptionHelp] = &[];
    type Config = Config;

    fn build(_: Config, _: &Plan) -> Result<Made> {
        Ok(None)
    }
}
