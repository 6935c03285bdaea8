//! Saved policies for others to start from: what is kept is exact, what cannot be kept is refused.

mod common;

use common::Sample;
use oo_core::{Batch, Decision, Key, Log, Policy, Shape, Spec, features};
use oo_policies::{States, state, transfer};

fn build(spec: &str) -> Box<dyn Policy> {
    common::build(spec)
}

/// A log of `rounds` rounds with choices at random and rewards of their features. `zero` names features that are 0 in
/// every row.
fn log(rounds: u64, zero: &[&str]) -> Log {
    let shape = features::shape();
    let mut log = Log::new();
    for t in 0..rounds {
        let mut sample = Sample::new(t, 5);
        let chosen = (Key::root(41).fold(t).uniform() * 5.0) as usize;
        let reward = common::reward(&sample.round(), chosen);
        for name in zero {
            if let Some(i) = shape.context.iter().position(|f| f == name) {
                sample.context[i] = 0.0;
            } else {
                let i = shape.candidate.iter().position(|f| f == name).unwrap();
                sample
                    .features
                    .iter_mut()
                    .skip(i)
                    .step_by(shape.candidate.len())
                    .for_each(|v| *v = 0.0);
            }
        }
        let mut decision = Decision::new();
        build("uniform")
            .decide(&sample.round(), Key::root(0), &mut decision)
            .unwrap();
        let row = log.push_parts(&sample.round(), decision.probs(), chosen, decision.method());
        log.settle(row, reward, None);
    }
    log
}

fn learned(spec: &str, log: &Log) -> Box<dyn Policy> {
    let mut policy = build(spec);
    let rows: Vec<usize> = (0..log.len()).collect();
    policy.update(&Batch::new(log, &rows)).unwrap();
    policy
}

/// Scores and probabilities in some rounds.
fn says(policy: &dyn Policy) -> Vec<f64> {
    let mut decision = Decision::new();
    (0..20)
        .flat_map(|t| {
            policy
                .decide(&Sample::new(5000 + t, 4).round(), Key::root(3).fold(t), &mut decision)
                .unwrap();
            [decision.scores(), decision.probs()].concat()
        })
        .collect()
}

fn agree(a: &dyn Policy, b: &dyn Policy, what: &str) {
    for (a, b) in says(a).iter().zip(says(b)) {
        assert!((a - b).abs() < 1e-9, "{what}: {a} {b}");
    }
}

fn names(spec: &str) -> Vec<String> {
    features::FeatureSpec::named(spec).unwrap().names
}

/// `from` over the features of `spec`.
fn migrated(from: &dyn Policy, spec: &str) -> (Box<dyn Policy>, transfer::Moved) {
    let mut policy = build(spec);
    let (bytes, moved) = transfer::migrated(&from.save(), &policy.save(), &[]).unwrap();
    policy.load(&bytes).unwrap();
    (policy, moved)
}

/// What another policy of the kind would start from. Where rows fade, the penalty does too, and comes back whole.
fn fresh(spec: &str, policy: &dyn Policy) -> Box<dyn Policy> {
    if !spec.contains("discount") {
        let mut same = build(spec);
        same.load(&policy.save()).unwrap();
        return same;
    }
    started(&format!("{spec}+warm{{from=old}}"), &policy.save()).unwrap()
}

