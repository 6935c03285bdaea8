//! A folder looked at from outside: what its journal holds, whether every record is sound, and whether a replay comes to
//! what the snapshots say. It takes nothing from the running server's word, only from the files.

use crate::engine::event::{Event, GivenEvent};
use crate::engine::forget::SCRUBBED;
use crate::engine::ids;
use crate::engine::join::{Join, Joined};
use crate::engine::models::Home;
use crate::engine::recover::{self, Replay};
use crate::engine::settings::Rules;
use crate::engine::state::{self, Counts, State};
use crate::engine::{Status, snapshot};
use crate::export::{self, Taught};
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::{Record, Segments};
use crate::{Error, Result};
use oo_core::Shape;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// What was found.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The journal's format.
    pub format: u32,
    /// Sound records.
    pub records: u64,
    /// Of these, blanked.
    pub blanked: u64,
    /// The number of the first.
    pub first_seq: u64,
    /// The number of the last.
    pub last_seq: u64,
    /// Stamp of the last, milliseconds since 1970.
    pub last_time: u64,
    /// What is damaged, file by file.
    pub defects: Vec<String>,
    /// Decisions in the files.
    pub decisions: u64,
    /// Feedbacks in the files.
    pub feedbacks: u64,
    /// Different feedback ids among them.
    pub feedback_ids: u64,
    /// Feedback ids that were taken more than once within the time that ids are remembered.
    pub feedback_ids_twice: u64,
    /// Whether the journal can be replayed, with the rewards as they were given.
    pub replays: bool,
    /// Feedbacks that were taken into a reward that is learned at the end of its window.
    pub joined: u64,
    /// Feedbacks that taught, with the sum of their rewards.
    pub learned: u64,
    /// The sum of the rewards that taught.
    pub learned_reward: f64,
    /// What a replay comes to; absent where it cannot be made.
    pub replay: Option<Replayed>,
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// What a replay came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Replayed {
    /// The number of the record it began after: 0, or that of the oldest sound snapshot.
    pub from: u64,
    /// Users.
    pub users: usize,
    /// Decisions inside their window.
    pub open: usize,
    /// Counts since the beginning.
    pub counts: Counts,
    /// The policy in charge.
    pub policy: String,
    /// Which artefact of it.
    pub generation: u64,
    /// Rewards that it learned.
    pub updates: u64,
    /// SHA-256 of the models.
    pub model: String,
    /// SHA-256 of everything.
    pub digest: String,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Snapshot {
    /// The number of its last record.
    pub seq: u64,
    /// Why it cannot be used.
    pub defect: Option<String>,
    /// Whether the replay came to the same bytes; absent where it did not pass there.
    pub equals_replay: Option<bool>,
}

