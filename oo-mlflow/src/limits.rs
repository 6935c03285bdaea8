//! What the server refuses or, worse, changes without a word (MLflow 3.17.2).
//!
//! It stores an infinite metric as the largest finite number, and cuts long parameters and tags. Neither leaves here: an
//! infinity becomes a tag; a long text is cut here, a tag says which, and the whole goes along as an artefact.

use sha2::{Digest, Sha256};

/// Metrics in a batch, and metrics, parameters and tags together.
pub const BATCH: usize = 1000;
/// Parameters in a batch; tags likewise.
pub const BATCH_OF_TEXTS: usize = 100;
/// Characters of a key.
pub const KEY: usize = 250;
/// Characters of a parameter.
pub const PARAM: usize = 6000;
/// Characters of a tag.
pub const TAG: usize = 8000;
/// Characters of a data set's digest.
pub const DIGEST: usize = 36;
/// Characters of a data set's name.
pub const DATASET_NAME: usize = 500;
/// Characters of where a data set comes from.
pub const DATASET_SOURCE: usize = 65_535;

/// A key that the server takes: letters, digits and `_-. :/`, at most 250 of them, and a path that is its own normal form.
/// What it would not take becomes `_`; a key that was cut ends in a digest of the whole.
pub fn key(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split('/') {
        let part: String = part
            .chars()
            .map(|c| {
                let fine = c.is_ascii_alphanumeric() || "_-. :".contains(c);
                if fine { c } else { '_' }
            })
            .collect();
        // `a//b`, `.` and `..` are paths with another normal form.
        let part = if part.is_empty() || part == "." || part == ".." {
            "_"
        } else {
            &part
        };
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(part);
    }
    if out.len() > KEY {
        out.truncate(KEY - 9);
        out = format!("{}_{}", out.trim_end_matches('/'), &sha256(text.as_bytes())[..8]);
    }
    out
}

/// A key a name, and no two the same: names that differ only in what keys cannot hold get the beginning of their digest.
/// `lin-ucb{alpha=0.5}` becomes `lin-ucb_alpha_0.5`.
pub fn distinct_keys<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let plain = |name: &str| {
        let kept: String = key(&name.replace(['{', '}', '='], "_").replace("_+", "+"));
        kept.trim_end_matches('_').to_string()
    };
    let names: Vec<&str> = names.into_iter().collect();
    let keys: Vec<String> = names.iter().map(|name| plain(name)).collect();
    names
        .iter()
        .zip(&keys)
        .map(|(name, own)| {
            if own.is_empty() || keys.iter().filter(|k| *k == own).count() > 1 {
                key(&format!("{own}_{}", &sha256(name.as_bytes())[..8]))
            } else {
                own.clone()
            }
        })
        .collect()
}

/// The text, or its beginning with a sign that it goes on; and whether it was cut.
pub fn cut(text: &str, limit: usize) -> (String, bool) {
    if text.chars().count() <= limit {
        return (text.into(), false);
    }
    (text.chars().take(limit - 1).chain(['…']).collect(), true)
}

/// A digest of any length as the server takes it.
pub fn digest(text: &str) -> String {
    text.chars().take(DIGEST).collect()
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_the_server_takes() {
        for (given, want) in [
            ("reward/mean so_far:1.0-x", "reward/mean so_far:1.0-x"),
            ("ips@10%", "ips_10_"),
            ("/a//../b/", "_/a/_/_/b/_"),
            ("naïve\n", "na_ve_"),
            ("", "_"),
        ] {
            assert_eq!(key(given), want);
        }
        let long = key(&"x".repeat(1000));
        assert_eq!(long.len(), KEY);
        assert_ne!(long, key(&"x".repeat(1001)));
    }

    #[test]
    fn different_names_have_different_keys() {
        let keys = distinct_keys([
            "lin-ucb{alpha=0.5}",
            "lin-ucb",
            "a{b=1}",
            "a_b_1",
            "x{y=1}+per-user",
            "{}",
        ]);
        assert_eq!(keys[..2], ["lin-ucb_alpha_0.5", "lin-ucb"]);
        assert!(keys[2].starts_with("a_b_1_") && keys[3].starts_with("a_b_1_") && keys[2] != keys[3]);
        assert_eq!(keys[4], "x_y_1+per-user".replace('+', "_"));
        assert!(keys.iter().all(|k| *k == key(k) && !k.is_empty()), "{keys:?}");
    }

    #[test]
    fn texts_are_cut_by_characters() {
        assert_eq!(cut("äöü", 3), ("äöü".into(), false));
        assert_eq!(cut("äöüß", 3), ("äö…".into(), true));
        assert_eq!(digest(&"a".repeat(64)).len(), DIGEST);
    }
}