/// Every kind of policy that stands on sums: fewer features are as if only they had been learned, more features as if
/// the new ones had been 0 so far.
#[test]
fn migration_equals_a_direct_fit() {
    let kinds = [
        "lin-ucb{features=V,lambda=0.5}",
        "lin-ts{features=V,model=disjoint}",
        "lin-ucb{features=V,discount=0.99}",
        "egreedy{features=V,schedule=decay,half_life=20,start=0.3}",
        "softmax{features=V}",
        "square-cb{features=V}",
        "reg-cb{features=V}",
        "explore-first{features=V}",
        "bag{features=V,models=3}",
    ];
    let specs = ["v1", "v2", "v3"];
    for kind in kinds {
        let of = |version: &str| kind.replace('V', version);
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let (few, many) = (specs[a], specs[b]);
            let added: Vec<String> = names(many).into_iter().filter(|f| !names(few).contains(f)).collect();
            let zeros = log(400, &added.iter().map(String::as_str).collect::<Vec<_>>());
            let (up, moved) = migrated(learned(&of(few), &zeros).as_ref(), &of(many));
            let direct = fresh(&of(many), learned(&of(many), &zeros).as_ref());
            agree(up.as_ref(), direct.as_ref(), &format!("{kind}: {few} to {many}"));
            assert_eq!((moved.kept.len(), moved.dropped.len()), (names(few).len(), 0));
            assert_eq!(moved.new, added);
            let full = log(400, &[]);
            let (down, moved) = migrated(learned(&of(many), &full).as_ref(), &of(few));
            let direct = fresh(&of(few), learned(&of(few), &full).as_ref());
            agree(down.as_ref(), direct.as_ref(), &format!("{kind}: {many} to {few}"));
            assert_eq!((moved.kept, moved.dropped), (names(few), added));
        }
        // v1 → v2 → v3 is v1 → v3; and an own order of the same names is no other thing.
        let old = learned(&of("v1"), &log(400, &[]));
        let (step, _) = migrated(old.as_ref(), &of("v2"));
        let (twice, _) = migrated(step.as_ref(), &of("v3"));
        agree(twice.as_ref(), migrated(old.as_ref(), &of("v3")).0.as_ref(), kind);
        let (all, moved) = migrated(learned(&of("v3"), &log(400, &[])).as_ref(), &of("all"));
        let direct = fresh(&of("all"), learned(&of("all"), &log(400, &[])).as_ref());
        agree(all.as_ref(), direct.as_ref(), kind);
        assert!(moved.new.is_empty() && moved.dropped.is_empty());
    }
}

/// What means something else now starts anew: as if it had been 0 so far.
#[test]
fn renewed_features_start_from_the_prior() {
    let spec = "lin-ucb{features=v1}";
    let mut policy = build(spec);
    let old = learned(spec, &log(300, &[])).save();
    let (bytes, moved) = transfer::migrated(&old, &policy.save(), &["priority".into()]).unwrap();
    policy.load(&bytes).unwrap();
    agree(
        policy.as_ref(),
        learned(spec, &log(300, &["priority"])).as_ref(),
        "renewed",
    );
    assert_eq!((moved.renewed, moved.kept.len()), (vec!["priority".to_string()], 6));
}

#[test]
fn impossible_migrations_say_why() {
    let log = log(60, &[]);
    let fails = |from: &str, to: &str, renew: &[&str]| {
        let renew: Vec<String> = renew.iter().map(ToString::to_string).collect();
        let error = transfer::migrated(&learned(from, &log).save(), &build(to).save(), &renew).unwrap_err();
        error.to_string()
    };
    for (from, to, renew, expected) in [
        (
            "lin-ts{features=v1}",
            "lin-ucb{features=v2}",
            &[][..],
            "it was saved by `lin-ts`",
        ),
        ("lin-ts{features=v1}", "lin-ts{features=v1}", &[], "these very features"),
        (
            "lin-ts{features=v1}",
            "lin-ts{features=v2,model=disjoint}",
            &[],
            "only the features may differ",
        ),
        (
            "lin-ts{features=v1}",
            "lin-ts{features=v2,discount=0.9}",
            &[],
            "only the features may differ",
        ),
        (
            "lin-ts{features=v1}",
            "lin-ts{features=v2}",
            &["hour_sine"],
            "did you mean `hour_sin`?",
        ),
        (
            "lin-ts{features=v1}",
            "lin-ts{features=v2}",
            &["tip_volume_30d"],
            "unknown feature in both specs",
        ),
        (
            "lin-ts{features=v1,model=hybrid}",
            "lin-ts{features=v2,model=hybrid}",
            &[],
            "cannot be moved",
        ),
        (
            "lin-ts{features=v1,window=9}",
            "lin-ts{features=v2,window=9}",
            &[],
            "cannot be moved",
        ),
        (
            "lin-ucb{features=v1,fourier=1}",
            "lin-ucb{features=v2,fourier=1}",
            &[],
            "cannot be moved",
        ),
        (
            "egreedy{features=v1,learner=sgd}",
            "egreedy{features=v2,learner=sgd}",
            &[],
            "cannot be moved",
        ),
        (
            "lin-full-post{features=v1}",
            "lin-full-post{features=v2}",
            &[],
            "cannot be moved",
        ),
        (
            "logistic-ts{features=v1}",
            "logistic-ts{features=v2}",
            &[],
            "cannot be moved",
        ),
        ("auto{features=v1}", "auto{features=v2}", &[], "cannot be moved"),
        ("rnd{features=v1}", "rnd{features=v2}", &[], "cannot be moved"),
        (
            "neural-egreedy{features=v1,width=4,layers=1}",
            "neural-egreedy{features=v2,width=4,layers=1}",
            &[],
            "cannot be moved",
        ),
        (
            "lin-ucb{features=v1}+per-user",
            "lin-ucb{features=v2}+per-user",
            &[],
            "without +per-user",
        ),
        ("ucb1", "ucb1", &[], "cannot be moved"),
    ] {
        let error = fails(from, to, renew);
        assert!(error.contains(expected), "{from} to {to}: {error}");
    }
    let own = build("lin-ts{features=v1}").save();
    let shape = Shape {
        context: vec![],
        candidate: vec!["x".into()],
        actions: None,
    };
    let foreign = oo_policies::build(&Spec::parse("lin-ts").unwrap(), &shape).unwrap();
    let error = transfer::migrated(&own, &foreign.save(), &[]).unwrap_err().to_string();
    assert!(
        error.contains("no feature is in both") && error.contains("hour_sin"),
        "{error}"
    );
    assert!(transfer::migrated(&own[..own.len() - 1], &own, &[]).is_err());
}

