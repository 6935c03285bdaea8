//! Vowpal Wabbit's decision-service JSON: one JSON object a line, an event each.
//!
//! Read are `_label_cost` (reward = −cost), `_label_probability`, `_labelIndex` or `_label_Action`, `a` (the actions
//! ranked, from 1), `p` (their probabilities in the same order) and `c`, the shared namespaces with one entry a
//! candidate in `_multi`; instead of the first three, `_label` as an object with Action, Cost and Probability or as
//! text `action:cost:probability`. Lines that are no decision (dangling observations) and events marked `_skipLearn`
//! are passed over. A number is a feature `namespace|name`, a text the feature `namespace|name=text` of value 1. The
//! names are collected in a first pass. The identity of an action is its position in `_multi`.

use super::plain::spread;
use super::{About, Block, Format, Source, bad_row, block_rows, text};
use anyhow::{Context, Result, anyhow, bail, ensure};
use oo_core::{ActionId, Candidates, Method, Round, Shape, UserId};
use oo_judge::estimators::Sizes;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

/// The row of the table.
pub(super) const FORMAT: Format = Format {
    name: "dsjson",
    summary: "Vowpal Wabbit's dsjson, plain or gz: one event a line with _label_cost, _label_probability, a, p, c",
    fits: |look| look.json,
    open: |path| Ok(Box::new(DsJson::open(path)?)),
};

/// Rows are dense: more names than this are identifiers, or a log for a sparse learner.
const MOST_NAMES: usize = 4096;

/// Probabilities are written in single precision.
const SINGLE: f64 = 1e-5;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "_label_cost", alias = "_label_Cost")]
    cost: Option<f64>,
    #[serde(rename = "_label_probability", alias = "_label_Probability")]
    probability: Option<f64>,
    #[serde(rename = "_labelIndex")]
    index: Option<i64>,
    #[serde(rename = "_label_Action", alias = "_label_action", alias = "_labelAction")]
    action: Option<u64>,
    #[serde(rename = "_label")]
    label: Option<Value>,
    #[serde(rename = "_skipLearn", default)]
    skip: bool,
    pdrop: Option<f64>,
    #[serde(default)]
    a: Vec<u64>,
    #[serde(default)]
    p: Vec<f64>,
    c: Option<Map<String, Value>>,
}

/// An event whose every part is known.
struct Decision {
    chosen: usize,
    reward: f64,
    propensity: f64,
    /// Probability a candidate, in the order of `_multi`; empty where the event does not say.
    probs: Vec<f64>,
    shared: Map<String, Value>,
    multi: Vec<Value>,
}

struct Lines {
    input: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    row: u64,
    pdrop: Option<f64>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        Ok(Lines {
            input: text::open(path)?,
            buffer: Vec::new(),
            row: 0,
            pdrop: None,
        })
    }

    /// The next decision; rows are lines.
    fn next(&mut self) -> Result<Option<Decision>> {
        loop {
            self.buffer.clear();
            self.row += 1;
            let row = self.row;
            let got = self.input.read_until(b'\n', &mut self.buffer);
            let got = got.with_context(|| format!("row {row}: the file cannot be read on"))?;
            if got == 0 {
                return Ok(None);
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let event: Event = serde_json::from_slice(&self.buffer)
                .map_err(|e| anyhow!("row {row}: expected a JSON object of dsjson, got something else: {e}"))?;
            if let Some(decision) = self.decision(event)? {
                return Ok(Some(decision));
            }
        }
    }

    fn decision(&mut self, mut event: Event) -> Result<Option<Decision>> {
        let row = self.row;
        let Some(mut shared) = event.c.take().filter(|_| !event.skip) else {
            return Ok(None);
        };
        // A constant share of dropped events cancels out of every mean; one that varies would have to be weighed.
        let pdrop = event.pdrop.unwrap_or(0.0);
        let first = *self.pdrop.get_or_insert(pdrop);
        if pdrop != first {
            return Err(bad_row(
                row,
                "pdrop",
                &format!("the same in every row ({first})"),
                pdrop,
            ));
        }
        let Some(Value::Array(multi)) = shared.remove("_multi") else {
            return Err(bad_row(row, "c._multi", "an array with one entry a candidate", "none"));
        };
        if let Some(label) = event.label.take() {
            read_label(&mut event, &label).with_context(|| format!("row {row}, column `_label`"))?;
        }
        let n = multi.len();
        let cost = event
            .cost
            .with_context(|| format!("row {row}, column `_label_cost`: expected a number, got nothing"))?;
        let from_index = event.index.and_then(|i| usize::try_from(i).ok());
        let from_action = event.action.and_then(|a| usize::try_from(a).ok()?.checked_sub(1));
        if let (Some(i), Some(a)) = (from_index, from_action)
            && i != a
        {
            let expected = format!("{}, one more than `_labelIndex`", i + 1);
            return Err(bad_row(row, "_label_Action", &expected, a + 1));
        }
        let ranked_first = event.a.first().and_then(|&a| usize::try_from(a).ok()?.checked_sub(1));
        let chosen = from_index.or(from_action).or(ranked_first);
        let chosen = chosen.with_context(|| {
            format!("row {row}, column `_labelIndex`: expected the chosen candidate (or `_label_Action`, or `a`), got nothing")
        })?;
        if chosen >= n {
            let expected = format!("one of the {n} candidates");
            return Err(bad_row(row, "_labelIndex", &expected, format!("number {}", chosen + 1)));
        }
        let probs = behaviour(&event, n, row)?;
        let propensity = event.probability.or(probs.get(chosen).copied());
        let propensity = propensity.with_context(|| {
            format!("row {row}, column `_label_probability`: expected a probability in (0, 1], got nothing")
        })?;
        if !(propensity > 0.0 && propensity <= 1.0 + SINGLE) {
            return Err(bad_row(
                row,
                "_label_probability",
                "a probability in (0, 1]",
                propensity,
            ));
        }
        if let Some(&p) = probs.get(chosen)
            && (p - propensity).abs() > SINGLE
        {
            return Err(bad_row(
                row,
                "_label_probability",
                &format!("{p}, as in `p`"),
                propensity,
            ));
        }
        Ok(Some(Decision {
            chosen,
            reward: -cost,
            propensity: propensity.min(1.0),
            probs,
            shared,
            multi,
        }))
    }
}

