//! Every estimate of the golden set against Open Bandit Pipeline 0.5.7, to 1e-9 relative.
//!
//! The set lies in `OO_GOLDEN_DIR/ope`, or in `../golden/ope` beside the folder in `OO_DATA_DIR`. Names are read, not
//! listed: `DRos lambda=10`, `IPS tuned mse`; so another set of the same form works too.

use oo_judge::estimators::tuning::{Rule, Tuning};
use oo_judge::estimators::{Estimator, Logged, Sizes, Sums, Terms, Weighted, find};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The folder of the set; `None` where there is none and none is required.
fn folder() -> Option<PathBuf> {
    let own = std::env::var_os("OO_GOLDEN_DIR").map(PathBuf::from);
    let beside = || Some(PathBuf::from(std::env::var_os("OO_DATA_DIR")?).join("../golden"));
    let folder = own.or_else(beside)?.join("ope");
    folder.join("obp-estimates.json").exists().then_some(folder)
}

fn read() -> Option<(Logged, Value)> {
    let Some(folder) = folder() else {
        assert!(
            std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1"),
            "expected the golden set in OO_GOLDEN_DIR/ope or beside OO_DATA_DIR"
        );
        return None;
    };
    let estimates = std::fs::read_to_string(folder.join("obp-estimates.json")).expect("readable estimates");
    let file = std::fs::File::open(folder.join("logged.csv.gz")).expect("a log");
    let mut lines = BufReader::new(flate2::read::GzDecoder::new(file))
        .lines()
        .map(|line| line.expect("a line"));
    let header: Vec<String> = lines.next().expect("a header").split(',').map(String::from).collect();
    let column = |name: &str| {
        header
            .iter()
            .position(|h| h == name)
            .unwrap_or_else(|| panic!("no column {name}"))
    };
    let (action, reward, propensity) = (column("action"), column("reward"), column("pscore"));
    let (target, model) = (column("pi_e_0"), column("q_hat_0"));
    let actions = header.iter().filter(|h| h.starts_with("pi_e_")).count();
    let mut log = Logged {
        action: vec![],
        reward: vec![],
        propensity: vec![],
        candidates: Sizes::Fixed(actions),
        target: vec![],
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    for line in lines {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().expect("a number")).collect();
        log.action.push(cells[action] as u32);
        log.reward.push(cells[reward]);
        log.propensity.push(cells[propensity]);
        log.target.extend_from_slice(&cells[target..target + actions]);
        log.model.extend_from_slice(&cells[model..model + actions]);
    }
    Some((log, serde_json::from_str(&estimates).expect("JSON")))
}

fn assert_close(what: &str, own: f64, expected: f64) {
    assert!(
        (own - expected).abs() <= 1e-9 * expected.abs(),
        "{what}: {own}, the golden set has {expected}"
    );
}

/// Our name of theirs; clipped ones have an entry of their own.
fn entry_name(theirs: &str, parameter: bool) -> &'static str {
    match (theirs, parameter) {
        ("IPS", false) => "ips",
        ("IPS", true) => "ips-clipped",
        ("SNIPS", _) => "snips",
        ("DM", _) => "dm",
        ("DR", false) => "dr",
        ("DR", true) => "dr-clipped",
        ("SNDR", _) => "sndr",
        ("SwitchDR", _) => "switch-dr",
        ("DRos", _) => "dr-os",
        ("SG-IPS", _) => "sg-ips",
        ("SG-DR", _) => "sg-dr",
        _ => panic!("the golden set has an unknown estimator {theirs}"),
    }
}

/// What the other library calls the reward of each round. It divides by the mean weight inside the rounds; the variance
/// of these numbers treats that mean as known and is not ours (its intervals for SNIPS are wrong by that), but the
/// numbers themselves are base + num / mean den.
fn their_rounds(terms: &Terms) -> Vec<f64> {
    let mean = terms.den.iter().sum::<f64>() / terms.len() as f64;
    (0..terms.len()).map(|i| terms.base[i] + terms.num[i] / mean).collect()
}