fn started(spec: &str, from: &[u8]) -> oo_core::Result<Box<dyn Policy>> {
    let mut states = States::default();
    states.insert("old", from);
    oo_policies::build_from(&Spec::parse(spec).unwrap(), &features::shape(), &states)
}

fn start_fails(spec: &str, from: &dyn Policy) -> String {
    started(spec, &from.save()).err().unwrap().to_string()
}

/// A state loads into the same shape: at full trust every policy says what the old one says.
#[test]
fn every_policy_starts_from_its_own_kind() {
    for spec in common::specs() {
        // People by name are others: refused for models a person, and what they say about people otherwise.
        if spec.contains("+") || spec.starts_with("egreedy-v") || spec.starts_with("hierarchical") {
            continue;
        }
        let mut old = build(&spec);
        common::play(old.as_mut(), 0, 150);
        let new = started(&format!("{spec}+warm{{from=old}}"), &old.save()).unwrap();
        // A penalty that has faded with the rows comes back whole.
        let far = if spec.contains("discount") { 0.02 } else { 1e-6 };
        for (a, b) in says(new.as_ref()).iter().zip(says(old.as_ref())) {
            assert!((a - b).abs() < far, "{spec}: {a} {b}");
        }
    }
}

/// What stands on sums can be weighed, alone or inside others; what does not, cannot.
#[test]
fn what_can_be_weighed() {
    let weighed = |spec: &str| {
        let mut old = build(spec);
        common::play(old.as_mut(), 0, 60);
        started(&format!("{spec}+warm{{from=old,trust=0.5}}"), &old.save()).is_ok()
    };
    for spec in [
        "uniform",
        "lin-ucb{fourier=9}",
        "auto{features=v0}",
        "cover",
        "softmax",
        "rnd",
        "hierarchical",
        "exp4",
        "conservative",
    ] {
        assert!(weighed(spec), "{spec}");
    }
    for spec in [
        "lin-ts{model=hybrid}",
        "lin-ucb{window=9}",
        "bag{learner=sgd}",
        "rnd{learner=sgd}",
        "lin-full-post",
        "logistic-ts",
        "beta-ts",
        "two-tower",
        "neural-linear{width=4,layers=1}",
    ] {
        assert!(!weighed(spec), "{spec}");
    }
}

/// Trust is a weight of the old rows.
#[test]
fn trust_weighs_old_rows_against_new_ones() {
    let spec = "lin-ucb{features=v1}";
    let old = learned(spec, &log(300, &[]));
    let at = |trust: &str| started(&format!("{spec}+warm{{from=old,trust={trust}}}"), &old.save()).unwrap();
    agree(at("1").as_ref(), old.as_ref(), "trust 1");
    agree(at("1e-15").as_ref(), build(spec).as_ref(), "trust near 0");
    // Twice the rows: the log learned twice.
    let mut twice = learned(spec, &log(300, &[]));
    twice
        .update(&Batch::new(&log(300, &[]), &(0..300).collect::<Vec<_>>()))
        .unwrap();
    agree(at("2").as_ref(), twice.as_ref(), "trust 2");
    // The penalty is the new policy's own.
    let other = started("lin-ucb{features=v1,lambda=7}+warm{from=old}", &old.save()).unwrap();
    agree(
        other.as_ref(),
        learned("lin-ucb{features=v1,lambda=7}", &log(300, &[])).as_ref(),
        "lambda",
    );
}