/// `_label` as an object or as text.
fn read_label(event: &mut Event, label: &Value) -> Result<()> {
    match label {
        Value::Object(parts) => {
            let number = |name: &str| {
                let lower = name.to_lowercase();
                parts.get(name).or_else(|| parts.get(&lower)).and_then(Value::as_f64)
            };
            let whole = number("Action").filter(|a| *a >= 1.0 && a.fract() == 0.0);
            event.action = event.action.or(whole.map(|a| a as u64));
            event.cost = event.cost.or(number("Cost"));
            event.probability = event.probability.or(number("Probability"));
        }
        Value::String(text) => {
            let parts: Vec<&str> = text.split(':').collect();
            let [action, cost, probability] = parts[..] else {
                bail!("expected action:cost:probability, got `{text}`");
            };
            let parsed = (action.parse(), cost.parse(), probability.parse());
            let (Ok(action), Ok(cost), Ok(probability)) = parsed else {
                bail!("expected action:cost:probability, got `{text}`");
            };
            (event.action, event.cost, event.probability) = (Some(action), Some(cost), Some(probability));
        }
        other => bail!("expected an object or action:cost:probability, got {other}"),
    }
    Ok(())
}

/// The probabilities of `p` in the order of `_multi`; none where the event has none.
fn behaviour(event: &Event, n: usize, row: u64) -> Result<Vec<f64>> {
    if event.p.is_empty() {
        return Ok(Vec::new());
    }
    let ranked = event.a.iter().map(|&a| usize::try_from(a).unwrap_or(usize::MAX));
    // Without a ranking, the probabilities stand in the order of the candidates.
    let ranked: Vec<usize> = if event.a.is_empty() {
        (1..=n).collect()
    } else {
        ranked.collect()
    };
    let mut probs = vec![f64::NAN; n];
    for (&action, &p) in ranked.iter().zip(&event.p) {
        let Some(slot) = action
            .checked_sub(1)
            .and_then(|i| probs.get_mut(i))
            .filter(|p| p.is_nan())
        else {
            return Err(bad_row(
                row,
                "a",
                &format!("each of 1 to {n} once"),
                format!("{:?}", event.a),
            ));
        };
        *slot = p;
    }
    if ranked.len() != n || event.p.len() != n {
        let expected = format!("as many as there are candidates ({n})");
        return Err(bad_row(row, "p", &expected, event.p.len()));
    }
    let sum: f64 = probs.iter().sum();
    if !(probs.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() <= SINGLE * n as f64) {
        return Err(bad_row(
            row,
            "p",
            "probabilities that sum to 1, none below 0",
            format!("{sum}"),
        ));
    }
    probs.iter_mut().for_each(|p| *p /= sum);
    Ok(probs)
}

/// Calls `feature` with every feature below `value`.
fn features(prefix: &str, value: &Value, feature: &mut dyn FnMut(&str, f64)) {
    match value {
        Value::Null => {}
        Value::Bool(on) => {
            if *on {
                feature(prefix, 1.0);
            }
        }
        Value::Number(x) => feature(prefix, x.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => feature(&format!("{prefix}={text}"), 1.0),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                match item {
                    Value::Object(_) => features(prefix, item, feature),
                    _ => features(&format!("{prefix}[{i}]"), item, feature),
                }
            }
        }
        Value::Object(parts) => {
            // Names that begin with an underscore are Vowpal Wabbit's own: tags, slots.
            for (name, value) in parts.iter().filter(|(name, _)| !name.starts_with('_')) {
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}|{name}")
                };
                features(&path, value, feature);
            }
        }
    }
}

