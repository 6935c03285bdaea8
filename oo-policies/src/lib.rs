//! Bandit policies, one file each, with true propensities.
//!
//! A policy gives a probability for every candidate; `oo_core` draws. To add one, write its file (options, state,
//! `impl Build`, `impl Policy`, tests) and one line in [`POLICIES`]: help, reference pages and the checks in
//! `tests/universal.rs` follow.
//!
//! ```
//! use oo_core::{Shape, Spec};
//! let shape = Shape { context: vec!["bias".into()], candidate: vec![], actions: Some(3) };
//! let policy = oo_policies::build(&Spec::parse("lin-ucb{alpha=0.5}")?, &shape)?;
//! assert!(!policy.save().is_empty());
//! # Ok::<(), oo_core::Error>(())
//! ```

pub mod auto;
pub mod bag;
pub mod best_arm;
pub mod best_joint;
pub mod beta_ts;
pub mod concurrent;
pub mod conservative;
pub mod cover;
pub mod egreedy;
pub mod exp4;
pub mod explore_first;
pub mod greedy;
pub mod hierarchical;
pub mod imitate;
pub mod kl_ucb;
pub mod lin_full_post;
pub mod lin_ts;
pub mod lin_ucb;
pub mod logistic_ts;
pub mod neural_dropout;
pub mod neural_egreedy;
pub mod neural_ensemble;
pub mod neural_linear;
pub mod neural_ts;
pub mod neural_ucb;
pub mod per_user;
pub mod reg_cb;
pub mod regress;
pub mod rnd;
pub mod softmax;
pub mod square_cb;
pub mod state;
mod tally;
pub mod two_tower;
pub mod ucb1;
pub mod uniform;

use oo_core::registry::{self, Entry, Preset, entry};
use oo_core::{Policy, Result, Shape, Spec};

/// Every policy of the library.
pub const POLICIES: &[Entry] = &[
    entry::<auto::Auto>(),
    entry::<uniform::Uniform>(),
    entry::<egreedy::EGreedy>(),
    entry::<softmax::Softmax>(),
    entry::<lin_ucb::LinUcb>(),
    entry::<lin_ts::LinTs>(),
    entry::<hierarchical::Hierarchical>(),
    entry::<ucb1::Ucb1>(),
    entry::<kl_ucb::KlUcb>(),
    entry::<beta_ts::BetaTs>(),
    entry::<square_cb::SquareCb>(),
    entry::<explore_first::ExploreFirst>(),
    entry::<imitate::Imitate>(),
    entry::<reg_cb::RegCb>(),
    entry::<bag::Bag>(),
    entry::<cover::Cover>(),
    entry::<lin_full_post::LinFullPost>(),
    entry::<logistic_ts::LogisticTs>(),
    entry::<rnd::Rnd>(),
    entry::<exp4::Exp4>(),
    entry::<conservative::Conservative>(),
    entry::<neural_egreedy::NeuralEGreedy>(),
    entry::<neural_linear::NeuralLinear>(),
    entry::<neural_ucb::NeuralUcb>(),
    entry::<neural_ts::NeuralTs>(),
    entry::<neural_ensemble::NeuralEnsemble>(),
    entry::<neural_dropout::NeuralDropout>(),
    entry::<two_tower::TwoTower>(),
];

/// Names for specs that are used often.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "egreedy-v1",
        summary: "The original's first ε-greedy: 7 features, ε = 0.10, one ridge model a user",
        spec: "egreedy{epsilon=0.1,features=v1,lambda=1.0,model=shared}+per-user",
    },
    Preset {
        name: "egreedy-v2",
        summary: "The original's second: the same with 5 profile features more",
        spec: "egreedy{epsilon=0.1,features=v2,lambda=1.0,model=shared}+per-user",
    },
];

/// The spec with presets replaced by what they stand for.
pub fn expand(spec: &Spec) -> Result<Spec> {
    registry::expand(spec, PRESETS)
}

/// Makes a blank policy for rounds of `shape`.
///
/// # Errors
/// An unknown policy, wrapper or option; a value out of range; a policy that does not fit the shape.
pub fn build(spec: &Spec, shape: &Shape) -> Result<Box<dyn Policy>> {
    let spec = expand(spec)?;
    let presets: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
    let found = registry::find(POLICIES, |e| e.name, spec.base(), "policy", &presets)?;
    let mut policy = (found.build)(&spec.base().options, shape)?;
    for depth in 0..spec.wrappers().len() {
        let wrapper = &spec.wrappers()[depth];
        registry::find(&[per_user::NAME], |n| n, wrapper, "policy wrapper", &[])?;
        if let Some((option, _)) = wrapper.options.iter().next() {
            return Err(oo_core::Error::Unknown {
                kind: "option of per-user".into(),
                name: option.clone(),
                known: vec!["none".into()],
            });
        }
        let inner = Spec {
            parts: spec.parts[..=depth].to_vec(),
        };
        let shape = shape.clone();
        policy = Box::new(per_user::PerUser::new(Box::new(move || build(&inner, &shape)))?);
    }
    Ok(policy)
}
