//! `kittiwake`: the server with a collector in it.

use std::process::ExitCode;

use clap::Parser as _;
use kittiwake_collector::logging;
use kittiwake_server::args::{Args, Command};
use kittiwake_server::{check_command, logs_command, run, test_command, tsdb_command};

fn main() -> ExitCode {
    // Where it is not taken, more memory is held, and nothing else.
    let _ = kittiwake_env::heap::keep_small();
    let args = Args::parse();
    let says_all_itself = matches!(
        args.command,
        Some(Command::Health | Command::Check(_) | Command::Test(_))
    );
    if !says_all_itself {
        logging::init(args.log_level, args.log_format);
    }
    let done = match &args.command {
        Some(Command::Health) => run::health(&args).map(|()| 0),
        Some(Command::Check(command)) => check_command::run(command),
        Some(Command::Test(command)) => test_command::run(command),
        Some(Command::Tsdb(command)) => tsdb_command::run(&args, command).map(|()| 0),
        Some(Command::Logs(command)) => logs_command::run(&args, *command).map(|()| 0),
        None => run::serve(&args).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("kittiwake: {error:#}");
            ExitCode::FAILURE
        }
    }
}
