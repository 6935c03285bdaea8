//! Saved policies: one format for all of them, readable by every tool that reads safetensors.
//!
//! A state is a safetensors file. Its metadata has one entry, `oo`, a JSON text with the policy's name, the version of
//! its layout, the layout itself (whatever must agree: sizes, names of features) and a digest over all of it and every
//! tensor. A file that is damaged, foreign, of another layout or of a version that is not known is refused, and the
//! message says which. Bytes depend on nothing but the state: tensors are ordered by name.
//!
//! Where a policy reads features, the entry also names them, and it says which tensors are sums of a ridge regression
//! over them: what [`transfer`](crate::transfer) can weigh and move. Files from before that have neither; they load,
//! and saving them again adds both.

use oo_core::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The key of our one entry in the file's metadata.
const ENTRY: &str = "oo";

/// What a state says about itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The policy's name in the registry.
    pub policy: String,
    /// The version of the policy's layout.
    pub version: u32,
    /// Everything that must agree with the policy that loads: sizes, models, names of features.
    pub layout: String,
    /// The names of the features that the policy reads, in the order of its row; empty where it reads none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Prefixes of tensors that are the sums of ridge regressions, with the length of their row.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sums: BTreeMap<String, usize>,
    /// FNV-1a over the header's other fields and every tensor.
    digest: String,
}

/// Collects a policy's state.
#[derive(Debug)]
pub struct Writer {
    header: Header,
    tensors: BTreeMap<String, (Dtype, Vec<u8>)>,
}

impl Writer {
    /// Starts the state of `policy` in version 1 of its layout.
    pub fn new(policy: &str, layout: impl Into<String>) -> Self {
        Writer {
            header: Header {
                policy: policy.into(),
                version: 1,
                layout: layout.into(),
                features: Vec::new(),
                sums: BTreeMap::new(),
                digest: String::new(),
            },
            tensors: BTreeMap::new(),
        }
    }

    /// Starts a state that says the same about itself as another one.
    pub fn like(header: &Header) -> Self {
        Writer {
            header: header.clone(),
            tensors: BTreeMap::new(),
        }
    }

    /// Names the features that the policy reads, in the order of its row.
    pub fn features(&mut self, names: &[String]) {
        self.header.features = names.to_vec();
    }

    /// Says that the tensors under `prefix` are the sums of ridge regressions over rows of `dim` numbers.
    pub fn sums(&mut self, prefix: &str, dim: usize) {
        self.header.sums.insert(prefix.into(), dim);
    }

    /// A tensor as another state has it.
    pub fn copy(&mut self, name: &str, tensor: &TensorView<'_>) {
        let before = self
            .tensors
            .insert(name.into(), (tensor.dtype(), tensor.data().to_vec()));
        debug_assert!(before.is_none(), "`{name}` is saved twice");
    }

    fn put<const N: usize>(&mut self, name: &str, dtype: Dtype, values: impl IntoIterator<Item = [u8; N]>) {
        self.put_bytes(name, dtype, values.into_iter().flatten().collect());
    }

    fn put_bytes(&mut self, name: &str, dtype: Dtype, bytes: Vec<u8>) {
        let before = self.tensors.insert(name.into(), (dtype, bytes));
        debug_assert!(before.is_none(), "`{name}` is saved twice");
    }

    /// A vector of numbers.
    pub fn f64s<'v>(&mut self, name: &str, values: impl IntoIterator<Item = &'v f64>) {
        self.put(name, Dtype::F64, values.into_iter().map(|v| v.to_le_bytes()));
    }

    /// A vector of numbers.
    pub fn f32s<'v>(&mut self, name: &str, values: impl IntoIterator<Item = &'v f32>) {
        self.put(name, Dtype::F32, values.into_iter().map(|v| v.to_le_bytes()));
    }

    /// A vector of counts or identities.
    pub fn u64s(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        self.put(name, Dtype::U64, values.into_iter().map(u64::to_le_bytes));
    }

    /// Bytes, such as the state of another policy inside this one.
    pub fn state(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.put_bytes(name, Dtype::U8, bytes.into());
    }

    /// The finished state.
    pub fn finish(self) -> Vec<u8> {
        let Writer { mut header, tensors } = self;
        header.digest = digest(&header, tensors.iter().map(|(n, (_, b))| (n.as_str(), &b[..])));
        let text = serde_json::to_string(&header).expect("a header of texts and a number is always JSON");
        let views = tensors.iter().map(|(name, (dtype, bytes))| {
            let view = TensorView::new(*dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes);
            (name, view.expect("the length is a multiple of the element's"))
        });
        // One entry, so that the order of a hash map has no say in the bytes.
        let metadata = HashMap::from([(ENTRY.to_string(), text)]);
        safetensors::serialize(views, Some(metadata)).expect("names and shapes are consistent")
    }
}

