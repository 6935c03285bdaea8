//! What a saved policy knows, for another one to start from: weighed, or moved to other features.
//!
//! Only sums can be carried (see [`Sums`]): those of ridge regressions with shared or disjoint weights, alone or inside
//! another policy, and those of the hierarchical policy's people. A network, a hybrid model, a window or an average has
//! none; such a state is taken as it is, or refused.

use crate::hierarchical::{self, Hierarchical};
use crate::per_user;
use crate::regress::Sums;
use crate::state::{Header, Reader, Writer, refuse};
use oo_core::{Build, Error, Result};
use safetensors::tensor::Dtype;

/// What reads a state here, in errors.
const OWNER: &str = "a transfer";

/// The state for other people to start from, every row of it counting `trust` times. Sums lose their penalty, which
/// comes from the policy that loads them; of people by name only what they say about people is kept.
///
/// # Errors
/// [`Error::State`] for a state that is damaged or keeps a model for each person by name, and, where `trust` is not 1,
/// for one with a part that cannot be weighed.
pub fn evidence(bytes: &[u8], trust: f64) -> Result<Vec<u8>> {
    let (header, mut from) = Reader::any(OWNER, bytes)?;
    let mut to = Writer::like(&header);
    match header.policy.as_str() {
        per_user::NAME => {
            let why = "it has a model for each person by name, who are not the people here; fit the policy without \
                       +per-user and start each person from that: +warm{from=…}+per-user";
            return Err(refuse(per_user::NAME, why));
        }
        Hierarchical::NAME => {
            let mut start = start(&header, &mut from)?;
            start.weigh(trust);
            start.write(&mut to);
            return Ok(to.finish());
        }
        _ => {}
    }
    for (prefix, &dim) in &header.sums {
        let mut all = Sums::read_all(dim, prefix, &mut from)?;
        all.iter_mut().for_each(|sums| sums.weigh(trust));
        Sums::write_all(&all, prefix, &mut to);
    }
    let mut weighed = !header.sums.is_empty();
    let rest = from.rest();
    for (name, tensor) in &rest {
        if tensor.dtype() == Dtype::U8 {
            to.state(name, evidence(tensor.data(), trust)?);
            weighed = true;
        } else {
            to.copy(name, tensor);
        }
    }
    if trust != 1.0 && !weighed && !rest.is_empty() {
        return Err(unmovable(&header, "weighed; use trust=1"));
    }
    Ok(to.finish())
}

/// The people of a hierarchical state as a start for others.
fn start(header: &Header, from: &mut Reader<'_>) -> Result<hierarchical::start::Start> {
    named(header)?;
    Hierarchical::population_of(header.features.len(), from)?.start_for_others()
}

/// A population's belief about a new person, as the state of another policy: `hierarchical` is the state of the
/// population, `blank` what that policy saves before it has learned anything. Its prior becomes N(μ̂, Σ + C), which says
/// itself how much the first rows may move it; `trust` below 1 lies between that and the policy's own prior.
///
/// # Errors
/// [`Error::State`] for a policy that is no single ridge regression over the population's features.
pub fn person(hierarchical: &[u8], blank: &[u8], trust: f64) -> Result<Vec<u8>> {
    let (population, mut from) = Reader::any(OWNER, hierarchical)?;
    let (own, mut fresh) = Reader::any(OWNER, blank)?;
    named(&population)?;
    let dim = population.features.len();
    let prefix = match own.sums.iter().next() {
        Some((prefix, &d)) if own.sums.len() == 1 && d == dim && own.features == population.features => prefix,
        _ => {
            let why = format!(
                "it is a population over {}; one ridge regression over these features can start from it, with \
                 model=shared; this policy is: {}",
                population.features.join(", "),
                own.layout
            );
            return Err(refuse(&own.policy, why));
        }
    };
    let penalty = fresh.f64s(&format!("{prefix}.penalty"))?;
    let [penalty] = penalty[..] else {
        return Err(refuse(
            &own.policy,
            "it has a model an action, a population has none: use model=shared",
        ));
    };
    let mut sums = Hierarchical::population_of(dim, &mut from)?.stranger()?;
    // Whoever loads sums adds a penalty, which is no part of this prior.
    sums.gram.add_diagonal(-penalty);
    sums.weigh(trust);
    let mut to = Writer::like(&own);
    Sums::write_all(&[sums], prefix, &mut to);
    for (name, tensor) in &fresh.rest() {
        if !name.starts_with(&format!("{prefix}.")) {
            to.copy(name, tensor);
        }
    }
    Ok(to.finish())
}

fn named(header: &Header) -> Result<()> {
    if !header.features.is_empty() {
        return Ok(());
    }
    let why = "it does not say which features it reads: it reads none, or an older program saved it (then load it and \
               save it again)";
    Err(refuse(&header.policy, why))
}

fn unmovable(header: &Header, what: &str) -> Error {
    let why = format!(
        "it cannot be {what}. Only sums of ridge regressions can (model=shared or disjoint, without window, and \
         fourier=0 where features change) and a hierarchical population; this is: {}",
        header.layout
    );
    refuse(&header.policy, why)
}

/// What became of each feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Their sums were kept.
    pub kept: Vec<String>,
    /// Their sums are gone: the new policy does not read them.
    pub dropped: Vec<String>,
    /// Their sums are gone though the new policy reads them: they were named as having another meaning now.
    pub renewed: Vec<String>,
    /// They start from the prior.
    pub new: Vec<String>,
}

