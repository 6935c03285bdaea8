//! Rounds to try policies on.

#![allow(dead_code)] // each test program uses a part of it

use oo_core::{ActionId, Candidates, Decision, Key, Log, Policy, Round, Shape, Spec, UserId, features};
use oo_policies::States;

/// Every policy, every preset, and the variants that take other paths through the code.
pub fn specs() -> Vec<String> {
    let mut all: Vec<String> = oo_policies::POLICIES.iter().map(|e| e.name.to_string()).collect();
    all.extend(oo_policies::PRESETS.iter().map(|p| p.name.to_string()));
    all.extend(
        [
            "lin-ucb{model=disjoint}",
            "lin-ucb{model=hybrid}",
            "lin-ts{model=disjoint}",
            "lin-ts{model=hybrid,draws=16,features=v1}",
            "lin-ucb{discount=0.99}",
            "lin-ucb{model=disjoint,discount=0.99,window=50}",
            "lin-ts{model=disjoint,window=40}",
            "lin-ucb{fourier=20,kernel_width=0.5}",
            "lin-ucb+per-user",
            "egreedy{schedule=decay}",
            // The row-by-row training, and the defaults' sizes.
            "neural-egreedy{batch=2,half_life=100,optimiser=sgd,rate=0.01,stop=0.001,steps=3,every=8,warm=0}",
            "neural-linear{refresh=0,draws=1,noise=1,skip=false,width=16,layers=2,every=16,warm=0,features=v1}",
            "neural-ucb{every=64,warm=0,optimiser=rmsprop}",
            "egreedy{schedule=adaptive}",
            "egreedy{learner=sgd}",
            "square-cb{learner=sgd,weighting=fast,model=disjoint}",
            "square-cb{model=hybrid,features=v1}",
            "bag{models=2,discount=0.99,model=disjoint,window=30,features=v1}",
            "explore-first{frozen=true,model=disjoint}",
            "reg-cb{variant=elimination}",
            "reg-cb{learner=logistic}",
            "bag{learner=sgd,greedify=true,epsilon=0.1}",
            "cover{learner=sgd,nounif=false}",
            "lin-full-post{pulls=0,features=v1}",
            "logistic-ts{model=disjoint}",
            "rnd{learner=logistic,model=disjoint}",
            "exp4{experts='lin-ts{features=v1,draws=4}/uniform',rate=0.1}",
            "conservative{baseline='egreedy{epsilon=0}',value=0.3}",
            "softmax{learner=logistic,model=disjoint,low=-0.5,high=1.5}",
            "lin-ucb{features=v1}+warm{from=lin-ucb,trust=0.1}",
            "lin-ucb{features=v1}+warm{from=lin-ucb}+per-user",
            "hierarchical{draws=16,features=v0}+warm{from=hierarchical,trust=0.3}",
        ]
        .map(String::from),
    );
    // Few draws and features keep a million decisions affordable; the code is the same.
    all.into_iter()
        .map(|s| {
            let small = |more: &str| format!("{s}{{width=8,layers=1,batch=8,warm=50,every=16,features=v1{more}}}");
            match s.as_str() {
                "lin-ts" | "logistic-ts" | "hierarchical" => format!("{s}{{draws=16,features=v1}}"),
                "auto" => "auto{features=v0}".into(),
                "neural-linear" => small(",draws=8"),
                "neural-dropout" => small(",draws=4"),
                "neural-ensemble" => small(",members=3"),
                "neural-egreedy" | "neural-ucb" | "neural-ts" => small(""),
                "two-tower" => "two-tower{width=8,embedding=4,batch=8,warm=50,every=16}".into(),
                _ => s,
            }
        })
        .collect()
}

pub fn build(spec: &str) -> Box<dyn Policy> {
    let spec_of = |text: &str| Spec::parse(text).unwrap();
    let mut states = States::default();
    // What the wrapper +warm starts from.
    for (name, old) in [
        ("lin-ucb", "lin-ucb{features=v1}"),
        ("hierarchical", "hierarchical{draws=16,features=v0}"),
    ] {
        if spec.contains(&format!("from={name}")) {
            let mut policy = oo_policies::build(&spec_of(old), &features::shape()).unwrap();
            play(policy.as_mut(), 20_000, 20_150);
            states.insert(name, policy.save());
        }
    }
    oo_policies::build_from(&spec_of(spec), &features::shape(), &states).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// A round of `n` candidates in the shape of the tips world.
#[derive(Clone)]
pub struct Sample {
    pub index: u64,
    pub user: u64,
    pub context: Vec<f32>,
    pub ids: Vec<ActionId>,
    pub features: Vec<f32>,
}

impl Sample {
    pub fn new(index: u64, n: usize) -> Self {
        let shape: Shape = features::shape();
        let mut draws = Key::root(77).fold(index).draws();
        let mut vector = |len: usize| (0..len).map(|_| draws.uniform() as f32).collect::<Vec<_>>();
        let (context, features) = (vector(shape.context.len()), vector(n * shape.candidate.len()));
        // Ids move through a pool of 16, so that sets differ between rounds and arms come back.
        let ids = (0..n as u64)
            .map(|i| ActionId(if n <= 16 { (index + i * 5) % 16 } else { i }))
            .collect();
        Sample {
            index,
            user: index % 3,
            context,
            ids,
            features,
        }
    }

    pub fn round(&self) -> Round<'_> {
        let candidates = Candidates {
            ids: &self.ids,
            features: &self.features,
            dim: self.features.len() / self.ids.len(),
        };
        Round {
            index: self.index,
            user: UserId(self.user),
            context: &self.context,
            candidates,
        }
    }

    pub fn permuted(&self, order: &[usize]) -> Self {
        let dim = self.features.len() / self.ids.len();
        Sample {
            ids: order.iter().map(|&i| self.ids[i]).collect(),
            features: order
                .iter()
                .flat_map(|&i| self.features[i * dim..(i + 1) * dim].iter().copied())
                .collect(),
            ..self.clone()
        }
    }
}

/// A reward in [0, 1] that depends on action and features.
pub fn reward(round: &Round<'_>, chosen: usize) -> f64 {
    let id = round.candidates.ids[chosen].0;
    let noise = Key::root(5).fold(round.index).fold(id).uniform();
    0.4 * f64::from(round.candidates.row(chosen)[2]) + 0.02 * id as f64 + 0.3 * noise
}

/// Plays rounds `from..to` of 5 candidates; returns the chosen positions.
pub fn play(policy: &mut dyn Policy, from: u64, to: u64) -> Vec<usize> {
    let (mut decision, mut log) = (Decision::new(), Log::new());
    (from..to)
        .map(|t| {
            let sample = Sample::new(t, 5);
            let round = sample.round();
            policy.decide(&round, Key::root(1).fold(t), &mut decision).unwrap();
            log.clear();
            let row = log.push(&round, &decision);
            log.settle(row, reward(&round, decision.chosen()), None);
            policy.update(&oo_core::Batch::new(&log, &[row])).unwrap();
            decision.chosen()
        })
        .collect()
}