/// Reads what a state says about itself, without loading it.
///
/// # Errors
/// [`Error::State`] for a file that is no saved policy or is damaged.
pub fn header(bytes: &[u8]) -> Result<Header> {
    open("a policy", bytes).map(|(header, _)| header)
}

pub(crate) fn refuse(policy: &str, why: impl Into<String>) -> Error {
    Error::State {
        policy: policy.into(),
        why: why.into(),
    }
}

fn open<'a>(policy: &str, bytes: &'a [u8]) -> Result<(Header, BTreeMap<String, TensorView<'a>>)> {
    if bytes.starts_with(b"oOp1") {
        return Err(refuse(
            policy,
            "it was saved in the format before safetensors; train it again",
        ));
    }
    let foreign = || refuse(policy, "it is not a saved policy, or it is damaged");
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|_| foreign())?;
    let text = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(ENTRY))
        .ok_or_else(foreign)?;
    let header: Header = serde_json::from_str(text).map_err(|_| foreign())?;
    let file = SafeTensors::deserialize(bytes).map_err(|_| foreign())?;
    let tensors: BTreeMap<String, TensorView<'a>> = file.tensors().into_iter().collect();
    if digest(&header, tensors.iter().map(|(n, t)| (n.as_str(), t.data()))) != header.digest {
        return Err(refuse(policy, "it is damaged (its digest differs)"));
    }
    if header.version != 1 {
        let why = format!(
            "its layout has version {}; this program knows version 1",
            header.version
        );
        return Err(refuse(policy, why));
    }
    Ok((header, tensors))
}

/// Reads a policy's state.
#[derive(Debug)]
pub struct Reader<'a> {
    policy: &'a str,
    tensors: BTreeMap<String, TensorView<'a>>,
}

impl<'a> Reader<'a> {
    /// For whatever the state says that it is; its digest and version are checked, its layout is not. `asks` is named
    /// in errors.
    ///
    /// # Errors
    /// As [`header`].
    pub fn any(asks: &'a str, bytes: &'a [u8]) -> Result<(Header, Self)> {
        let (header, tensors) = open(asks, bytes)?;
        Ok((header, Reader { policy: asks, tensors }))
    }

    /// True when the state holds this tensor and nobody has read it yet.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What nobody has read, by name.
    pub fn rest(self) -> BTreeMap<String, TensorView<'a>> {
        self.tensors
    }

    /// Checks digest, name, version and layout.
    ///
    /// # Errors
    /// [`Error::State`] says what is wrong with the file, or how it differs from what `policy` expects.
    pub fn new(policy: &'a str, layout: &str, bytes: &'a [u8]) -> Result<Self> {
        let (header, tensors) = open(policy, bytes)?;
        if header.policy != policy {
            return Err(refuse(policy, format!("it was saved by `{}`", header.policy)));
        }
        if header.layout != layout {
            let why = format!("it was saved for {}; expected {layout}", header.layout);
            return Err(refuse(policy, why));
        }
        Ok(Reader { policy, tensors })
    }

    /// An error about the contents.
    pub fn refuse(&self, why: impl Into<String>) -> Error {
        refuse(self.policy, why)
    }

    fn take(&mut self, name: &str, dtype: Dtype) -> Result<&'a [u8]> {
        match self.tensors.remove(name) {
            Some(tensor) if tensor.dtype() == dtype => Ok(tensor.data()),
            Some(tensor) => Err(self.refuse(format!("`{name}` holds {:?}, expected {dtype:?}", tensor.dtype()))),
            None => Err(self.refuse(format!("it holds no `{name}`"))),
        }
    }

    fn numbers<T, const N: usize>(&mut self, name: &str, dtype: Dtype, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let (chunks, _) = self.take(name, dtype)?.as_chunks::<N>();
        Ok(chunks.iter().map(|&c| from(c)).collect())
    }

    /// A vector of numbers.
    ///
    /// # Errors
    /// A vector that is missing or of another type; likewise below.
    pub fn f64s(&mut self, name: &str) -> Result<Vec<f64>> {
        self.numbers(name, Dtype::F64, f64::from_le_bytes)
    }

    /// A vector of numbers.
    pub fn f32s(&mut self, name: &str) -> Result<Vec<f32>> {
        self.numbers(name, Dtype::F32, f32::from_le_bytes)
    }

    /// A vector of counts or identities.
    pub fn u64s(&mut self, name: &str) -> Result<Vec<u64>> {
        self.numbers(name, Dtype::U64, u64::from_le_bytes)
    }

    /// Bytes, such as the state of another policy inside this one.
    pub fn state(&mut self, name: &str) -> Result<&'a [u8]> {
        self.take(name, Dtype::U8)
    }

    /// Fills `to` from a vector of exactly its length.
    pub fn fill(&mut self, name: &str, to: &mut [f64]) -> Result<()> {
        let values = self.f64s(name)?;
        if values.len() != to.len() {
            return Err(self.refuse(format!(
                "`{name}` holds {} numbers, expected {}",
                values.len(),
                to.len()
            )));
        }
        to.copy_from_slice(&values);
        Ok(())
    }

    /// Exactly `N` numbers.
    pub fn few<const N: usize>(&mut self, name: &str) -> Result<[f64; N]> {
        let mut out = [0.0; N];
        self.fill(name, &mut out)?;
        Ok(out)
    }

    /// Exactly one count.
    pub fn count(&mut self, name: &str) -> Result<u64> {
        match self.u64s(name)?[..] {
            [count] => Ok(count),
            ref more => Err(self.refuse(format!("`{name}` holds {} numbers, expected 1", more.len()))),
        }
    }

    /// Refuses what is left over.
    ///
    /// # Errors
    /// Names the first tensor that nobody asked for.
    pub fn finish(self) -> Result<()> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => Err(refuse(
                self.policy,
                format!("it also holds `{name}`, which nothing reads"),
            )),
        }
    }
}

