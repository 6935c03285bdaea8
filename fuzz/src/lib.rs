//! What the targets for bodies share.

use oo_serve::fuzz::Routes;
use tempfile::TempDir;

/// Records after which a fresh server takes over, so that a long run needs no more memory and disk than a short one.
const RECORDS: u64 = 20_000;

/// A server in a folder of its own.
pub struct Target {
    routes: Option<Routes>,
    dir: TempDir,
}

impl Target {
    /// A fresh one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let routes = Some(Routes::open(dir.path()).expect("a server"));
        Target { routes, dir }
    }

    /// Posts a body. Whatever it is, the answer is no 5xx; a panic ends the process.
    pub fn post(&mut self, path: &str, body: &[u8]) {
        let Some(routes) = &self.routes else { return };
        let status = routes.post(path, body);
        assert!((200..500).contains(&status), "{status}");
        if routes.written() > RECORDS {
            // The old server lets go of its folder before it goes.
            self.routes = None;
            *self = Target::new();
        }
    }

    /// The folder, for whoever wants to look at what was written.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

/// A target that posts its input to a route.
#[macro_export]
macro_rules! bodies {
    ($path:literal) => {
        thread_local! {
            static TARGET: std::cell::RefCell<$crate::Target> = std::cell::RefCell::default();
        }
        libfuzzer_sys::fuzz_target!(|body: &[u8]| TARGET.with_borrow_mut(|t| t.post($path, body)));
    };
}
