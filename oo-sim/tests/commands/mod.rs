//! The program, run to its end.

use std::process::{Command, Output};

pub fn oo_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oo-sim")).args(args).output().unwrap()
}

pub fn succeeds(args: &[&str]) -> String {
    let output = oo_sim(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must end with 2 and print nothing else.
pub fn fails(args: &[&str]) -> String {
    let output = oo_sim(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?} printed something before it failed");
    error
}
