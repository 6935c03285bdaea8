//! The winning policy behind HTTP. Not built yet: this program says so and does nothing else.

fn main() {
    eprintln!("oo-serve is not built yet; use `oo-sim compare` to find the policy that it will serve");
    std::process::exit(1);
}
