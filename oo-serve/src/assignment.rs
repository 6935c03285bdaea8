//! Who sees which arm of an experiment: a pure function of (salt, user, event), so any program in any language can
//! repeat it, and nothing is stored.
//!
//! For every arm, u = (the first 53 bits of SHA-256 over the netstrings of salt, user, event and arm + ½) / 2⁵³, and
//! the arm's score is −weight / ln u. The largest score wins, the earlier arm on a tie. An arm wins with probability
//! weight / Σ weights. Another arm takes only the share that becomes its own: nobody moves between the old ones. Two
//! salts are independent. With an empty event a user keeps the arm; with one, every event is drawn anew.
//!
//! Netstring of a text: its length in bytes, a colon, the bytes, a comma. `5:alice,`. Test vectors are in
//! `docs/assignments.md`.
//!
//! Weighted rendezvous hashing: Thaler, Ravishankar (1998), IEEE/ACM ToN 6(1); logarithmic weights after Schindelhauer,
//! Schomaker (2005), SPAA.

use sha2::{Digest, Sha256};

/// An arm of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm<'a> {
    /// Unique in its experiment.
    pub name: &'a str,
    /// Any positive scale; 0 is never drawn.
    pub weight: f64,
}

/// The position of the arm that (salt, user, event) falls on; `None` when no arm has a positive weight.
///
/// ```
/// use oo_serve::assignment::{Arm, assign};
/// let arms = [Arm { name: "control", weight: 1.0 }, Arm { name: "challenger", weight: 1.0 }];
/// assert_eq!(assign("exp-1", "alice", "", &arms), assign("exp-1", "alice", "", &arms));
/// ```
pub fn assign(salt: &str, user: &str, event: &str, arms: &[Arm<'_>]) -> Option<usize> {
    let mut start = Sha256::new();
    [salt, user, event].iter().for_each(|part| netstring(&mut start, part));
    let mut best: Option<(f64, usize)> = None;
    for (i, arm) in arms.iter().enumerate().filter(|(_, a)| a.weight > 0.0) {
        let score = -arm.weight / libm::log(unit(start.clone(), arm.name));
        if best.is_none_or(|(s, _)| score > s) {
            best = Some((score, i));
        }
    }
    best.map(|(_, i)| i)
}

/// The number behind an arm's score, in (0, 1).
pub fn uniform(salt: &str, user: &str, event: &str, arm: &str) -> f64 {
    let mut start = Sha256::new();
    [salt, user, event].iter().for_each(|part| netstring(&mut start, part));
    unit(start, arm)
}

fn unit(mut hash: Sha256, arm: &str) -> f64 {
    netstring(&mut hash, arm);
    let digest = hash.finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    let bits = u64::from_be_bytes(head) >> 11;
    // The sum is exact below 2⁵²; above, it rounds to an even neighbour that is still below 1.
    ((bits as f64 + 0.5) / (1u64 << 53) as f64).min(1.0 - f64::EPSILON / 2.0)
}

fn netstring(hash: &mut Sha256, part: &str) {
    hash.update(part.len().to_string());
    hash.update(b":");
    hash.update(part);
    hash.update(b",");
}

/// Sample-ratio check: the probability of counts at least as far from the weights, by Pearson's chi-square. Below
/// 0.001 something between assignment and log is broken. `None` with fewer than two arms of positive weight, or none
/// counted; 0 when an arm of weight 0 was seen.
pub fn sample_ratio(counts: &[u64], weights: &[f64]) -> Option<f64> {
    use statrs::distribution::{ChiSquared, ContinuousCDF};
    let total: u64 = counts.iter().sum();
    let sum: f64 = weights.iter().filter(|w| **w > 0.0).sum();
    let live = weights.iter().filter(|w| **w > 0.0).count();
    if total == 0 || live < 2 || counts.len() != weights.len() {
        return None;
    }
    let mut chi = 0.0;
    for (&seen, &weight) in counts.iter().zip(weights) {
        if weight > 0.0 {
            let expected = total as f64 * weight / sum;
            chi += (seen as f64 - expected).powi(2) / expected;
        } else if seen > 0 {
            return Some(0.0);
        }
    }
    ChiSquared::new((live - 1) as f64).ok().map(|d| d.sf(chi))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(names: &'static [&'static str]) -> Vec<Arm<'static>> {
        names.iter().map(|name| Arm { name, weight: 1.0 }).collect()
    }

    /// The vectors of docs/assignments.md, read from the page itself.
    #[test]
    fn the_published_vectors_hold() {
        let page = include_str!("../../docs/assignments.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|l| l.starts_with("| `"))
            .map(|l| {
                l.trim_matches('|')
                    .split('|')
                    .map(|c| c.trim().trim_matches('`'))
                    .collect()
            })
            .collect();
        assert!(rows.len() >= 10, "the table has gone");
        for row in rows {
            let arms: Vec<Arm<'_>> = row[3]
                .split_whitespace()
                .map(|arm| {
                    let (name, weight) = arm.split_once('=').unwrap();
                    Arm {
                        name,
                        weight: weight.parse().unwrap(),
                    }
                })
                .collect();
            let got = assign(row[0], row[1], row[2], &arms).map(|i| arms[i].name).unwrap();
            let u = uniform(row[0], row[1], row[2], arms[0].name);
            assert_eq!((got, format!("{u:.12}")), (row[4], row[5].to_string()), "{row:?}");
        }
    }

    #[test]
    fn shares_follow_the_weights_at_100_000_users() {
        // False alarm 0.001 a salt, three salts.
        for salt in ["a", "b", "c"] {
            let arms = [
                Arm { name: "x", weight: 0.5 },
                Arm { name: "y", weight: 0.3 },
                Arm { name: "z", weight: 0.2 },
            ];
            let mut counts = [0u64; 3];
            (0..100_000).for_each(|u| counts[assign(salt, &format!("user-{u}"), "", &arms).unwrap()] += 1);
            let p = sample_ratio(&counts, &[0.5, 0.3, 0.2]).unwrap();
            assert!(p > 0.001, "{salt}: {counts:?} p {p}");
        }
        assert!(
            sample_ratio(&[50_700, 49_300], &[1.0, 1.0]).unwrap() < 0.001,
            "the check sees a lost 1 %"
        );
    }

    #[test]
    fn another_arm_moves_only_what_becomes_its_own() {
        let (two, three) = (arms(&["x", "y"]), arms(&["x", "y", "z"]));
        let mut moved = 0;
        for u in 0..30_000 {
            let user = format!("u{u}");
            let (before, after) = (
                assign("s", &user, "", &two).unwrap(),
                assign("s", &user, "", &three).unwrap(),
            );
            if before != after {
                assert_eq!(after, 2, "nobody moves between the old arms");
                moved += 1;
            }
        }
        // A third: sd 82, so 5 sd is 408: false alarm 6e-7.
        assert!((moved - 10_000i32).abs() < 408, "{moved}");
    }

    #[test]
    fn experiments_are_independent() {
        // Chi-square of a 2 × 2 table has one degree of freedom: 10.83 is p = 0.001, for each of three pairs.
        let arms = arms(&["x", "y"]);
        let salts = ["one", "two", "three"];
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let mut table = [[0f64; 2]; 2];
            for u in 0..40_000 {
                let user = u.to_string();
                let at = |s: usize| assign(salts[s], &user, "", &arms).unwrap();
                table[at(a)][at(b)] += 1.0;
            }
            let n = 40_000.0;
            let chi: f64 = (0..4)
                .map(|k| {
                    let (i, j) = (k / 2, k % 2);
                    let e = (table[i][0] + table[i][1]) * (table[0][j] + table[1][j]) / n;
                    (table[i][j] - e).powi(2) / e
                })
                .sum();
            assert!(chi < 10.83, "{} and {}: {chi}", salts[a], salts[b]);
        }
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(uniform("ab", "c", "", "x"), uniform("a", "bc", "", "x"));
        assert_eq!(assign("s", "u", "", &[]), None);
        assert_eq!(assign("s", "u", "", &[Arm { name: "x", weight: 0.0 }]), None);
    }
}
