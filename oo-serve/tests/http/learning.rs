//! What is learned is seen by the next decision, and what is drawn follows what is said.

use crate::client::Server;
use oo_core::Key;
use serde_json::{Value, json};

/// R6: pairs on one connection. The next decision of a user reflects the feedback that was just acknowledged.
fn pairs(n: u64) {
    let server = Server::start(&["--candidate", "3", "--policy", "lin-ts{draws=8}+per-user"]);
    let mut client = server.connect();
    let mut seen = 0;
    for i in 0..n {
        let mut draws = Key::root(6).fold(i).draws();
        let candidates: Vec<Value> = (0..3)
            .map(|c| json!({"id": c, "features": [draws.uniform(), draws.uniform(), draws.uniform()]}))
            .collect();
        let ask = json!({"user_id": format!("u{}", i % 7), "candidates": candidates}).to_string();
        let before = client.post("/recommend", &ask).json();
        let told = json!({"decision_id": before["decision_id"], "reward": draws.uniform()}).to_string();
        assert_eq!(client.post("/feedback", &told).json()["status"], "learned");
        let after = client.post("/recommend", &ask).json();
        assert_eq!((&before["updates"], &after["updates"]), (&json!(i), &json!(i + 1)));
        let scores = |answer: &Value| {
            let mut all: Vec<(String, u64)> = answer["ranking"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| (r["id"].to_string(), r["score"].as_f64().unwrap().to_bits()))
                .collect();
            all.sort();
            all
        };
        seen += u64::from(scores(&before) != scores(&after));
    }
    println!("R6: {seen} of {n} next decisions reflect the feedback");
    assert_eq!(seen, n);
}

#[test]
fn the_next_decision_reflects_the_feedback() {
    pairs(100);
}

#[test]
#[ignore = "ten thousand pairs, each waits for the disk"]
fn ten_thousand_next_decisions_reflect_the_feedback() {
    pairs(10_000);
}

/// R22: choices against the probabilities in the answers, while the policy learns. The differences a candidate add up to a
/// martingale; their squared length in the metric of their covariance is χ².
fn frequencies(policy: &str, n: u64) {
    const K: usize = 4;
    let server = Server::start(&["--candidate", "2", "--policy", policy, "--durability", "process"]);
    let mut client = server.connect();
    let (mut sums, mut covariance, mut worst) = ([0.0; K], [[0.0; K]; K], 0.0f64);
    let mut seen = [0u64; K];
    for i in 0..n {
        let mut draws = Key::root(22).fold(i).draws();
        let candidates: Vec<Value> = (0..K)
            .map(|c| json!({"id": c, "features": [(draws.uniform() * 8.0).round() / 8.0, 1]}))
            .collect();
        let ask = json!({"user_id": i % 3, "decision_id": format!("d{i}"), "candidates": candidates});
        let answer = client.post("/recommend", &ask.to_string()).json();
        let id = |v: &Value| v["id"].as_str().unwrap().parse::<usize>().unwrap();
        let (chosen, mut p) = (id(&answer["tip"]), [0.0; K]);
        for ranked in answer["ranking"].as_array().unwrap() {
            p[id(ranked)] = ranked["probability"].as_f64().unwrap();
        }
        worst = worst.max((p.iter().sum::<f64>() - 1.0).abs());
        assert_eq!(answer["propensity"].as_f64().unwrap(), p[chosen]);
        seen[chosen] += 1;
        for a in 0..K {
            sums[a] += f64::from(u8::from(a == chosen)) - p[a];
            for b in 0..K {
                covariance[a][b] += p[a] * (f64::from(u8::from(a == b)) - p[b]);
            }
        }
        // It learns for a while, so that the probabilities are not all alike.
        if i < 2000 && i % 4 == 0 {
            let told =
                json!({"decision_id": answer["decision_id"], "reward": draws.normal() * 0.3 + chosen as f64 * 0.1});
            assert_eq!(client.post("/feedback", &told.to_string()).status, 200);
        }
    }
    // The last candidate follows from the others.
    let chi = quadratic(&covariance, &sums);
    // 3 degrees of freedom: above 16.27 with probability 0.001.
    println!(
        "R22: {policy}, {n} decisions, chosen {seen:?}, chi-square {chi:.2} with 3 degrees of freedom, sums of probabilities within {worst:.1e} of 1"
    );
    assert!(chi < 16.27, "{chi}");
    assert!(worst < 1e-9, "{worst}");
}

/// sᵀC⁻¹s over all but the last, by elimination.
fn quadratic<const K: usize>(covariance: &[[f64; K]; K], sums: &[f64; K]) -> f64 {
    let n = K - 1;
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| covariance[i][j]).chain([sums[i]]).collect())
        .collect();
    for i in 0..n {
        let pivot = rows[i].clone();
        for row in rows.iter_mut().skip(i + 1) {
            let factor = row[i] / pivot[i];
            row.iter_mut().zip(&pivot).for_each(|(r, p)| *r -= factor * p);
        }
    }
    // LDLᵀ: the eliminated right side, squared, over the pivots.
    (0..n).map(|i| rows[i][n] * rows[i][n] / rows[i][i]).sum()
}

#[test]
fn choices_follow_the_probabilities_in_the_answers() {
    frequencies("softmax", 3000);
}

#[test]
#[ignore = "a million decisions"]
fn a_million_choices_follow_the_probabilities_in_the_answers() {
    frequencies("lin-ts{draws=16}", 1_000_000);
}
