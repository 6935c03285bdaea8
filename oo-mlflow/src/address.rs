//! Where the server is, and who asks.
//!
//! Credentials come from the variables that MLflow's own clients read, or from the address itself. They are kept apart
//! from it: the address is shown and written, they never are.

use crate::error::{Error, Result};
use std::fmt;

/// The header's value that proves who asks. It prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    header: String,
    /// What must not be repeated, should a server do so.
    secrets: Vec<String>,
}

impl Credentials {
    /// A user with a password.
    pub fn basic(user: &str, password: &str) -> Credentials {
        let coded = base64(format!("{user}:{password}").as_bytes());
        Credentials {
            header: format!("Basic {coded}"),
            secrets: vec![coded, password.into()],
        }
    }

    /// A token.
    pub fn bearer(token: &str) -> Credentials {
        Credentials {
            header: format!("Bearer {token}"),
            secrets: vec![token.into()],
        }
    }

    /// From `MLFLOW_TRACKING_USERNAME` with `_PASSWORD`, else `MLFLOW_TRACKING_TOKEN`: the order of MLflow's own client.
    pub fn from_environment() -> Option<Credentials> {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        match (set("MLFLOW_TRACKING_USERNAME"), set("MLFLOW_TRACKING_PASSWORD")) {
            (Some(user), Some(password)) => Some(Credentials::basic(&user, &password)),
            _ => set("MLFLOW_TRACKING_TOKEN").map(|token| Credentials::bearer(&token)),
        }
    }

    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    /// A text without the secrets. Some servers and proxies show a request's headers on their pages of errors.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let secrets = self.secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text.into(), |text, secret| text.replace(secret, "…"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A server's address, with credentials where there are any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    base: String,
    credentials: Option<Credentials>,
}

impl Address {
    /// Reads `http://[USER:PASSWORD@]HOST[:PORT][/PATH]`. A user in the address goes over `credentials`.
    ///
    /// # Errors
    /// Anything else: files, databases and hosted services have no REST interface of this kind.
    pub fn parse(text: &str, credentials: Option<Credentials>) -> Result<Address> {
        let text = text.trim();
        let wrong = |why| Error::Address {
            got: redacted(text),
            why,
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("and this has no ://"))?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(wrong("and only these are spoken here"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        // An @ behind a slash is that of a password with a slash in it, which would be shown as part of the path.
        if path.contains('@') {
            return Err(wrong(
                "with / ? # @ : of a user or password written as %2F %3F %23 %40 %3A",
            ));
        }
        if host.is_empty() || path.contains(['?', '#']) || text.contains(char::is_whitespace) {
            return Err(wrong("with an optional path and nothing else"));
        }
        let own = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Credentials::basic(&percent_decoded(user), &percent_decoded(password))
        });
        Ok(Address {
            base: format!("{scheme}://{host}{}", path.trim_end_matches('/')),
            credentials: own.or(credentials),
        })
    }

    /// The address without credentials and without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// A text that may be an address, without what may be secret in it: user, password, query.
pub fn redacted(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |i| i + 3));
    let shown = match (rest.rfind('@'), rest.find(['?', '#'])) {
        (None, None) => rest.into(),
        (Some(at), None) => format!("…{}", &rest[at..]),
        (None, Some(query)) => format!("{}…", &rest[..=query]),
        // Where the password ends is anybody's guess.
        (Some(_), Some(_)) => "…".into(),
    };
    format!("{scheme}{shown}")
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A path or a query value as it may stand in an address; slashes stay where `keep` says so.
pub(crate) fn percent_encoded(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || keep.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        let address = Address::parse("HTTP://me:p%40ss@host:5000/mlflow/", None).unwrap();
        assert_eq!(address.base(), "http://host:5000/mlflow");
        assert_eq!(address.credentials(), Some(&Credentials::basic("me", "p@ss")));
        assert!(!format!("{address} {address:?}").contains("p@ss"));
        let token = Some(Credentials::bearer("t"));
        let plain = Address::parse("https://host", token.clone()).unwrap();
        assert_eq!(plain.credentials(), token.as_ref());
        for wrong in [
            "",
            "host:5000",
            "sqlite:///x.db",
            "http://",
            "http://a b",
            "http://h?q=1",
            "databricks",
            "ftp://me:secret@h",
            "me:secret@h",
            "http://me:secret@",
            "http://me:secret/x@h",
            "http://h?token=secret",
            "http://h/#secret",
            "http://me:secret?x@h?token=secret",
            "http://h?token=secret@secret",
        ] {
            let said = Address::parse(wrong, None).unwrap_err().to_string();
            assert!(said.contains("expected http://") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn what_a_server_repeats_is_hidden() {
        let basic = Credentials::basic("me", "p@ss");
        let page = format!("401: authorization: {}, me, p@ss", basic.header());
        assert_eq!(basic.hidden_in(&page), "401: authorization: Basic …, me, …");
        assert_eq!(Credentials::bearer("").hidden_in("401"), "401");
    }

    #[test]
    fn base64_of_the_standard() {
        // RFC 4648, section 10.
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn percent() {
        assert_eq!(percent_encoded("a b/ü.x", "/"), "a%20b/%C3%BC.x");
        assert_eq!(percent_encoded("a/b", ""), "a%2Fb");
        assert_eq!(percent_decoded("a%20b%2"), "a b%2");
    }
}