/// Looks at a folder. With `rules`, feedback is worth what their reward spec says instead of what it was worth at its time.
///
/// # Errors
/// A folder that cannot be read, or was written by a newer version.
pub fn inspect(dir: &Path, rules: Option<Rules>) -> Result<Report> {
    let segments = Segments::new(&recover::journal_dir(dir));
    let list = segments.list()?;
    let mut report = Report {
        format: crate::journal::record::FORMAT,
        ..Report::default()
    };
    let build = export::library();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let home = Home {
        dir,
        disk: &disk,
        build: &build,
        hot_users: 4096,
    };
    // Where to begin: at the first record, or where the journal no longer has it, at the oldest sound snapshot.
    let mut complete = match list.first() {
        Some(first) => segments.first_seq(*first)? == Some(1),
        None => false,
    };
    for segment in &list {
        let mut blanked = 0;
        segments.scan(*segment, |r| {
            blanked += u64::from(r.kind == crate::journal::record::BLANK);
            Ok(())
        })?;
        complete &= blanked == 0;
    }
    // Nor where somebody was taken out of what a policy began with.
    let policies = std::fs::read_dir(recover::policies_dir(dir)).into_iter().flatten();
    complete &= !policies
        .flatten()
        .any(|file| file.path().extension().is_some_and(|e| e == SCRUBBED));
    // Then rewards cannot all be given anew, and what there is is looked at as it was given.
    if !complete && rules.is_some() {
        let as_given = inspect(dir, None)?;
        return Ok(Report {
            replay: None,
            ..as_given
        });
    }
    let known = if snapshot::folder(dir).exists() {
        snapshot::list(dir)?
    } else {
        Vec::new()
    };
    let mut digests = Vec::new();
    for seq in known {
        let found = snapshot::verify(&snapshot::path(dir, seq));
        if let Err(e @ Error::Format { .. }) = found {
            return Err(e);
        }
        digests.push((seq, found.as_ref().ok().cloned()));
        report.snapshots.push(Snapshot {
            seq,
            defect: found.err().map(|e| e.to_string()),
            equals_replay: None,
        });
    }
    let overruled = rules.is_some();
    let mut replay = Replay {
        home,
        segments: &segments,
        state: State::new(rules.clone().unwrap_or_default()),
        serving: None,
        audience: None,
    };
    replay.state.overruled = overruled;
    if !complete {
        for (seq, sound) in &digests {
            if sound.is_some() && !overruled {
                let (state, serving) = snapshot::load(home, *seq)?;
                (replay.state, replay.serving) = (state, Some(serving.into()));
                break;
            }
        }
    }
    let from = replay.state.last.seq;
    let mut possible = complete || replay.serving.is_some();
    let mut ids = Ids::default();
    let mut expected = None;
    for segment in &list {
        let end = segments.scan(*segment, |r| {
            report.records += 1;
            if report.records == 1 {
                report.first_seq = r.seq;
            }
            (report.last_seq, report.last_time) = (r.seq, r.time);
            match Event::decode(&r) {
                Ok(Event::Blank) => report.blanked += 1,
                Ok(Event::Decided(_)) => report.decisions += 1,
                Ok(Event::Given(g)) => {
                    report.feedbacks += 1;
                    report.feedback_ids_twice += u64::from(ids.meet(&g, &r));
                    report.joined += u64::from(g.status == Status::Joined);
                    if g.status == Status::Learned {
                        report.learned += 1;
                        report.learned_reward += g.reward;
                    }
                }
                Ok(Event::Rules(rules)) => ids.remember_ms = rules.remember_ms,
                Ok(Event::Forgotten(user)) => drop(ids.forgotten.insert(user, r.seq)),
                Ok(_) => {}
                Err(why) => report
                    .defects
                    .push(format!("{}: {why}", segments.path(*segment).display())),
            }
            if possible && r.seq > replay.state.last.seq {
                possible = r.seq == replay.state.last.seq + 1;
                if let Some(Err(why)) = possible.then(|| replay.apply(&r)) {
                    possible = false;
                    report
                        .defects
                        .push(format!("record {} cannot be replayed: {why}", r.seq));
                }
                if !overruled {
                    compare(&mut replay, &digests, &mut report)?;
                }
            }
            Ok(())
        })?;
        if expected.is_some_and(|e| report.records > 0 && end.next_seq - end.records != e) {
            let text = format!(
                "{}: its first record does not follow",
                segments.path(*segment).display()
            );
            report.defects.push(text);
        }
        expected = Some(end.next_seq);
        report.defects.extend(
            end.defect
                .map(|why| format!("{}: {why}", segments.path(*segment).display())),
        );
    }
    report.feedback_ids = ids.given.len() as u64;
    report.replays = possible && replay.serving.is_some();
    if let (true, Some(serving)) = (possible, &replay.serving) {
        let serving = state::read(serving);
        let still = snapshot::take(&replay.state, &serving);
        let state = &replay.state;
        report.replay = Some(Replayed {
            from,
            users: state.users.len(),
            open: state.open.len(),
            counts: state.counts,
            policy: serving.spec.to_string(),
            generation: serving.swapped.generation,
            updates: serving.updates,
            model: still.models_digest()?,
            digest: still.digest()?,
        });
    }
    Ok(report)
}

/// The ids of feedback. One may come again when it is not remembered any more, or whose it was is forgotten.
struct Ids {
    /// By id, the time and the number of the last record, and the people in it.
    given: BTreeMap<String, (u64, u64, [Option<u64>; 2])>,
    forgotten: BTreeMap<u64, u64>,
    remember_ms: u64,
}

