//! Saved policies: a header with the policy's name and a version, then numbers, little-endian, then a checksum.

use oo_core::{Error, Result};

const MAGIC: &[u8; 4] = b"oOp1";

/// Collects a policy's state.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Starts the state of `policy`, whose layout is described by `shape` (any numbers that must agree on load).
    pub fn new(policy: &str, shape: &[u64]) -> Self {
        let mut w = Writer(MAGIC.to_vec());
        w.bytes(policy.as_bytes());
        w.u64(shape.len() as u64);
        shape.iter().for_each(|&s| w.u64(s));
        w
    }

    /// Appends a number.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends a number.
    pub fn f64(&mut self, v: f64) {
        self.u64(v.to_bits());
    }

    /// Appends bytes with their length.
    pub fn bytes(&mut self, v: &[u8]) {
        self.u64(v.len() as u64);
        self.0.extend_from_slice(v);
    }

    /// The finished state.
    pub fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.0);
        self.u64(sum);
        self.0
    }
}

/// Reads a policy's state.
#[derive(Debug)]
pub struct Reader<'a> {
    policy: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks header, layout and checksum.
    pub fn new(policy: &'a str, shape: &[u64], bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader { policy, rest: bytes };
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(reader.refuse("it is too short to be a saved policy"));
        };
        if body.get(..4) != Some(MAGIC) {
            return Err(reader.refuse("it is not a saved policy"));
        }
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(reader.refuse("it is damaged (checksum)"));
        }
        reader.rest = &body[4..];
        let name = reader.bytes()?;
        if name != policy.as_bytes() {
            return Err(reader.refuse(&format!("it was saved by `{}`", String::from_utf8_lossy(name))));
        }
        let n = reader.u64()?;
        let mut found = Vec::new();
        for _ in 0..n.min(64) {
            found.push(reader.u64()?);
        }
        if found != shape {
            return Err(reader.refuse(&format!("its layout is {found:?}, expected {shape:?}")));
        }
        Ok(reader)
    }

    fn refuse(&self, why: &str) -> Error {
        Error::State {
            policy: self.policy.into(),
            why: why.into(),
        }
    }

    /// Takes a number.
    pub fn u64(&mut self) -> Result<u64> {
        let Some((head, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.refuse("it ends too early"));
        };
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// Takes a number.
    pub fn f64(&mut self) -> Result<f64> {
        self.u64().map(f64::from_bits)
    }

    /// Takes bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.u64()?;
        match usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n)) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.refuse("it ends too early")),
        }
    }

    /// Refuses what is left over.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.refuse("it goes on after its end"))
        }
    }
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