impl Moved {
    /// Compares feature lists. `renew` names features of both that mean something else now.
    fn new(before: &[String], after: &[String], renew: &[String]) -> Result<Moved> {
        for name in renew {
            if !before.contains(name) || !after.contains(name) {
                return Err(Error::Unknown {
                    kind: "feature in both specs".into(),
                    name: name.clone(),
                    known: before.iter().filter(|f| after.contains(f)).cloned().collect(),
                });
            }
        }
        let pick = |of: &[String], keep: &dyn Fn(&String) -> bool| of.iter().filter(|f| keep(f)).cloned().collect();
        Ok(Moved {
            kept: pick(after, &|f| before.contains(f) && !renew.contains(f)),
            dropped: pick(before, &|f| !after.contains(f)),
            renewed: pick(after, &|f| renew.contains(f)),
            new: pick(after, &|f| !before.contains(f)),
        })
    }

    /// For every feature after, its place before, where its sums are kept.
    fn places(&self, before: &[String], after: &[String]) -> Vec<Option<usize>> {
        let place = |f: &String| before.iter().position(|b| b == f && self.kept.contains(f));
        after.iter().map(place).collect()
    }
}

/// The state over the features of another policy: `blank` is what that policy saves before it has learned anything.
/// What both read by name keeps its sums, exactly as if only that had ever been learned; what is new starts from the
/// prior, as a feature that was 0 in every row so far. `renew` names features that both read and that mean something
/// else now, so that they start anew.
///
/// # Errors
/// [`Error::State`] for another policy or model, for a state that keeps no sums or does not name its features, and
/// where nothing would change or nothing would be kept; [`Error::Unknown`] for a name in `renew` that is not in both.
pub fn migrated(bytes: &[u8], blank: &[u8], renew: &[String]) -> Result<(Vec<u8>, Moved)> {
    let mut moved = None;
    let new = onto(bytes, blank, renew, &mut moved)?;
    match moved {
        Some(moved) => Ok((new, moved)),
        None => Err(unmovable(&Reader::any(OWNER, bytes)?.0, "moved to other features")),
    }
}

fn onto(bytes: &[u8], blank: &[u8], renew: &[String], moved: &mut Option<Moved>) -> Result<Vec<u8>> {
    let (before, mut from) = Reader::any(OWNER, bytes)?;
    let (after, mut fresh) = Reader::any(OWNER, blank)?;
    let policy = after.policy.as_str();
    if before.policy != policy {
        return Err(refuse(policy, format!("it was saved by `{}`", before.policy)));
    }
    if policy == per_user::NAME {
        let why = "people are moved one model at a time; migrate the state of the policy without +per-user";
        return Err(refuse(policy, why));
    }
    if without_features(&before.layout) != without_features(&after.layout) {
        let why = format!(
            "it was saved for {}, expected {}; only the features may differ",
            before.layout, after.layout
        );
        return Err(refuse(policy, why));
    }
    let mut to = Writer::like(&after);
    let (old, new) = (&before.features, &after.features);
    let mut places = Vec::new();
    if !new.is_empty() {
        named(&before)?;
        for names in [old, new] {
            if let Some(twice) = names.iter().find(|n| names.iter().filter(|m| m == n).count() > 1) {
                return Err(refuse(policy, format!("two of its features are called `{twice}`")));
            }
        }
        let own = Moved::new(old, new, renew)?;
        if own.kept.is_empty() {
            let lists = format!("it reads {}, expected some of {}", old.join(", "), new.join(", "));
            return Err(refuse(policy, format!("no feature is in both: {lists}")));
        }
        if old == new && renew.is_empty() {
            return Err(refuse(policy, "it reads these very features; load it as it is"));
        }
        places = own.places(old, new);
        if policy != Hierarchical::NAME && (before.sums.is_empty() || before.sums.values().any(|&dim| dim != old.len()))
        {
            return Err(unmovable(&before, "moved to other features"));
        }
        moved.get_or_insert(own);
    }
    if policy == Hierarchical::NAME {
        let spread = fresh.f64s("spread")?;
        let spread = *spread.first().ok_or_else(|| refuse(policy, "it has no spread"))?;
        start(&before, &mut from)?.onto(&places, spread).write(&mut to);
        return Ok(to.finish());
    }
    for (prefix, &dim) in &before.sums {
        let all = Sums::read_all(dim, prefix, &mut from)?;
        let all: Vec<Sums> = match new.is_empty() {
            true => all,
            false => all.iter().map(|sums| sums.onto(&places)).collect(),
        };
        Sums::write_all(&all, prefix, &mut to);
    }
    for (name, tensor) in &from.rest() {
        if tensor.dtype() == Dtype::U8 {
            to.state(name, onto(tensor.data(), fresh.state(name)?, renew, moved)?);
        } else {
            to.copy(name, tensor);
        }
    }
    Ok(to.finish())
}

/// A layout without "7 features (spec …)", wherever it says so.
fn without_features(layout: &str) -> String {
    let mut parts = layout.split(" features (spec ");
    let mut out = String::from(parts.next().unwrap_or_default());
    for part in parts {
        out.truncate(out.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        out.push_str("features");
        out.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    out
}