#[test]
fn every_new_person_starts_from_the_population() {
    let old = learned("lin-ucb{features=v1}", &log(300, &[]));
    let mut people = started("lin-ucb{features=v1}+warm{from=old}+per-user", &old.save()).unwrap();
    agree(people.as_ref(), old.as_ref(), "strangers");
    // One person's rows change that person's model only.
    let mut one = started("lin-ucb{features=v1}+warm{from=old}", &old.save()).unwrap();
    let rows = log(300, &[]);
    let own: Vec<usize> = (0..300).filter(|&i| rows.row(i).round.user.0 == 1).collect();
    people.update(&Batch::new(&rows, &own)).unwrap();
    one.update(&Batch::new(&rows, &own)).unwrap();
    let mut decision = Decision::new();
    for t in 0..9 {
        let sample = Sample::new(7000 + t, 4);
        people.decide(&sample.round(), Key::root(1), &mut decision).unwrap();
        let scores = decision.scores().to_vec();
        let expected = if sample.user == 1 { &one } else { &old };
        expected.decide(&sample.round(), Key::root(1), &mut decision).unwrap();
        for (a, b) in scores.iter().zip(decision.scores()) {
            assert!((a - b).abs() < 1e-9, "{t}");
        }
    }
}

/// Strangers to a population are strangers to one that starts from it, and nobody's rows come along.
#[test]
fn a_population_starts_from_people_and_not_from_a_person() {
    let spec = "hierarchical{draws=16,features=v1}";
    let mut old = build(spec);
    common::play(old.as_mut(), 0, 400);
    let new = started(&format!("{spec}+warm{{from=old}}"), &old.save()).unwrap();
    let stranger = |policy: &dyn Policy, user: u64| {
        let mut decision = Decision::new();
        let sample = Sample {
            user,
            ..Sample::new(6000, 5)
        };
        policy.decide(&sample.round(), Key::root(2), &mut decision).unwrap();
        decision.scores().to_vec()
    };
    let known = stranger(old.as_ref(), 1);
    let (before, after) = (stranger(old.as_ref(), 99), stranger(new.as_ref(), 99));
    assert_eq!(stranger(new.as_ref(), 1), after, "user 1 is somebody else here");
    for ((known, before), after) in known.iter().zip(&before).zip(&after) {
        // λ is counted once and the prior on Σ differs by its rounding: the same μ̂.
        assert!((before - after).abs() < 1e-9, "{before} {after}");
        assert!((before - known).abs() > 1e-6, "user 1 had left the population");
    }
    let (few, _) = migrated(old.as_ref(), "hierarchical{draws=16,features=v0}");
    let saved = few.save();
    let (_, mut reader) = state::Reader::any("test", &saved).unwrap();
    assert!(reader.u64s("users").unwrap().is_empty(), "people by name are gone");
    let (many, moved) = migrated(old.as_ref(), "hierarchical{draws=16,features=v3}");
    assert_eq!((moved.kept.len(), moved.new.len()), (7, 33));
    let mut again = build("hierarchical{draws=16,features=v3}");
    again.load(&many.save()).unwrap();
    assert_eq!(again.save(), many.save());
    let header = state::header(&many.save()).unwrap();
    assert_eq!(header.features, names("v3"));
}

