//! A share of an experiment's cells, for one of several machines, and the shares put together.
//!
//! Shard i of n takes every n-th cell from the i-th on, in the order of environments, policies, seeds. So each has as
//! many cells as any other, one more or less, and the seeds of a slow policy are spread over all of them. A shard's
//! folder is that of a run with only some of its cells: whichever cells are there, whoever made them, count.

use crate::commands::report::planned;
use crate::experiment::{Experiment, Plan};
use crate::folder::Location;
use crate::runner::{Cell, cells};
use crate::store::{CellInfo, Identity, Store};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// So many missing cells are named, and so many commands; the rest are counted.
const NAMED: usize = 10;

/// One share of several: `2/4`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Which, from 1 on.
    number: usize,
    /// Of how many.
    of: usize,
}

impl Shard {
    /// Whether it has the cell at this position, from 0 on.
    pub fn takes(&self, position: usize) -> bool {
        position % self.of == self.number - 1
    }

    /// Its cells of a plan.
    pub fn cells<'a>(&self, plan: &'a Plan) -> Vec<Cell<'a>> {
        let all = cells(plan).into_iter().enumerate();
        all.filter(|(i, _)| self.takes(*i)).map(|(_, cell)| cell).collect()
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => bail!("expected I/N with I from 1 to N, such as 2/4, got `{text}`"),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Checks that an experiment can be shared out.
///
/// # Errors
/// One whose number of seeds is open.
pub fn check(experiment: &Experiment) -> Result<()> {
    ensure!(
        experiment.max_seeds.is_none(),
        "--shard cannot go with --until-decided: whether more seeds are needed depends on the cells of all shards \
         together; share out a fixed number of --seeds, merge, and go on from the merged run with `oo-sim compare \
         RUN/experiment.toml --until-decided --out RUN`, which keeps its cells"
    );
    Ok(())
}

/// Writes the experiment into a folder that several shards may share, and refuses one with another experiment.
///
/// # Errors
/// Another experiment, with what differs; a folder that cannot be read or written.
pub fn claim(plan: &Plan, store: &Store) -> Result<()> {
    let text = plan.experiment.to_toml()?;
    let place = || format!("cannot write {}", store.root().join("experiment.toml"));
    if !store
        .folder()
        .create("experiment.toml", text.as_bytes())
        .with_context(place)?
    {
        let (there, _) = planned(store)?;
        same(&there.experiment, &plan.experiment).with_context(|| {
            format!(
                "{} holds another experiment; choose another folder with --out",
                store.root()
            )
        })?;
    }
    Ok(())
}

/// Checks that two experiments agree in every key.
fn same(there: &Experiment, here: &Experiment) -> Result<()> {
    let (there, here) = (serde_json::to_value(there)?, serde_json::to_value(here)?);
    let none = serde_json::Map::new();
    let (there, here) = (there.as_object().unwrap_or(&none), here.as_object().unwrap_or(&none));
    let say = |value: Option<&serde_json::Value>| value.map_or_else(|| "not set".into(), ToString::to_string);
    for key in there.keys().chain(here.keys()) {
        let (a, b) = (there.get(key), here.get(key));
        ensure!(a == b, "`{key}` is {} there and {} here", say(a), say(b));
    }
    Ok(())
}

/// The cells that the store does not hold, a line each: the shard that is this cell alone, the name of its files,
/// environment, policy, seed, with tabs between them.
///
/// # Errors
/// A place that cannot be reached.
pub fn list(plan: &Plan, store: &Store) -> Result<String> {
    let all = cells(plan);
    let mut lines = String::new();
    for (i, &cell) in all.iter().enumerate() {
        if !store.is_finished(plan, cell)? {
            let shard = Shard {
                number: i + 1,
                of: all.len(),
            };
            let name = Identity::of(plan, cell).name()?;
            let (env, policy) = (&cell.env.name, &cell.policy.name);
            lines += &format!("{shard}\t{name}\t{env}\t{policy}\t{}\n", cell.seed);
        }
    }
    Ok(lines)
}

