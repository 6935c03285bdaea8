//! Every candidate with the same probability: the baseline, and the best logger for later off-policy work.

use crate::state::{Reader, Writer};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape};
use serde::{Deserialize, Serialize};

/// No options.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Config {}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Uniform;

impl Build for Uniform {
    const NAME: &'static str = "uniform";
    const SUMMARY: &'static str = "Every candidate with the same probability";
    const PAPER: &'static str = "none";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[];
    type Config = Config;
    fn build(_: Config, _: &Shape) -> Result<Self> {
        Ok(Uniform)
    }
}

impl Policy for Uniform {
    fn propose(&self, _: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let p = 1.0 / out.probs.len() as f64;
        out.probs.fill(p);
        Ok(Method::Exact)
    }

    fn update(&mut self, _: &Batch<'_>) -> Result<()> {
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        Writer::new(Self::NAME, "").finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        Reader::new(Self::NAME, "", bytes)?.finish()
    }
}