fn shared_features(shared: &Map<String, Value>, feature: &mut dyn FnMut(&str, f64)) {
    for (name, value) in shared.iter().filter(|(name, _)| !name.starts_with('_')) {
        features(name, value, feature);
    }
}

struct DsJson {
    about: About,
    lines: Lines,
    context: BTreeMap<String, usize>,
    candidate: BTreeMap<String, usize>,
    most: usize,
}

impl DsJson {
    fn open(path: &Path) -> Result<Self> {
        let mut lines = Lines::open(path)?;
        let (mut context, mut candidate) = (BTreeMap::new(), BTreeMap::new());
        let (mut rows, mut sizes, mut behaviour) = (0u64, Vec::new(), true);
        while let Some(event) = lines.next()? {
            rows += 1;
            shared_features(&event.shared, &mut |name, _| insert(&mut context, name));
            for item in &event.multi {
                features("", item, &mut |name, _| insert(&mut candidate, name));
            }
            ensure!(
                context.len().max(candidate.len()) <= MOST_NAMES,
                "row {}: more than {MOST_NAMES} different features so far; leave identifiers and free text out of `c`",
                lines.row
            );
            if !sizes.contains(&event.multi.len()) && sizes.len() < 2 {
                sizes.push(event.multi.len());
            }
            behaviour &= !event.probs.is_empty();
        }
        for names in [&mut context, &mut candidate] {
            names.values_mut().enumerate().for_each(|(i, place)| *place = i);
        }
        let about = About {
            format: FORMAT.name,
            rows: Some(rows),
            shape: Some(Shape {
                context: context.keys().cloned().collect(),
                candidate: candidate.keys().cloned().collect(),
                actions: (sizes.len() == 1).then(|| sizes[0]),
            }),
            target: false,
            model: false,
            behaviour,
        };
        let width = context.len() + sizes.first().copied().unwrap_or(1) * (candidate.len() + 3);
        Ok(DsJson {
            about,
            lines: Lines::open(path)?,
            context,
            candidate,
            most: block_rows(width),
        })
    }
}

fn insert(names: &mut BTreeMap<String, usize>, name: &str) {
    if !names.contains_key(name) {
        names.insert(name.into(), 0);
    }
}

impl Source for DsJson {
    fn about(&self) -> &About {
        &self.about
    }

    fn next(&mut self, block: &mut Block) -> Result<bool> {
        block.clear(self.lines.row + 1);
        let mut ends = Vec::new();
        let (mut context, mut described) = (Vec::new(), Vec::new());
        let (mut ids, mut probs) = (Vec::new(), Vec::new());
        let dim = self.candidate.len();
        while ends.len() < self.most {
            let Some(event) = self.lines.next()? else { break };
            let n = event.multi.len();
            context.clear();
            context.resize(self.context.len(), 0f32);
            shared_features(&event.shared, &mut |name, x| add(&self.context, name, x, &mut context));
            described.clear();
            described.resize(n * dim, 0f32);
            for (i, item) in event.multi.iter().enumerate() {
                let row = &mut described[i * dim..(i + 1) * dim];
                features("", item, &mut |name, x| add(&self.candidate, name, x, row));
            }
            ids.clear();
            ids.extend((0..n as u64).map(ActionId));
            probs.clone_from(&event.probs);
            if probs.is_empty() {
                probs.resize(n, 0.0);
                spread(&mut probs, event.chosen, event.propensity);
            }
            let round = Round {
                index: self.lines.row - 1,
                user: UserId(0),
                context: &context,
                candidates: Candidates {
                    ids: &ids,
                    features: &described,
                    dim,
                },
            };
            let row = block.rounds.push_parts(&round, &probs, event.chosen, Method::Exact);
            block.rounds.settle(row, event.reward, None);
            block.logged.action.push(event.chosen as u32);
            block.logged.reward.push(event.reward);
            block.logged.propensity.push(event.propensity);
            ends.push(ends.last().copied().unwrap_or(0) + n);
        }
        let any = !ends.is_empty();
        block.logged.candidates = match self.about.shape.as_ref().and_then(|s| s.actions) {
            Some(fixed) => Sizes::Fixed(fixed),
            None => Sizes::Ends(ends),
        };
        Ok(any)
    }
}

fn add(names: &BTreeMap<String, usize>, name: &str, x: f64, row: &mut [f32]) {
    if let Some(&place) = names.get(name) {
        row[place] += x as f32;
    }
}