/// Shards that make a whole run.
pub struct Shards {
    plan: Plan,
    /// The experiment as it stands in their folders.
    text: String,
    sources: Vec<Store>,
    /// By cell: the source that has it.
    having: Vec<usize>,
}

/// Checks that some folders make a whole run, which may go to `out`. Writes nothing.
///
/// # Errors
/// Folders that are not of one experiment; cells that are missing, with the commands that run them; a cell of which
/// two folders hold different rounds; files that cannot be read.
pub fn gather(folders: &[Location], out: &Location) -> Result<Shards> {
    let mut sources: Vec<Store> = folders.iter().map(Store::existing).collect::<Result<_>>()?;
    let first = sources.first().context("expected the folder of at least one shard")?;
    let (plan, text) = planned(first)?;
    for source in &sources[1..] {
        let (other, _) = planned(source)?;
        same(&other.experiment, &plan.experiment)
            .with_context(|| format!("{} and {} hold different experiments", source.root(), first.root()))?;
    }
    let there = Store::existing(out)?;
    let file = there.folder().read("experiment.toml");
    if file.with_context(|| format!("cannot read {out}"))?.is_some() && !folders.contains(out) {
        let (other, _) = planned(&there)?;
        same(&other.experiment, &plan.experiment)
            .with_context(|| format!("{out} holds another experiment; choose another folder with --out"))?;
        // Its cells count like those of a shard.
        sources.push(there);
    }
    let having = cells(&plan).into_iter().map(|cell| holder(&plan, &sources, cell));
    let having = having.collect::<Result<Vec<_>>>()?;
    if having.contains(&None) {
        bail!("{}", missing(&plan, &sources, &having)?);
    }
    Ok(Shards {
        plan,
        text,
        sources,
        having: having.into_iter().flatten().collect(),
    })
}

impl Shards {
    /// Writes experiment and cells.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn write(self, out: &Location) -> Result<(Plan, Store)> {
        let store = Store::open(out)?;
        store.write_text("experiment.toml", &self.text)?;
        for (cell, holder) in cells(&self.plan).into_iter().zip(self.having) {
            let source = &self.sources[holder];
            if source.root() != out {
                let whole = source.whole(&self.plan, cell)?;
                let (info, parquet) = whole.with_context(|| format!("a cell of {} is gone", source.root()))?;
                store.put_cell(&info, &parquet)?;
            }
        }
        Ok((self.plan, store))
    }
}

/// The first source that has the cell, once all that have it agree.
fn holder(plan: &Plan, sources: &[Store], cell: Cell<'_>) -> Result<Option<usize>> {
    let mut found: Option<(usize, CellInfo)> = None;
    for (i, source) in sources.iter().enumerate() {
        let Some((info, _)) = source.whole(plan, cell)? else {
            continue;
        };
        match &found {
            None => found = Some((i, info)),
            Some((first, known)) => ensure!(
                known.sha256 == info.sha256,
                "{} and {} hold different rounds of {} in {}, seed {} (cells/{}.parquet): one of the machines computes \
                 something else; find out which, and leave its folder out",
                sources[*first].root(),
                source.root(),
                cell.policy.name,
                cell.env.name,
                cell.seed,
                info.of.name()?
            ),
        }
    }
    Ok(found.map(|(i, _)| i))
}

/// What to say when cells are missing: which, why as far as it can be known, and how to run them.
fn missing(plan: &Plan, sources: &[Store], having: &[Option<usize>]) -> Result<String> {
    let all = cells(plan);
    let gaps: Vec<usize> = (0..all.len()).filter(|&i| having[i].is_none()).collect();
    let mut text = format!("{} of {} cells are missing or damaged:", gaps.len(), all.len());
    for &i in gaps.iter().take(NAMED) {
        let Cell { env, policy, seed } = all[i];
        text += &format!("\n  {} in {}, seed {seed}", policy.name, env.name);
    }
    text += &more(gaps.len());
    for (why, count) in strangers(plan, &all, &gaps, sources)? {
        text += &format!("\nNot counted: {count} cells {why}");
    }
    let shards = fewest(&gaps, all.len());
    text += "\nTo run what is missing:";
    for shard in shards.iter().take(NAMED) {
        let folder = sources[0].root();
        text += &format!(
            "\n  oo-sim compare {} --shard {shard} --out {folder}",
            folder.join("experiment.toml")
        );
    }
    Ok(text + &more(shards.len()))
}