impl Default for Ids {
    fn default() -> Self {
        Ids {
            given: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            remember_ms: Rules::default().remember_ms,
        }
    }
}

impl Ids {
    /// True where the feedback's id should not have been taken once more.
    fn meet(&mut self, g: &GivenEvent, r: &Record<'_>) -> bool {
        let Some(id) = &g.feedback_id else { return false };
        let now = (r.time, r.seq, g.people());
        let Some((time, seq, people)) = self.given.insert(id.clone(), now) else {
            return false;
        };
        let forgotten = |user: &u64| self.forgotten.get(user).is_some_and(|at| seq < *at);
        time.saturating_add(self.remember_ms) >= r.time && !people.iter().flatten().any(forgotten)
    }
}

/// What every decision taught, with the shape of the rounds and the policy in charge at the end. From a replay where the
/// journal has its beginning; of what was before the oldest snapshot, from the feedback alone.
pub(crate) fn taught(dir: &Path) -> Result<(Taught, Shape, String)> {
    let segments = Segments::new(&recover::journal_dir(dir));
    let list = segments.list()?;
    let build = export::library();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let home = Home {
        dir,
        disk: &disk,
        build: &build,
        hot_users: 4096,
    };
    let mut replay = Replay {
        home,
        segments: &segments,
        state: State::new(Rules::default()),
        serving: None,
        audience: None,
    };
    let complete = match list.first() {
        Some(first) => segments.first_seq(*first)? == Some(1),
        None => false,
    };
    if !complete {
        let sound = |seq: &u64| snapshot::load(home, *seq).ok();
        let Some((state, serving)) = snapshot::list(dir)?.iter().find_map(sound) else {
            return Err(Error::Damaged {
                path: segments.dir().into(),
                why: "it no longer has its beginning, and no snapshot is sound".into(),
            });
        };
        (replay.state, replay.serving) = (state, Some(serving.into()));
    }
    let from = replay.state.last.seq;
    replay.state.taught.wanted = true;
    let mut taught = Taught::new();
    // Decisions before the replay begins, by their ids; and what the feedbacks of those come to that are learned late.
    let mut before = HashMap::new();
    let mut joins: HashMap<String, Joined> = HashMap::new();
    let mut join = Join::First;
    for segment in &list {
        segments.scan(*segment, |r| {
            if r.seq > from {
                replay.apply(&r)?;
                let rows = replay.state.taught.take();
                taught.extend(
                    rows.into_iter()
                        .map(|(l, reward, feedback)| (l.seq, (reward, feedback))),
                );
                return Ok(());
            }
            match Event::decode(&r) {
                Ok(Event::Decided(d)) => {
                    before.insert(d.logged.answer.decision_id, r.seq);
                }
                Ok(Event::Given(g)) if g.status == Status::Learned => {
                    let feedback = g.given.feedback();
                    taught.extend(before.get(&g.decision_id).map(|seq| (*seq, (g.reward, feedback))));
                }
                Ok(Event::Given(g)) if g.status == Status::Joined => {
                    let joined = joins.entry(g.decision_id).or_insert_with(|| Joined::new(join));
                    joined.add(g.reward, g.given.feedback());
                }
                Ok(Event::Rules(rules)) => join = rules.join,
                _ => {}
            }
            Ok(())
        })?;
    }
    // What the replay taught stands; what is still open has taught nothing.
    for (id, joined) in joins {
        let open = replay.state.joins.contains_key(&ids::decision_hash(&id));
        if let Some(seq) = before.get(&id).filter(|_| !open) {
            taught.entry(*seq).or_insert((joined.reward(), joined.feedback));
        }
    }
    let Some(serving) = &replay.serving else {
        return Err(Error::Damaged {
            path: segments.dir().into(),
            why: "it holds no policy".into(),
        });
    };
    let serving = state::read(serving);
    let shape = serde_json::from_str(&serving.swapped.shape).map_err(|e| Error::Damaged {
        path: segments.dir().into(),
        why: e.to_string(),
    })?;
    Ok((taught, shape, serving.swapped.spec.clone()))
}

