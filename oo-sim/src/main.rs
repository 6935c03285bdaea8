//! The `oo-sim` program; everything is in the library.

fn main() -> std::process::ExitCode {
    oo_sim::commands::main()
}