fn more(count: usize) -> String {
    match count.saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!("\n  and {rest} more"),
    }
}

/// The shards that are exactly these cells, of the smallest number of shards for which there are such: a shard that
/// never ran is one.
fn fewest(gaps: &[usize], cells: usize) -> Vec<Shard> {
    let mut is_gap = vec![false; cells];
    gaps.iter().for_each(|&i| is_gap[i] = true);
    let are_gaps = |shard: &Shard| (0..cells).filter(|&i| shard.takes(i)).all(|i| is_gap[i]);
    for of in 1..=cells {
        let shards = (1..=of).map(|number| Shard { number, of });
        let within: Vec<Shard> = shards.filter(are_gaps).collect();
        if gaps.iter().all(|&i| within.iter().any(|s| s.takes(i))) {
            return within;
        }
    }
    Vec::new()
}

/// Cells that would be the missing ones, had they the same code and data; counted by what differs.
fn strangers(plan: &Plan, all: &[Cell<'_>], gaps: &[usize], sources: &[Store]) -> Result<BTreeMap<String, usize>> {
    let wanted: Vec<Identity> = gaps.iter().map(|&i| Identity::of(plan, all[i])).collect();
    let mut found = BTreeMap::new();
    for source in sources {
        for info in source.infos()? {
            let of = &info.of;
            let alike = |w: &&Identity| {
                (&w.env.0, &w.policy.0, w.seed, &w.judge, &w.reward, w.size)
                    == (&of.env.0, &of.policy.0, of.seed, &of.judge, &of.reward, of.size)
            };
            let Some(wanted) = wanted.iter().find(alike) else {
                continue;
            };
            let why = if wanted.code != of.code {
                format!("by another build of oo-sim, {}; this is {}", of.code, wanted.code)
            } else if wanted.env.1 != of.env.1 {
                format!("of {} with another copy of its data", of.env.0)
            } else if wanted.policy.1 != of.policy.1 {
                format!("of {} with another saved policy to start from", of.policy.0)
            } else {
                // The very cell, damaged.
                continue;
            };
            *found.entry(format!("in {} {why}", source.root())).or_insert(0) += 1;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(text: &str) -> Shard {
        text.parse().unwrap()
    }

    #[test]
    fn shards_are_read_and_checked() {
        assert_eq!(shard("2/4").to_string(), "2/4");
        for bad in ["0/4", "5/4", "1/0", "1", "/", "a/b", "-1/2", "1/2/3", ""] {
            let e = bad.parse::<Shard>().unwrap_err().to_string();
            assert!(e.contains("from 1 to N") && e.contains(&format!("`{bad}`")), "{e}");
        }
    }

    #[test]
    fn every_cell_is_in_one_shard_and_shards_are_of_a_size() {
        for (cells, of) in [(24, 4), (25, 4), (3, 8), (1, 1)] {
            let sizes: Vec<usize> = (1..=of)
                .map(|number| (0..cells).filter(|&i| Shard { number, of }.takes(i)).count())
                .collect();
            assert_eq!(sizes.iter().sum::<usize>(), cells);
            assert!(
                sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1,
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn gaps_are_named_by_the_fewest_shards() {
        let of = |gaps: &[usize]| fewest(gaps, 12).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(&[2, 6, 10]), ["3/4"]);
        assert_eq!(of(&[0, 2, 4, 6, 8, 10]), ["1/2"]);
        assert_eq!(of(&[5]), ["6/7"]);
        assert_eq!(of(&(0..12).collect::<Vec<_>>()), ["1/1"]);
        assert_eq!(of(&[0, 1]), ["1/12", "2/12"]);
    }
}