/// FNV-1a, 64 bits, in hex. Lengths are part of it, so that nothing can move from one field to the next.
fn digest<'t>(header: &Header, tensors: impl Iterator<Item = (&'t str, &'t [u8])>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        for &b in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    take(header.policy.as_bytes());
    take(&header.version.to_le_bytes());
    take(header.layout.as_bytes());
    // What older files lack leaves their digest as it was.
    header.features.iter().for_each(|f| take(f.as_bytes()));
    for (prefix, dim) in &header.sums {
        take(prefix.as_bytes());
        take(&(*dim as u64).to_le_bytes());
    }
    for (name, data) in tensors {
        take(name.as_bytes());
        take(data);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let mut w = Writer::new("x", "d=2");
        w.f64s("b", &[1.0, -0.5]);
        w.u64s("a", [7]);
        w.f32s("c", &[0.25]);
        w.state("inner", *b"abc");
        w.features(&["hour".into(), "age".into()]);
        w.sums("arms", 2);
        w.finish()
    }

    #[test]
    fn says_what_it_reads() {
        let header = header(&example()).unwrap();
        assert_eq!(header.features, ["hour", "age"]);
        assert_eq!(header.sums, BTreeMap::from([("arms".to_string(), 2)]));
    }

    /// A state of the program before features were named, byte for byte.
    #[test]
    fn files_from_before_load() {
        let mut w = Writer::new("x", "d=2");
        w.f64s("b", &[1.0, -0.5]);
        let bytes = w.finish();
        let text = r#""{\"policy\":\"x\",\"version\":1,\"layout\":\"d=2\",\"digest\":\"27ee62ad6c2e49ba\"}""#;
        assert!(
            String::from_utf8_lossy(&bytes).contains(text),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(
            Reader::new("x", "d=2", &bytes).unwrap().few::<2>("b").unwrap(),
            [1.0, -0.5]
        );
    }

    #[test]
    fn comes_back_whole() {
        let bytes = example();
        assert_eq!(bytes, example());
        let mut r = Reader::new("x", "d=2", &bytes).unwrap();
        assert_eq!(r.few::<2>("b").unwrap(), [1.0, -0.5]);
        assert_eq!((r.u64s("a").unwrap(), r.f32s("c").unwrap()), (vec![7], vec![0.25]));
        assert_eq!(r.state("inner").unwrap(), b"abc");
        r.finish().unwrap();
    }

    #[test]
    fn says_why_it_refuses() {
        let bytes = example();
        let why = |policy, layout, bytes: &[u8]| Reader::new(policy, layout, bytes).unwrap_err().to_string();
        assert!(why("y", "d=2", &bytes).contains("saved by `x`"));
        assert!(why("x", "d=3", &bytes).contains("saved for d=2; expected d=3"));
        assert!(why("x", "d=2", b"oOp1....").contains("train it again"));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            // Spaces that pad the header are the only bytes without meaning.
            assert!(
                Reader::new("x", "d=2", &flipped).is_err() || bytes[at] == b' ',
                "byte {at} can be damaged unseen"
            );
        }
        let mut r = Reader::new("x", "d=2", &bytes).unwrap();
        assert!(r.f64s("a").unwrap_err().to_string().contains("holds U64"));
        assert!(r.f64s("z").unwrap_err().to_string().contains("no `z`"));
        assert!(r.finish().unwrap_err().to_string().contains("nothing reads"));
    }
}
