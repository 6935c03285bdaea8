//! A run of the simulator, as `oo-sim compare` makes and keeps it, and the server in the policy's place in the same world: the
//! same decisions, probabilities and outcomes as in the cell's file, and in the end the same policy, byte for byte.

use crate::client::{Client, Server};
use oo_core::{Arrival, Environment, Key, Outcome};
use oo_serve::Engine;
use oo_serve::engine::Artefact;
use oo_sim::experiment::Experiment;
use oo_sim::runner::{self, Cell};
use oo_sim::store::Store;
use polars_core::frame::DataFrame;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SEED: u64 = 42;

/// One column of the cell.
struct Kept<'f>(&'f DataFrame);

impl Kept<'_> {
    fn u64(&self, name: &str, i: u64) -> u64 {
        self.0.column(name).unwrap().u64().unwrap().get(i as usize).unwrap()
    }

    fn bits(&self, name: &str, i: u64) -> u64 {
        self.0
            .column(name)
            .unwrap()
            .f64()
            .unwrap()
            .get(i as usize)
            .unwrap()
            .to_bits()
    }
}

/// Tells the server what came of a round.
fn tell(client: &mut Client, index: u64, outcome: &Outcome) {
    let told = match outcome.feedback {
        Some(f) => json!({"decision_id": index, "reaction": f.reaction.name(), "dwell_ms": f.dwell_ms}),
        None => json!({"decision_id": index, "reward": outcome.reward}),
    };
    let reply = client.post("/feedback", &told.to_string());
    let receipt = reply.json();
    assert_eq!(
        (reply.status, &receipt["status"]),
        (200, &json!("learned")),
        "round {index}: {receipt}"
    );
    assert_eq!(bits(&receipt["reward"]), outcome.reward.to_bits(), "round {index}");
}

fn bits(v: &Value) -> u64 {
    v.as_f64().unwrap().to_bits()
}

/// Plays the world with the server as the policy, in the simulator's order: deliver, decide, respond, learn.
fn play(env: &mut dyn Environment, client: &mut Client, kept: &Kept<'_>) -> u64 {
    let mut waiting: BTreeMap<(u64, u64), Outcome> = BTreeMap::new();
    let mut rounds = 0;
    while env.advance().unwrap() {
        let now = env.now();
        while let Some(entry) = waiting.first_entry().filter(|e| e.key().0 <= now) {
            let ((_, index), outcome) = entry.remove_entry();
            tell(client, index, &outcome);
        }
        let (mut chosen, mut indices) = (Vec::new(), Vec::new());
        for i in 0..env.open() {
            let round = env.round(i);
            let index = round.index;
            let candidates: Vec<_> = (0..round.candidates.len())
                .map(|c| json!({"id": round.candidates.ids[c].0, "features": round.candidates.row(c)}))
                .collect();
            let ask = json!({"user_id": round.user.0, "decision_id": index, "context": round.context,
                "candidates": candidates});
            let answer = client.post("/recommend", &ask.to_string()).json();
            let id: u64 = answer["tip"]["id"].as_str().unwrap().parse().unwrap();
            assert_eq!(
                (kept.u64("user", index), kept.u64("action", index)),
                (round.user.0, id),
                "round {index}"
            );
            assert_eq!(
                bits(&answer["propensity"]),
                kept.bits("propensity", index),
                "round {index}"
            );
            chosen.push(round.candidates.ids.iter().position(|a| a.0 == id).unwrap());
            indices.push(index);
        }
        let mut outcomes = Vec::new();
        env.respond(&chosen, &mut outcomes).unwrap();
        for (index, outcome) in indices.iter().zip(&outcomes) {
            assert_eq!(outcome.reward.to_bits(), kept.bits("reward", *index), "round {index}");
            match outcome.arrival {
                Arrival::Now => tell(client, *index, outcome),
                Arrival::After(delay) => _ = waiting.insert((now + delay, *index), *outcome),
                Arrival::Never => {}
            }
        }
        rounds += indices.len() as u64;
    }
    rounds
}

#[test]
fn a_run_of_the_simulator_is_served_bit_for_bit() {
    let policies = [
        "lin-ts{features=v2}",
        "hierarchical{features=v3}",
        "egreedy{epsilon=0.1,features=v1}+per-user",
    ];
    let experiment = Experiment {
        policies: policies.map(String::from).into(),
        users: Some(5),
        days: Some(4),
        seeds: 1,
        seed: SEED,
        ..Experiment::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let plan = experiment.plan().unwrap();
    let store = Store::open(&folder.path().into()).unwrap();
    runner::run(&plan, &store, 1, &()).unwrap();
    let env = &plan.envs[0];
    for policy in &plan.policies {
        let cell = Cell {
            env,
            policy,
            seed: SEED,
        };
        let frame = store.read_cell(&plan, cell).unwrap();
        let mut world = plan.environment(env, SEED).unwrap();
        let shape = world.shape().clone();
        let spec = &policy.canonical;
        let mut server = Server::start(&["--replay", "--seed", "42", "--policy", spec, "--durability", "process"]);
        let rounds = play(world.as_mut(), &mut server.connect(), &Kept(&frame));
        assert!(rounds > 50 && rounds == frame.height() as u64, "{rounds} rounds");
        server.signal("-TERM");
        assert_eq!(server.wait().0, Some(0));
        // The policy as the simulator leaves it.
        let mut trained = plan.policy(policy, &shape).unwrap();
        let mut again = plan.environment(env, SEED).unwrap();
        let key = Key::root(SEED).name("policy").name(spec);
        runner::simulate(again.as_mut(), trained.as_mut(), key).unwrap();
        let settings = oo_serve::Settings::new(Artefact::blank(spec).unwrap(), shape);
        let (engine, _) = Engine::open(&server.dir.path().join("state"), settings).unwrap();
        assert!(engine.condition().updates > 20);
        assert_eq!(engine.in_charge().unwrap().state.unwrap(), trained.save(), "{spec}");
    }
}
