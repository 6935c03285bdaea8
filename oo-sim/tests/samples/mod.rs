//! Small logs of others, and the golden set.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

pub fn text_with_floor() -> String {
    let mut text = String::from("action,reward,propensity,pi_e_0,pi_e_1\n");
    for i in 0..400 {
        let p = if i % 133 == 1 { "0.000001" } else { "0.5" };
        text.push_str(&format!("{},{},{p},0.5,0.5\n", i % 2, i % 3 / 2));
    }
    text
}

/// A line of dsjson: three candidates, the second chosen with .5.
pub fn event(i: u64) -> String {
    let (chosen, cost) = (i % 3, if i.is_multiple_of(4) { -1 } else { 0 });
    let others: Vec<u64> = (0..3).filter(|k| *k != chosen).collect();
    format!(
        r#"{{"_label_cost":{cost},"_label_probability":0.5,"_label_Action":{},"_labelIndex":{chosen},"Timestamp":"2026-01-01T00:00:00Z","a":[{},{},{}],"c":{{"User":{{"age":{},"country":"{}"}},"_multi":[{{"Item":{{"price":1}}}},{{"Item":{{"price":2.5}}}},{{"Item":{{"price":4,"new":true}}}}]}},"p":[0.5,0.3,0.2],"VWState":{{"m":"x"}}}}"#,
        chosen + 1,
        chosen + 1,
        others[0] + 1,
        others[1] + 1,
        20 + i % 5,
        ["de", "fr"][i as usize % 2],
    )
}

/// The folder of the golden set, as in `oo-judge/tests/golden_ope.rs`.
pub fn golden() -> Option<PathBuf> {
    let own = std::env::var_os("OO_GOLDEN_DIR").map(PathBuf::from);
    let beside = || Some(PathBuf::from(std::env::var_os("OO_DATA_DIR")?).join("../golden"));
    let folder = own.or_else(beside).map(|f| f.join("ope"));
    let folder = folder.filter(|f| f.join("obp-estimates.json").exists());
    assert!(
        folder.is_some() || std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1"),
        "expected the golden set in OO_GOLDEN_DIR/ope or beside OO_DATA_DIR"
    );
    folder
}

/// `DRos lambda=10` as the program calls it, and the parameter as it prints it.
pub fn ours(theirs: &str) -> (String, Value) {
    let (name, parameter) = match theirs.split_once(" lambda=") {
        Some((name, x)) => (name, serde_json::json!(x.parse::<f64>().unwrap())),
        None => match theirs.split_once(" tuned ") {
            Some((name, rule)) => (name, serde_json::json!(rule)),
            None => (theirs, Value::Null),
        },
    };
    let base = match name {
        "DRos" => "dr-os".into(),
        "SwitchDR" => "switch-dr".into(),
        other => other.to_lowercase(),
    };
    let clipped = matches!(name, "IPS" | "DR") && !parameter.is_null();
    (if clipped { format!("{base}-clipped") } else { base }, parameter)
}