#[test]
fn every_estimate_agrees() {
    let Some((log, golden)) = read() else { return };
    log.check().expect("a sound log");
    let mut rounds = Weighted::default();
    log.weigh(&mut rounds);
    let grid: Vec<f64> = golden["lambdas_grid"]
        .as_array()
        .expect("a grid")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect();
    let estimates = golden["estimates"].as_object().expect("estimates");
    let mut terms = Terms::default();
    for (name, expected) in estimates {
        let value = expected["value"].as_f64().expect("a value");
        if let Some((theirs, rule)) = name.split_once(" tuned ") {
            let rule = match rule {
                "mse" => Rule::Mse,
                "slope" => Rule::Slope,
                _ => panic!("unknown rule {rule}"),
            };
            let mut tuning = Tuning::new(find(entry_name(theirs, true)).expect("in the table"), &grid).expect("a grid");
            tuning.add(&rounds);
            let choice = tuning.choose(rule, 0.1).expect("a choice");
            assert_close(name, choice.sums.value(), value);
            if let Some(best) = expected.get("best_lambda").and_then(Value::as_f64) {
                assert_eq!(choice.parameter, best, "{name}");
            }
            continue;
        }
        let (theirs, parameter) = match name.split_once(" lambda=") {
            Some((theirs, value)) => (theirs, Some(value.parse().expect("a number"))),
            None => (name.as_str(), None),
        };
        let estimator = find(entry_name(theirs, parameter.is_some()))
            .and_then(|entry| entry.build(parameter))
            .expect("in the table");
        estimator.terms(&rounds, &mut terms);
        let mut sums = Sums::new();
        sums.add(&terms);
        assert_close(name, sums.value(), value);

        let own = their_rounds(&terms);
        let n = own.len() as f64;
        let mean = own.iter().sum::<f64>() / n;
        let squares: f64 = own.iter().map(|x| (x - mean) * (x - mean)).sum();
        for (key, own) in [
            ("round_mean", mean),
            ("round_var_ddof0", squares / n),
            ("round_var_ddof1", squares / (n - 1.0)),
        ] {
            if let Some(expected) = expected.get(key).and_then(Value::as_f64) {
                assert_close(&format!("{name} {key}"), own, expected);
            }
        }
        if terms.den.iter().all(|den| *den == 1.0) {
            // A plain mean: our own variance, from the pass, is that of the rounds.
            assert_close(name, sums.variance(), squares / (n - 1.0));
        }
        for (i, expected) in expected["round_first5"].as_array().into_iter().flatten().enumerate() {
            assert_close(
                &format!("{name} round {i}"),
                own[i],
                expected.as_f64().expect("a number"),
            );
        }
    }
    // The weights themselves.
    let weights = &golden["weights"];
    let (sum, squares) = rounds.weight.iter().fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
    for (key, own) in [
        ("mean", sum / rounds.len() as f64),
        ("max", rounds.weight.iter().copied().fold(0.0, f64::max)),
        ("min", rounds.weight.iter().copied().fold(f64::INFINITY, f64::min)),
        ("ess_kish", sum * sum / squares),
    ] {
        assert_close(key, own, weights[key].as_f64().expect("a number"));
    }
    assert!(
        estimates.len() >= 8,
        "expected a golden set with estimates, got {}",
        estimates.len()
    );
}

/// The blocks of a pass give what one block gives.
#[test]
fn blocks_do_not_matter() {
    let Some((log, golden)) = read() else { return };
    let built: Vec<Box<dyn Estimator>> = vec![find("sndr").and_then(|e| e.build(None)).expect("in the table")];
    let value = oo_judge::estimators::estimate(&log, &built)[0].value();
    assert_close(
        "SNDR in blocks",
        value,
        golden["estimates"]["SNDR"]["value"].as_f64().expect("a value"),
    );
}
