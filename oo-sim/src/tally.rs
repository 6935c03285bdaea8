//! The cells of a run, boiled down to people: rewards as they were paid, rewards under other specs, reactions. From them
//! come the clusters that comparisons rest on, for all decisions or for one group of people.

use crate::experiment::{Named, Plan};
use crate::runner::Cell;
use crate::store::Store;
use anyhow::{Context, Result, bail, ensure};
use oo_core::tips::{Feedback, Reaction, RewardSpec};
use oo_judge::stats::Cluster;
use std::collections::BTreeMap;
use std::path::Path;

/// What one person met in a cell.
#[derive(Clone, Debug, Default)]
struct Person {
    decisions: f64,
    reward: f64,
    /// One sum a spec.
    rescored: Vec<f64>,
    /// By code.
    reactions: [f64; Reaction::ALL.len()],
}

/// Something to take the mean of.
#[derive(Clone, Copy, Debug)]
pub enum Measure<'a> {
    /// The reward as it was paid.
    Reward,
    /// The reward under the spec of this position.
    Spec(usize),
    /// The reward of one group.
    Group(&'a str),
    /// Whether the reaction is this one.
    Share(Reaction),
}

impl Measure<'_> {
    fn of(self, group: Option<&str>, p: &Person) -> Cluster {
        let (sum, count) = match self {
            Measure::Reward => (p.reward, p.decisions),
            Measure::Spec(i) => (p.rescored[i], p.decisions),
            Measure::Group(name) if group == Some(name) => (p.reward, p.decisions),
            Measure::Group(_) => (0.0, 0.0),
            Measure::Share(reaction) => (p.reactions[reaction as usize], p.reactions.iter().sum()),
        };
        Cluster { sum, count }
    }
}

/// By user and group; a person who changes group is two.
type People = BTreeMap<(u64, Option<String>), Person>;

/// All cells of an environment.
pub struct Tally {
    /// By policy, then seed.
    cells: Vec<Vec<People>>,
    users: Vec<u64>,
    /// Whether every round has a reaction, so that it can be scored anew.
    pub reacted: bool,
}

impl Tally {
    /// Reads the cells of some policies, scored under some specs besides.
    ///
    /// # Errors
    /// A cell file that is missing or damaged.
    pub fn read(plan: &Plan, store: &Store, env: &Named, policies: &[&Named], specs: &[RewardSpec]) -> Result<Tally> {
        let mut reacted = true;
        let mut read = |policy: &Named, seed: u64| -> Result<People> {
            let (people, all) = people(plan, store, Cell { env, policy, seed }, specs)?;
            reacted &= all;
            Ok(people)
        };
        let cells = policies
            .iter()
            .map(|policy| plan.seeds().map(|seed| read(policy, seed)).collect())
            .collect::<Result<Vec<Vec<People>>>>()?;
        let mut users: Vec<u64> = cells.iter().flatten().flat_map(|c| c.keys().map(|k| k.0)).collect();
        users.sort_unstable();
        users.dedup();
        Ok(Tally { cells, users, reacted })
    }

