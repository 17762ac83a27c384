use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use walbrook::cli;

/// The reader, the workers and the committer of a pipeline: more threads than these would only add memory.
const THREADS_MAX: usize = 4;
/// Address space, of which a thread touches some tens of KiB; debug builds take several times as much.
const THREAD_STACK_BYTES: usize = 2 << 20;
/// What still runs at the end is a blocking call that nobody waits for.
const GOODBYE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // Prints help and version and ends with 0, or tells what is wrong with the arguments and ends with 2.
    let arguments = cli::Cli::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(THREADS_MAX))
        .thread_stack_size(THREAD_STACK_BYTES)
        .thread_name("walbrook")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the runtime\n  because: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(arguments, &cli::variables()));
    runtime.shutdown_timeout(GOODBYE);
    ExitCode::from(code)
}
