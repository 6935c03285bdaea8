//! Experiments and runs: the calls, one function each.

use crate::client::{Client, whole};
use crate::entry::{Dataset, Entry, Metric, Status};
use crate::error::{Error, Result};
use crate::limits::{BATCH, BATCH_OF_TEXTS};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Runs on a page of a search: an answer repeats all that is known of each.
const PAGE: u32 = 200;

/// Which spool a run comes from.
pub(crate) const SPOOL_TAG: &str = "oo.spool";
/// Which run of the spool it is.
pub(crate) const RUN_TAG: &str = "oo.run";

/// A run at the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The server's name for it.
    pub id: String,
    /// Where its artefacts go.
    pub artefacts: String,
}

/// A metric at a step, with its value's bits: what tells two numbers apart.
type Logged = BTreeMap<i64, Vec<u64>>;

impl Client {
    /// The id of the experiment of this name, which is made where it is missing. Somebody else may make it meanwhile.
    ///
    /// # Errors
    /// No answer, or an experiment that was deleted.
    pub fn experiment(&self, name: &str) -> Result<String> {
        const BY_NAME: &str = "experiments/get-by-name";
        match self.get(BY_NAME, &[("experiment_name", name)]) {
            Err(e) if e.is_missing() => {}
            found => return self.living_experiment(BY_NAME, &found?),
        }
        const CREATE: &str = "experiments/create";
        match self.post(CREATE, &json!({ "name": name })) {
            Err(e) if e.has_code("RESOURCE_ALREADY_EXISTS") => {
                let found = self.get(BY_NAME, &[("experiment_name", name)])?;
                self.living_experiment(BY_NAME, &found)
            }
            made => self.text(CREATE, &made?, "/experiment_id"),
        }
    }

    fn living_experiment(&self, call: &str, found: &Value) -> Result<String> {
        if self.text(call, found, "/experiment/lifecycle_stage")? == "deleted" {
            return Err(Error::Refused {
                server: self.server().into(),
                call: call.into(),
                status: 403,
                code: "INVALID_STATE".into(),
                message: "the experiment was deleted; restore it, or choose another with MLFLOW_EXPERIMENT_NAME".into(),
            });
        }
        self.text(call, found, "/experiment/experiment_id")
    }