    /// What a cluster is: `seeds` where there are two or more, else `users`.
    pub fn unit(&self) -> &'static str {
        let seeds = self.cells.first().map_or(0, Vec::len);
        if seeds >= 2 { "seeds" } else { "users" }
    }

    /// The clusters of a policy; those of different policies correspond.
    pub fn clusters(&self, policy: usize, measure: Measure<'_>) -> Vec<Cluster> {
        let sum = |people: &mut dyn Iterator<Item = (&(u64, Option<String>), &Person)>| {
            let mut total = Cluster::default();
            for ((_, group), person) in people {
                let cluster = measure.of(group.as_deref(), person);
                total.sum += cluster.sum;
                total.count += cluster.count;
            }
            total
        };
        let cells = &self.cells[policy];
        match cells.as_slice() {
            [one] => {
                let of = |&user: &u64| sum(&mut one.range((user, None)..).take_while(|((u, _), _)| *u == user));
                self.users.iter().map(of).collect()
            }
            many => many.iter().map(|people| sum(&mut people.iter())).collect(),
        }
    }

    /// The groups that occur, in alphabetical order.
    pub fn groups(&self) -> Vec<&str> {
        let all = self.cells.iter().flatten().flat_map(|c| c.keys());
        let mut groups: Vec<&str> = all.filter_map(|k| k.1.as_deref()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

fn people(plan: &Plan, store: &Store, cell: Cell<'_>, specs: &[RewardSpec]) -> Result<(People, bool)> {
    let frame = store.read_cell(plan, cell)?;
    let (rewards, users) = (frame.column("reward")?.f64()?, frame.column("user")?.u64()?);
    let (groups, reactions) = (frame.column("group")?.str()?, frame.column("reaction")?.str()?);
    let dwells = frame.column("dwell_ms")?.u64()?;
    let mut people = People::new();
    let mut all = frame.height() > 0;
    for i in 0..frame.height() {
        let reward = rewards.get(i).context("a round without reward in a cell file")?;
        let key = (users.get(i).unwrap_or(0), groups.get(i).map(String::from));
        let person = people.entry(key).or_insert_with(|| Person {
            rescored: vec![0.0; specs.len()],
            ..Person::default()
        });
        person.decisions += 1.0;
        person.reward += reward;
        let Some(name) = reactions.get(i) else {
            all = false;
            continue;
        };
        let reaction = Reaction::ALL.into_iter().find(|r| r.name() == name);
        let reaction = reaction.with_context(|| format!("unknown reaction `{name}` in a cell file"))?;
        person.reactions[reaction as usize] += 1.0;
        let feedback = Feedback {
            reaction,
            dwell_ms: dwells.get(i),
        };
        for (sum, spec) in person.rescored.iter_mut().zip(specs) {
            *sum += spec.reward(&feedback);
        }
    }
    Ok((people, all))
}

/// Reads `r0,r1,mine.json`: names of specs, and files with one spec or a list of them.
///
/// # Errors
/// An unknown name, a file that cannot be read or holds no spec, a name that occurs twice.
pub fn reward_specs(text: &str) -> Result<Vec<RewardSpec>> {
    let mut specs: Vec<RewardSpec> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let found = if Path::new(part).extension().is_some_and(|e| e == "json") {
            from_file(Path::new(part)).with_context(|| format!("reward specs of {part}"))?
        } else {
            vec![RewardSpec::named(part)?]
        };
        for spec in found {
            ensure!(
                specs.iter().all(|s| s.name != spec.name),
                "reward spec `{}` is named twice",
                spec.name
            );
            specs.push(spec);
        }
    }
    ensure!(
        !specs.is_empty(),
        "expected at least one reward spec, such as r0,r1,r2 or a file that ends in .json"
    );
    Ok(specs)
}

fn from_file(path: &Path) -> Result<Vec<RewardSpec>> {
    let text = std::fs::read(path).context("cannot read the file")?;
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    let values = match value {
        serde_json::Value::Array(all) => all,
        one => vec![one],
    };
    let read = |value| -> Result<RewardSpec> {
        let spec: RewardSpec = serde_json::from_value(value)?;
        let ends: Vec<u64> = spec.done.iter().filter_map(|b| b.below_ms).collect();
        let paid = spec.done.iter().map(|b| b.reward);
        let mut all = paid.chain([spec.snooze, spec.dismiss, spec.helpful, spec.not_helpful]);
        if !all.all(f64::is_finite) {
            bail!("spec `{}`: expected finite rewards", spec.name);
        }
        // All bands but the last have an end, and these rise.
        if ends.len() + 1 != spec.done.len()
            || spec.done.last().is_none_or(|b| b.below_ms.is_some())
            || ends.windows(2).any(|w| w[0] >= w[1])
        {
            bail!(
                "spec `{}`: expected bands of `done` with rising `below_ms`, null in the last alone",
                spec.name
            );
        }
        Ok(spec)
    };
    values.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_come_from_names_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let one = r#"{"name":"mine","version":1,"done":[{"below_ms":1000,"reward":0.5},{"below_ms":null,"reward":1}],
            "snooze":0,"dismiss":-2,"helpful":0,"not_helpful":0}"#;
        let file = write("one.json", one);
        let specs = reward_specs(&format!("r0, {file},r2")).unwrap();
        let names: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["r0", "mine", "r2"]);
        let refused = |text: &str| format!("{:#}", reward_specs(text).unwrap_err());
        assert!(refused("r0,R1").contains("did you mean `r1`"), "{}", refused("r0,R1"));
        assert!(refused("r0,r0").contains("named twice"));
        assert!(refused("").contains("at least one"));
        assert!(refused("nowhere.json").contains("nowhere.json"));
        let list = write("list.json", &format!("[{}]", one.replace("1000", "null")));
        assert!(refused(&list).contains("rising `below_ms`"), "{}", refused(&list));
        let huge = write("huge.json", &one.replace("-2", "-1e999"));
        assert!(refused(&huge).contains("huge.json"));
    }
}
