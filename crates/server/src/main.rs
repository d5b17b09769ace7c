//! `kittiwake`: the server with a collector in it.

use std::process::ExitCode;

use clap::Parser as _;
use kittiwake_collector::logging;
use kittiwake_server::args::{Args, Command};
use kittiwake_server::{logs_command, run, tsdb_command};

fn main() -> ExitCode {
    let args = Args::parse();
    if !matches!(args.command, Some(Command::Health)) {
        logging::init(args.log_level, args.log_format);
    }
    let done = match &args.command {
        Some(Command::Health) => run::health(&args),
        Some(Command::Tsdb(command)) => tsdb_command::run(&args, command),
        Some(Command::Logs(command)) => logs_command::run(&args, *command),
        None => run::serve(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kittiwake: {error:#}");
            ExitCode::FAILURE
        }
    }
}
