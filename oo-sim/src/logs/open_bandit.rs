//! The Open Bandit Dataset: one row an impression of one item at one position.
//!
//! Context: the position and the four hashed user features, each value a feature of its own, in the order of the text.
//! Candidates: the items 0 to K-1 with the user's affinity, one number each. The values are collected in a first pass,
//! so that features do not depend on the order of rows.
//!
//! Saito, Aihara, Matsutani, Narita (2021), arXiv:2008.07146

use super::columns::{Columns, Kind, Values};
use super::plain::spread;
use super::{About, Block, Format, Source, bad_row, block_rows, whole};
use anyhow::{Context, Result, ensure};
use oo_core::{ActionId, Candidates, Method, Round, Shape, UserId};
use oo_judge::estimators::Sizes;
use std::collections::BTreeMap;
use std::path::Path;

/// The row of the table.
pub(super) const FORMAT: Format = Format {
    name: "open-bandit",
    summary: "the Open Bandit Dataset's columns: item_id, position, click, propensity_score, user_feature_0…",
    fits: |look| look.has("item_id") && look.has("click"),
    open: |path| Ok(Box::new(OpenBandit::open(path)?)),
};

/// A column with more different values is an identifier, and no use as a feature.
const MOST_VALUES: usize = 1000;

struct OpenBandit {
    about: About,
    columns: Columns,
    items: usize,
    /// A column's values to positions in the context.
    categories: Vec<Places>,
    ids: Vec<ActionId>,
}

impl OpenBandit {
    fn open(path: &Path) -> Result<Self> {
        let mut columns = Columns::open(path)?;
        let affinity = columns.series("user-item_affinity_")?;
        ensure!(
            !affinity.is_empty(),
            "there is no column `user-item_affinity_0`; expected one an item, since they say how many items there are"
        );
        let item = columns.find(&["item_id"])?;
        let click = columns.find(&["click"])?;
        let propensity = columns.find(&["propensity_score", "action_prob", "pscore"])?;
        let mut described = vec![columns.find(&["position"])?];
        described.extend(columns.series("user_feature_")?);
        let (names, categories) = categories(path, &described)?;
        let items = affinity.len();
        let about = About {
            format: FORMAT.name,
            rows: columns.rows(),
            shape: Some(Shape {
                context: names,
                candidate: vec!["affinity".into()],
                actions: Some(items),
            }),
            target: false,
            model: false,
            behaviour: false,
        };
        let number = |at: usize| (at, Kind::Number);
        let mut wanted = vec![number(item), number(click), number(propensity)];
        wanted.extend(described.into_iter().map(|at| (at, Kind::Text)));
        wanted.extend(affinity.into_iter().map(number));
        columns.select(wanted)?;
        Ok(OpenBandit {
            about,
            columns,
            items,
            categories,
            ids: (0..items as u64).map(ActionId).collect(),
        })
    }
}

/// Where each value of a column stands among the context's features.
type Places = BTreeMap<String, usize>;

/// The names of the context's features, and where each value of each column stands among them.
fn categories(path: &Path, described: &[usize]) -> Result<(Vec<String>, Vec<Places>)> {
    let mut columns = Columns::open(path)?;
    columns.select(described.iter().map(|&at| (at, Kind::Text)).collect())?;
    let mut found = vec![BTreeMap::new(); described.len()];
    while let Some(block) = columns.next(block_rows(described.len()))? {
        for ((values, found), &at) in block.iter().zip(&mut found).zip(described) {
            for value in values.texts() {
                if !found.contains_key(value) {
                    found.insert(value.clone(), 0);
                    ensure!(
                        found.len() <= MOST_VALUES,
                        "column `{}` has more than {MOST_VALUES} different values; expected categories",
                        columns.names()[at]
                    );
                }
            }
        }
    }
    let mut names = Vec::new();
    for (found, &at) in found.iter_mut().zip(described) {
        for (value, place) in found.iter_mut() {
            *place = names.len();
            names.push(format!("{}={value}", columns.names()[at]));
        }
    }
    Ok((names, found))
}

impl Source for OpenBandit {
    fn about(&self) -> &About {
        &self.about
    }

    fn next(&mut self, block: &mut Block) -> Result<bool> {
        let first = self.columns.next_row();
        let Some(values) = self.columns.next(block_rows(8 + 3 * self.items))? else {
            return Ok(false);
        };
        block.clear(first);
        let (given, rest) = values.split_at(3);
        let (described, affinity) = rest.split_at(self.categories.len());
        let affinity: Vec<&[f64]> = affinity.iter().map(Values::numbers).collect();
        let [item, click, propensity] = [0, 1, 2].map(|i| given[i].numbers());
        let mut context = vec![0f32; self.about.shape.as_ref().map_or(0, |s| s.context.len())];
        let mut features = vec![0f32; self.items];
        let mut probs = vec![0.0; self.items];
        block.logged.candidates = Sizes::Fixed(self.items);
        for i in 0..item.len() {
            let row = first + i as u64;
            let chosen = whole(item[i], row, "item_id")?;
            if chosen >= self.items as u64 {
                let expected = format!("an item below {}", self.items);
                return Err(bad_row(row, "item_id", &expected, chosen));
            }
            let p = propensity[i];
            if !(p > 0.0 && p <= 1.0) {
                return Err(bad_row(row, "propensity_score", "a probability in (0, 1]", p));
            }
            if !click[i].is_finite() {
                return Err(bad_row(row, "click", "a finite number", click[i]));
            }
            context.fill(0.0);
            for (values, places) in described.iter().zip(&self.categories) {
                let place = places.get(&values.texts()[i]);
                context[*place.context("the log changed while it was read")?] = 1.0;
            }
            features.iter_mut().zip(&affinity).for_each(|(x, a)| *x = a[i] as f32);
            block.logged.action.push(chosen as u32);
            block.logged.reward.push(click[i]);
            block.logged.propensity.push(p);
            spread(&mut probs, chosen as usize, p);
            let round = Round {
                index: row - 1,
                user: UserId(0),
                context: &context,
                candidates: Candidates {
                    ids: &self.ids,
                    features: &features,
                    dim: 1,
                },
            };
            block.rounds.push_parts(&round, &probs, chosen as usize, Method::Exact);
            block.rounds.settle(i, click[i], None);
        }
        Ok(true)
    }
}
