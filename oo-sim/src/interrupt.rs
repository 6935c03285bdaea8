//! What happens when somebody stops the program: Ctrl-C, or a queue that wants its machine back.
//!
//! A thread waits for the signal. It passes it on to the program that this one waits for, removes what is half-written, says
//! what is kept and how to go on, and ends the program with 128 and the signal's number, as shells expect: 130 after Ctrl-C.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 128 + SIGINT as u8;

/// Files and folders that go when the program is stopped.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// How long a stopped program may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program that this one waits for.
static CHILD: Mutex<Option<Pid>> = Mutex::new(None);

type Words = Box<dyn Fn() -> String + Send>;

/// What the running command says.
static WORDS: Mutex<Option<Words>> = Mutex::new(None);

/// No invariant spans these locks, so that of a thread that panicked is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for signals from now on. Where there are none to be had, the program ends as it would without.
pub fn listen() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            stop(signal);
        }
    });
}

fn stop(signal: i32) {
    // Held until the end: nothing is begun or renamed any more.
    let unfinished = lock(&UNFINISHED);
    for path in unfinished.iter() {
        remove(path);
    }
    let child = lock(&CHILD);
    if let (Some(child), Some(signal)) = (*child, Signal::from_named_raw(signal)) {
        // One that a terminal stops too hears it twice, and the first time counts.
        let _ = kill_process(child, signal);
        wait(child);
    }
    let words = lock(&WORDS).as_ref().map(|words| words());
    let words = words.unwrap_or_else(|| "nothing half-written is left".into());
    let mut err = io::stderr().lock();
    // Below the progress bar, where there is one.
    let line = if err.is_terminal() { "\n" } else { "" };
    let _ = writeln!(err, "{line}stopped: {words}");
    std::process::exit(128 + signal);
}

/// Until a program has ended, but not for ever.
fn wait(child: Pid) {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let since = Instant::now();
    while since.elapsed() < PATIENCE && matches!(waitid(WaitId::Pid(child), look), Ok(None)) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What cannot be removed stays; nothing else is left to do.
fn remove(path: &Path) {
    let _ = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

/// While this lives, `words` follow "stopped: ".
#[must_use]
pub struct Told(Option<Words>);

/// Says what is kept and how to go on, should the program be stopped.
pub fn tell(words: impl Fn() -> String + Send + 'static) -> Told {
    Told(lock(&WORDS).replace(Box::new(words)))
}

impl Drop for Told {
    fn drop(&mut self) {
        *lock(&WORDS) = self.0.take();
    }
}

/// What a program says on stdout; it is stopped when this one is.
///
/// # Errors
/// A program that cannot be started.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let mut child = {
        // Held, so that no stop comes between the start and the knowledge of it.
        let mut known = lock(&CHILD);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        *known = Some(Pid::from_child(&child));
        child
    };
    let mut stdout = Vec::new();
    let read = child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout));
    // Held again: its number may be another's as soon as it has been waited for.
    let mut known = lock(&CHILD);
    let status = child.wait();
    *known = None;
    read.transpose()?;
    let stderr = Vec::new();
    Ok(Output {
        status: status?,
        stdout,
        stderr,
    })
}

/// A file or folder under a temporary name. Dropped, or when the program is stopped, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    here: bool,
}

impl Unfinished {
    /// A new file.
    ///
    /// # Errors
    /// One that is there already, or cannot be made.
    pub fn file(path: PathBuf) -> io::Result<(File, Unfinished)> {
        let mut all = lock(&UNFINISHED);
        let file = File::create_new(&path)?;
        all.insert(path.clone());
        Ok((file, Unfinished { path, here: true }))
    }

    /// A folder, new in general.
    ///
    /// # Errors
    /// One that cannot be made.
    pub fn folder(path: PathBuf) -> io::Result<Unfinished> {
        let mut all = lock(&UNFINISHED);
        fs::create_dir_all(&path)?;
        all.insert(path.clone());
        Ok(Unfinished { path, here: true })
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// Those of the file system; it is removed then.
    pub fn finish(mut self, name: &Path) -> io::Result<()> {
        let mut all = lock(&UNFINISHED);
        fs::rename(&self.path, name)?;
        all.remove(&self.path);
        self.here = false;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.here {
            remove(&self.path);
            lock(&UNFINISHED).remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, name) = (dir.path().join("a.tmp"), dir.path().join("a"));
        let (mut file, unfinished) = Unfinished::file(temporary.clone()).unwrap();
        file.write_all(b"half").unwrap();
        assert!(Unfinished::file(temporary.clone()).is_err() && temporary.exists());
        drop(unfinished);
        assert!(!temporary.exists() && !name.exists());
        let (_, unfinished) = Unfinished::file(temporary.clone()).unwrap();
        unfinished.finish(&name).unwrap();
        assert!(!temporary.exists() && name.exists());
        let folder = Unfinished::folder(temporary.clone()).unwrap();
        // A folder does not replace a file; then it goes with what is in it.
        fs::write(folder.path().join("b"), "").unwrap();
        assert!(folder.finish(&name).is_err());
        assert!(!temporary.exists() && lock(&UNFINISHED).iter().all(|p| !p.starts_with(dir.path())));
    }
}
