//! A thread that sends while something else goes on, and never holds it up.

use crate::sender::Sender;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between tries while the server does not answer; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// At the end, without an answer for so long, nobody waits any longer.
const STALL: Duration = Duration::from_secs(5);
/// Nor for so long, where the server was silent before.
const STALL_IN_TROUBLE: Duration = Duration::from_secs(1);

/// How often the owner looks whether answers arrive.
const LOOK: Duration = Duration::from_millis(100);

/// What the thread and its owner tell each other.
#[derive(Default)]
struct State {
    /// Entries were added since the thread last looked.
    more: bool,
    /// The owner waits for the end.
    closing: bool,
    /// The thread has gone.
    gone: bool,
    /// Everything has been sent.
    all_sent: bool,
    /// Why it does not go on.
    trouble: Option<String>,
    refusals: Vec<String>,
    page: Option<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Of the server: they show that it goes on.
    answers: Arc<AtomicU64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether the server has everything.
    pub all_sent: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// What the server refused.
    pub refusals: Vec<String>,
    /// Where the server shows the run that was asked for.
    pub page: Option<String>,
}

/// The thread.
pub struct Background(Arc<Shared>);

impl Background {
    /// Starts to send. `run` is the run whose page is told at the end.
    pub fn start(mut sender: Sender, run: String) -> Background {
        let shared = Arc::new(Shared {
            answers: sender.answers(),
            ..Shared::default()
        });
        let own = shared.clone();
        let work = move || {
            work(&mut sender, &own);
            own.tell(|state| {
                state.gone = true;
                state.refusals = sender.refusals().into_iter().map(String::from).collect();
                state.page = sender.page_of(&run);
            });
        };
        // Without the thread everything stays in the spool, as with a server that is down.
        let started = std::thread::Builder::new().name("mlflow".into()).spawn(work);
        if let Err(e) = started {
            shared.tell(|state| {
                state.gone = true;
                state.trouble = Some(e.to_string());
            });
        }
        Background(shared)
    }

    /// Entries were added to the spool.
    pub fn notify(&self) {
        self.0.tell(|state| state.more = true);
    }

    /// Waits until all is sent, at most `longest`, and only while the server keeps answering. What is not sent then stays
    /// in the spool.
    pub fn finish(self, longest: Duration) -> Outcome {
        self.0.tell(|state| {
            state.closing = true;
            state.more = true;
        });
        let (began, mut last) = (Instant::now(), Instant::now());
        let count = || self.0.answers.load(Ordering::Relaxed);
        let mut answers = count();
        let mut state = self.0.lock();
        while !state.gone {
            if count() != answers {
                (answers, last) = (count(), Instant::now());
            }
            let stall = if state.trouble.is_some() {
                STALL_IN_TROUBLE
            } else {
                STALL
            };
            let left = longest
                .saturating_sub(began.elapsed())
                .min(stall.saturating_sub(last.elapsed()));
            if left.is_zero() {
                break;
            }
            let woken = self.0.changed.wait_timeout(state, left.min(LOOK));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let silent = || "the server is slow".to_string();
        Outcome {
            all_sent: state.all_sent && state.gone,
            trouble: (!state.all_sent || !state.gone).then(|| state.trouble.clone().unwrap_or_else(silent)),
            refusals: state.refusals.clone(),
            page: state.page.clone(),
        }
    }
}

fn work(sender: &mut Sender, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    loop {
        shared.lock().more = false;
        match sender.send_next() {
            Ok(true) => {
                pause = FIRST_PAUSE;
                shared.lock().trouble = None;
            }
            Ok(false) => {
                let mut state = shared.lock();
                while !state.more && !state.closing {
                    state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if !state.more {
                    state.all_sent = true;
                    return;
                }
            }
            Err(e) => {
                let lasting = !e.may_pass();
                let mut state = shared.lock();
                state.trouble = Some(e.to_string());
                shared.changed.notify_all();
                if lasting || state.closing {
                    return;
                }
                let until = Instant::now() + pause;
                while !state.closing {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = shared.changed.wait_timeout(state, left);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}
