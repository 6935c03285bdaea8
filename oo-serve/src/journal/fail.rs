//! Places at which the process can be made to die, for the tests: `OO_FAILPOINT=name:n` aborts at the n-th passing of
//! `name`. Without the variable a place costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every place, in the order in which a record meets them.
pub const POINTS: &[&str] = &[
    "append.before",
    "append.after",
    "rotate.before",
    "rotate.after",
    "write.before",
    "write.half",
    "write.after",
    "flush.before",
    "flush.after",
    "apply.before",
    "apply.after",
    "truncate.before",
    "truncate.after",
    "snapshot.write",
    "snapshot.half",
    "snapshot.flush",
    "snapshot.rename",
    "snapshot.done",
    "compact.write",
    "compact.rename",
    "compact.remove",
    "compact.done",
    "seal.write",
    "seal.rename",
    "seal.done",
    "scrub.remove",
];

struct Armed {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<&'static Armed> {
    ARMED
        .get_or_init(|| {
            let text = std::env::var("OO_FAILPOINT").ok()?;
            let (name, n) = text.split_once(':').unwrap_or((&text, "1"));
            let left = AtomicU64::new(n.parse().ok()?);
            Some(Armed {
                name: name.into(),
                left,
            })
        })
        .as_ref()
}

/// True when this passing of `name` is the one to die at.
pub fn due(name: &str) -> bool {
    debug_assert!(POINTS.contains(&name), "{name} is not in the table");
    armed().is_some_and(|a| a.name == name && a.left.fetch_sub(1, Ordering::SeqCst) == 1)
}

/// Dies if it is time to.
pub fn point(name: &str) {
    if due(name) {
        std::process::abort();
    }
}