    /// Makes a run. Tried once: after [`Error::Unreachable`] it may be there, and [`runs_of`](Self::runs_of) tells.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn create_run(&self, experiment: &str, spool: &str, parent: Option<&str>, entry: &Entry) -> Result<Run> {
        const CREATE: &str = "runs/create";
        let mut tags = vec![
            json!({"key": SPOOL_TAG, "value": spool}),
            json!({"key": RUN_TAG, "value": entry.run}),
        ];
        tags.extend(parent.map(|id| json!({"key": "mlflow.parentRunId", "value": id})));
        let body = json!({
            "experiment_id": experiment,
            "run_name": entry.name,
            "start_time": entry.start_ms,
            "user_id": entry.tags.get("mlflow.user").map_or("", String::as_str),
            "tags": tags,
        });
        let made = self.post_once(CREATE, &body)?;
        self.run(CREATE, &made["run"])
    }

    fn run(&self, call: &str, run: &Value) -> Result<Run> {
        Ok(Run {
            id: self.text(call, run, "/info/run_id")?,
            artefacts: self.text(call, run, "/info/artifact_uri")?,
        })
    }

    /// The runs of a spool by their names in it; `None` for one that somebody has deleted since.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn runs_of(&self, experiment: &str, spool: &str) -> Result<BTreeMap<String, Option<Run>>> {
        const SEARCH: &str = "runs/search";
        let mut found = BTreeMap::new();
        let mut page = String::new();
        loop {
            let answer = self.post(
                SEARCH,
                &json!({
                    "experiment_ids": [experiment],
                    "filter": format!("tags.`{SPOOL_TAG}` = '{spool}'"),
                    "run_view_type": "ALL",
                    "max_results": PAGE,
                    "page_token": page,
                }),
            )?;
            for run in list(&answer, "runs") {
                let tags = list(&run["data"], "tags").find(|tag| tag["key"] == RUN_TAG);
                let Some(name) = tags.and_then(|tag| tag["value"].as_str()) else {
                    continue;
                };
                let alive = run["info"]["lifecycle_stage"] != "deleted";
                let run = alive.then(|| self.run(SEARCH, run)).transpose()?;
                // One that lives goes over one that was deleted.
                let place = found.entry(name.to_string()).or_insert(None);
                *place = place.take().or(run);
            }
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => page = next.into(),
                _ => return Ok(found),
            }
        }
    }

    /// Logs parameters, tags and metrics in as few batches as the server allows. The same again changes nothing, provided
    /// that `metrics` are those that [`missing`](Self::missing) leaves.
    ///
    /// # Errors
    /// No answer, or a refusal, such as of another value for a parameter.
    pub fn log(
        &self,
        run: &str,
        params: &BTreeMap<String, String>,
        tags: &BTreeMap<String, String>,
        metrics: &[Metric],
    ) -> Result<()> {
        let pair = |(key, value): (&String, &String)| json!({"key": key, "value": value});
        let (mut params, mut tags) = (params.iter().map(pair).peekable(), tags.iter().map(pair).peekable());
        let mut metrics = metrics.iter().peekable();
        while params.peek().is_some() || tags.peek().is_some() || metrics.peek().is_some() {
            let params: Vec<Value> = params.by_ref().take(BATCH_OF_TEXTS).collect();
            let tags: Vec<Value> = tags.by_ref().take(BATCH_OF_TEXTS).collect();
            let room = BATCH - params.len() - tags.len();
            let metrics: Vec<Value> = metrics.by_ref().take(room).map(point).collect();
            let body = json!({"run_id": run, "params": params, "tags": tags, "metrics": metrics});
            self.post("runs/log-batch", &body)?;
        }
        Ok(())
    }

    /// Those of `metrics` that the run does not have yet. The same value at the same step is the same, whenever it was
    /// logged.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn missing(&self, run: &str, metrics: &[Metric]) -> Result<Vec<Metric>> {
        let mut known: BTreeMap<&str, Logged> = BTreeMap::new();
        for metric in metrics {
            if !known.contains_key(metric.key.as_str()) {
                let mut logged = Logged::new();
                for (step, value) in self.history(run, &metric.key)? {
                    logged.entry(step).or_default().push(value.to_bits());
                }
                known.insert(&metric.key, logged);
            }
        }
        let is_there = |m: &&Metric| {
            let bits = (m.value + 0.0).to_bits(); // the server knows no −0
            let at = known.get(m.key.as_str()).and_then(|logged| logged.get(&m.step));
            at.is_some_and(|seen| {
                seen.contains(&bits) || m.value.is_nan() && seen.iter().any(|&b| f64::from_bits(b).is_nan())
            })
        };
        Ok(metrics.iter().filter(|m| !is_there(m)).cloned().collect())
    }

    /// Every value of a metric with its step.
    ///
    /// # Errors
    /// No answer, or one without numbers.
    pub fn history(&self, run: &str, key: &str) -> Result<Vec<(i64, f64)>> {
        const HISTORY: &str = "metrics/get-history";
        let (mut all, mut page) = (Vec::new(), String::new());
        loop {
            let query = [("run_id", run), ("metric_key", key), ("page_token", &page)];
            let answer = self.get(HISTORY, &query[..if page.is_empty() { 2 } else { 3 }])?;
            for metric in list(&answer, "metrics") {
                let value = match &metric["value"] {
                    Value::String(word) => word.parse().ok(),
                    number => number.as_f64(),
                };
                let found = whole(&metric["step"]).zip(value);
                all.push(found.ok_or_else(|| self.unexpected(HISTORY, "step and value"))?);
            }
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => page = next.into(),
                _ => return Ok(all),
            }
        }
    }

    /// Notes what data a run read.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn log_datasets(&self, run: &str, datasets: &[Dataset]) -> Result<()> {
        let inputs: Vec<Value> = datasets
            .iter()
            .map(|d| {
                json!({
                    "tags": [{"key": "mlflow.data.context", "value": d.context}],
                    "dataset": {"name": d.name, "digest": d.digest, "source_type": d.source_type, "source": d.source},
                })
            })
            .collect();
        let done = self.post("runs/log-inputs", &json!({"run_id": run, "datasets": inputs}));
        done.map(drop)
    }

    /// Says how a run stands.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn set_status(&self, run: &str, status: Status, end_ms: Option<i64>) -> Result<()> {
        let mut body = json!({"run_id": run, "status": status.name()});
        if let (Some(ms), Value::Object(fields)) = (end_ms, &mut body) {
            fields.insert("end_time".into(), ms.into());
        }
        self.post("runs/update", &body).map(drop)
    }
}

fn point(metric: &Metric) -> Value {
    let value = if metric.value.is_nan() {
        json!("NaN")
    } else {
        json!(metric.value)
    };
    json!({"key": metric.key, "value": value, "timestamp": metric.ms, "step": metric.step})
}

/// The elements of a list in an answer; a list without elements is left out by the server.
pub(crate) fn list<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten()
}
