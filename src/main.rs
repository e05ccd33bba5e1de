//! The `saescope` program.

fn main() -> std::process::ExitCode {
    saescope::cli::main()
}
