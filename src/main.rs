//! The `ocipull` command: the library, put on a command line.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