/// Every feedback in the files with an id: the id, what became of it, its reward.
///
/// # Errors
/// A folder that cannot be read.
pub fn feedbacks(dir: &Path) -> Result<Vec<(String, Status, f64)>> {
    let segments = Segments::new(&recover::journal_dir(dir));
    let mut found = Vec::new();
    for segment in segments.list()? {
        segments.scan(segment, |r| {
            if let Ok(Event::Given(g)) = Event::decode(&r)
                && let Some(id) = g.feedback_id
            {
                found.push((id, g.status, g.reward));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// Where there is a snapshot of the record just applied: are they the same?
fn compare(replay: &mut Replay<'_>, digests: &[(u64, Option<String>)], report: &mut Report) -> Result<()> {
    let seq = replay.state.last.seq;
    let Some(i) = digests.iter().position(|(s, d)| *s == seq && d.is_some()) else {
        return Ok(());
    };
    let Some(serving) = &replay.serving else { return Ok(()) };
    let digest = snapshot::take(&replay.state, &state::read(serving)).digest()?;
    let same = Some(&digest) == digests[i].1.as_ref() || reread(replay.home, seq)? == digest;
    report.snapshots[i].equals_replay = Some(same);
    Ok(())
}

/// The digest of a snapshot as it would be written today: one of an older format has other bytes for the same.
fn reread(home: Home<'_>, seq: u64) -> Result<String> {
    let (state, serving) = snapshot::load(home, seq)?;
    snapshot::take(&state, &serving).digest()
}

/// At most six decimals: what a sum of floats has beyond them nobody wants to read.
fn readable(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

impl Report {
    /// True when nothing is damaged, the journal can be replayed, and the snapshots say what the replay says. Under other
    /// rules a replay says something else by intent: then [`inspect`] compares nothing.
    pub fn is_sound(&self) -> bool {
        let differs = |s: &Snapshot| s.defect.is_some() || s.equals_replay == Some(false);
        let replayed = self.replays || self.records == 0;
        self.defects.is_empty() && replayed && !self.snapshots.iter().any(differs)
    }
}

/// What `oo-serve inspect` prints.
pub fn shown(report: &Report, json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(report).expect("a report is plain data");
    }
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<22}{value}\n"));
    line("format", report.format.to_string());
    let span = format!("{} ({} to {})", report.records, report.first_seq, report.last_seq);
    line("records", span);
    line("blanked", report.blanked.to_string());
    line("decisions", report.decisions.to_string());
    line("feedbacks", report.feedbacks.to_string());
    line(
        "feedback ids",
        format!(
            "{}, {} of them taken twice",
            report.feedback_ids, report.feedback_ids_twice
        ),
    );
    line(
        "learned",
        format!("{}, rewards {}", report.learned, readable(report.learned_reward)),
    );
    line("joined", report.joined.to_string());
    match &report.replay {
        None => line(
            "replay",
            match report.replays {
                true => "not possible by another reward spec: the journal no longer has all that was given".into(),
                false => "not possible: the journal no longer has its beginning, and no snapshot is sound".into(),
            },
        ),
        Some(r) => {
            line("replay from record", r.from.to_string());
            line("users", r.users.to_string());
            line("open decisions", r.open.to_string());
            line(
                "policy",
                format!("{} (generation {}, {} updates)", r.policy, r.generation, r.updates),
            );
            line("model", r.model.clone());
            line("state", r.digest.clone());
        }
    }
    for s in &report.snapshots {
        let verdict = match (&s.defect, s.equals_replay) {
            (Some(why), _) => why.clone(),
            (None, Some(true)) => "equals the replay".into(),
            (None, Some(false)) => "DIFFERS from the replay".into(),
            (None, None) => "sound".into(),
        };
        line("snapshot", format!("{}: {verdict}", s.seq));
    }
    for defect in &report.defects {
        line("DAMAGED", defect.clone());
    }
    if report.defects.is_empty() {
        line("damage", "none".into());
    }
    out
}
