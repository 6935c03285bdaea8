//! Bearer keys. Several may be valid at once, so that a key is replaced without a gap: add the new one, move the
//! clients, remove the old one.
//!
//! A line is `ROLES NAME SECRET`: roles joined by commas, a name for logs, and the secret itself or `sha256:` with 64
//! hexadecimal digits, so that the file holds no secret. `#` begins a comment. Only digests are kept, comparison takes
//! the same time whatever came, and no secret is ever written anywhere.

use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The shortest secret: 16 random characters are beyond guessing over a network.
const SHORTEST: usize = 16;

/// What a key allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Look: statistics, features, metrics.
    Read = 1,
    /// Ask for decisions and report feedback.
    Decide = 2,
    /// Everything: reset and forget people, change policies.
    Admin = 4,
}

impl Role {
    const ALL: [(Role, &'static str); 3] = [(Role::Read, "read"), (Role::Decide, "decide"), (Role::Admin, "admin")];

    /// The name in a keys file.
    pub fn name(self) -> &'static str {
        Role::ALL[(self as usize).trailing_zeros() as usize].1
    }
}

/// One valid key.
struct Entry {
    roles: u8,
    name: String,
    digest: [u8; 32],
}

/// A line without its comment, which stands alone or after a space: a secret may hold a `#`.
fn bare(line: &str) -> &str {
    let begins = |(i, _): &(usize, &str)| *i == 0 || line[..*i].ends_with(char::is_whitespace);
    let comment = line.match_indices('#').find(begins);
    line[..comment.map_or(line.len(), |(i, _)| i)].trim()
}

/// The valid keys.
#[derive(Default)]
pub struct Keys(Vec<Entry>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|k| &k.name)).finish()
    }
}

/// What the keys say of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// No key, or none that is known.
    Unknown,
    /// A known key without the role.
    Forbidden,
}

impl Keys {
    /// Reads lines. No message quotes a secret.
    ///
    /// # Errors
    /// The number of the first bad line, and what was expected.
    pub fn parse(text: &str) -> Result<Keys, String> {
        let mut keys = Vec::new();
        for (i, line) in text.lines().map(bare).enumerate().filter(|(_, l)| !l.is_empty()) {
            let at = |why: &str| Err(format!("line {}: {why}", i + 1));
            let parts: Vec<&str> = line.split_whitespace().collect();
            let &[roles, name, secret] = parts.as_slice() else {
                return at("expected `ROLES NAME SECRET`, as in `decide,read app-2026 …`");
            };
            let mut bits = 0u8;
            for role in roles.split(',') {
                let Some((found, _)) = Role::ALL.iter().find(|(_, n)| *n == role) else {
                    return at("expected roles among read, decide, admin, joined by commas");
                };
                bits |= *found as u8;
            }
            if bits & Role::Admin as u8 != 0 {
                bits = 7;
            }
            let digest = match secret.strip_prefix("sha256:") {
                Some(hex) => match unhex(hex) {
                    Some(digest) => digest,
                    None => return at("expected 64 hexadecimal digits after `sha256:`"),
                },
                None if secret.len() < SHORTEST => {
                    return at("the secret is too short; expected 16 characters or more");
                }
                None => Sha256::digest(secret).into(),
            };
            if keys.iter().any(|k: &Entry| k.name == name) {
                return at("the name is taken by another key");
            }
            // Which of the two a request is by, and with what roles, nobody could say.
            if keys.iter().any(|k: &Entry| k.digest == digest) {
                return at("the secret is that of another key; expected one of its own");
            }
            keys.push(Entry {
                roles: bits,
                name: name.into(),
                digest,
            });
        }
        Ok(Keys(keys))
    }

    /// True when there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value of an `Authorization` header opens what needs `role`. Without keys everything is open.
    pub fn check(&self, header: Option<&[u8]>, role: Role) -> Verdict {
        if self.0.is_empty() {
            return Verdict::Allowed;
        }
        let Some(secret) = header.and_then(bearer) else {
            return Verdict::Unknown;
        };
        let digest: [u8; 32] = Sha256::digest(secret).into();
        // All keys are looked at, whichever fits.
        let (mut known, mut roles) = (Choice::from(0), 0u8);
        for key in &self.0 {
            let same = key.digest.ct_eq(&digest);
            roles.conditional_assign(&key.roles, same);
            known |= same;
        }
        match bool::from(known) {
            false => Verdict::Unknown,
            true if roles & role as u8 != 0 => Verdict::Allowed,
            true => Verdict::Forbidden,
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let bytes = text.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# the keys of the tests\ndecide app-old 0123456789abcdef-old\ndecide,read app-new 0123456789abcdef-new\nadmin ops sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 # `test`\n";

    #[test]
    fn several_keys_are_valid_and_roles_are_kept_apart() {
        let keys = Keys::parse(FILE).unwrap();
        let check = |secret: &str, role| keys.check(Some(format!("Bearer {secret}").as_bytes()), role);
        assert_eq!(check("0123456789abcdef-old", Role::Decide), Verdict::Allowed);
        assert_eq!(check("0123456789abcdef-old", Role::Read), Verdict::Forbidden);
        assert_eq!(check("0123456789abcdef-new", Role::Read), Verdict::Allowed);
        assert_eq!(check("0123456789abcdef-new", Role::Admin), Verdict::Forbidden);
        assert_eq!(check("test", Role::Read), Verdict::Allowed);
        let sharp = Keys::parse("read app 0123456789#abcdef # not this\n #nor this").unwrap();
        let key = b"Bearer 0123456789#abcdef";
        assert_eq!(sharp.check(Some(key), Role::Read), Verdict::Allowed);
        assert_eq!(check("0123456789abcdef", Role::Decide), Verdict::Unknown);
        assert_eq!(keys.check(None, Role::Read), Verdict::Unknown);
        assert_eq!(keys.check(Some(b"Basic abc"), Role::Read), Verdict::Unknown);
        assert_eq!(Keys::default().check(None, Role::Admin), Verdict::Allowed);
    }

    #[test]
    fn refusals_name_the_line_and_no_secret() {
        for (text, want) in [
            ("decide app short", "line 1: the secret is too short"),
            ("\nchef app 0123456789abcdef", "line 2: expected roles among"),
            ("decide 0123456789abcdef", "line 1: expected `ROLES NAME SECRET`"),
            ("read a sha256:xyz", "line 1: expected 64 hexadecimal digits"),
            (
                "read a 0123456789abcdef\nread a 0123456789abcdeg",
                "line 2: the name is taken",
            ),
            (
                "read a 0123456789abcdef\nadmin b sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f",
                "line 2: the secret is that of another key",
            ),
        ] {
            let said = Keys::parse(text).unwrap_err();
            assert!(said.starts_with(want), "{said}");
            assert!(!said.contains("0123456789") && !said.contains("short "), "{said}");
        }
        assert!(!format!("{:?}", Keys::parse(FILE).unwrap()).contains("0123456789"));
    }
}