/// One regression a person that starts from a population is that population's person, as long as nobody else's rows
/// move the population.
#[test]
fn a_person_starts_from_a_population() {
    let spec = "hierarchical{draws=16,features=v1}";
    let mut old = build(spec);
    common::play(old.as_mut(), 0, 400);
    let (state, rows) = (old.save(), log(30, &[]));
    let mut one = started("lin-ucb{features=v1,alpha=0}+warm{from=old}+per-user", &state).unwrap();
    let mut all = started(&format!("{spec}+warm{{from=old}}"), &state).unwrap();
    let scores = |policy: &dyn Policy| {
        let mut decision = Decision::new();
        (0..9)
            .flat_map(|t| {
                let sample = Sample {
                    user: 1,
                    ..Sample::new(8000 + t, 4)
                };
                policy.decide(&sample.round(), Key::root(1), &mut decision).unwrap();
                decision.scores().to_vec()
            })
            .collect::<Vec<f64>>()
    };
    let close = |a: Vec<f64>, b: Vec<f64>, far: f64| {
        a.iter()
            .zip(&b)
            .for_each(|(a, b)| assert!((a - b).abs() < far, "{a} {b}"));
    };
    let before = scores(one.as_ref());
    close(before.clone(), scores(all.as_ref()), 1e-9);
    let own: Vec<usize> = (0..30).filter(|&i| rows.row(i).round.user.0 == 1).collect();
    one.update(&Batch::new(&rows, &own)).unwrap();
    all.update(&Batch::new(&rows, &own)).unwrap();
    // Σ and σ² are those of the old population with the prior added once more: nearly the same.
    close(scores(one.as_ref()), scores(all.as_ref()), 0.01);
    assert!(
        before
            .iter()
            .zip(scores(one.as_ref()))
            .any(|(a, b)| (a - b).abs() > 0.05)
    );
    // Little trust is little of it, and the rest the policy's own prior.
    let little = started("lin-ucb{features=v1,alpha=0}+warm{from=old,trust=1e-12}", &state).unwrap();
    close(
        scores(little.as_ref()),
        scores(build("lin-ucb{features=v1,alpha=0}").as_ref()),
        1e-9,
    );
}

#[test]
fn impossible_starts_say_why() {
    let old = |spec: &str| {
        let mut policy = build(spec);
        common::play(policy.as_mut(), 0, 60);
        policy
    };
    for (spec, from, expected) in [
        (
            "lin-ts{features=v2}+warm{from=old}",
            "lin-ts{features=v1}",
            "`oo-sim migrate` moves",
        ),
        (
            "lin-ts{features=v2}+warm{from=old}",
            "lin-ts{features=v1}",
            "only here: completion_rate_30d",
        ),
        ("lin-ts+warm{from=old}", "lin-ucb", "it was saved by `lin-ucb`"),
        (
            "lin-ucb+per-user+warm{from=old}",
            "lin-ucb",
            "put +warm before +per-user",
        ),
        (
            "lin-ucb+per-user+warm{from=old}",
            "lin-ucb+per-user",
            "+warm{from=…}+per-user",
        ),
        (
            "lin-ucb{model=hybrid}+warm{from=old,trust=0.5}",
            "lin-ucb{model=hybrid}",
            "use trust=1",
        ),
        ("ucb1+warm{from=old,trust=0.5}", "ucb1", "use trust=1"),
        (
            "lin-ts{features=v2}+warm{from=old}",
            "hierarchical{features=v1}",
            "it is a population over hour_sin",
        ),
        (
            "lin-ts{features=v1,model=disjoint}+warm{from=old}",
            "hierarchical{features=v1}",
            "use model=shared",
        ),
        (
            "ucb1+warm{from=old}",
            "hierarchical{features=v1}",
            "it is a population over hour_sin",
        ),
        (
            "neural-egreedy{features=v1,width=4,layers=1}+warm{from=old,trust=0.5}",
            "neural-egreedy{features=v1,width=4,layers=1}",
            "use trust=1",
        ),
        (
            "neural-egreedy{features=v1,width=5,layers=1}+warm{from=old}",
            "neural-egreedy{features=v1,width=4,layers=1}",
            "expected 1 Shared network of 1 x 5",
        ),
        ("lin-ucb+warm", "lin-ucb", "expected the file of a saved policy"),
        (
            "lin-ucb+warm{from=old,trust=0}",
            "lin-ucb",
            "expected a positive number",
        ),
        ("lin-ucb+warm{from=old,turst=1}", "lin-ucb", "did you mean `trust`?"),
        ("lin-ucb+warm{from=another}", "lin-ucb", "nobody has read `another`"),
        (
            "exp4{experts='lin-ucb+warm{from=old}/uniform'}",
            "lin-ucb",
            "not inside another one's options",
        ),
    ] {
        let error = start_fails(spec, old(from).as_ref());
        assert!(error.contains(expected), "{spec} from {from}: {error}");
    }
    let mut damaged = old("lin-ucb").save();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let error = started("lin-ucb+warm{from=old}", &damaged).err().unwrap().to_string();
    assert!(error.contains("damaged"), "{error}");
}
