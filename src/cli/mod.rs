//! The command line: from arguments to a running pipeline or an answer, and from its end to an exit code.
//!
//! Invariants:
//! - Three steps, in this order: `args` is what was typed, `plan` is what it means, `build` makes the workers.
//! - Records go to stdout, answers go to stdout, everything else goes to stderr.
//! - The exit code follows from the error's class alone.

mod args;
mod build;
mod check;
mod footprint;
mod health;
mod logging;
mod offsets;
mod plan;
mod progress;
mod report;
mod signals;
mod stream;
mod subscribe;

use crate::config::{self, LogFormat, Variables};
use crate::error::Result;
use plan::{Plan, Work};

pub use args::Cli;

/// The variables of this process; one that is not UTF-8 is nobody's key.
pub fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Does what was asked for and says how it ended: the process exit code.
pub async fn run(cli: Cli, variables: &Variables) -> u8 {
    let mut format = cli.log.log_format.unwrap_or_default();
    let result = async {
        let plan = Plan::new(cli, variables)?;
        format = plan.log.format;
        logging::start(&plan.log)?;
        work(plan.work).await
    };
    match result.await {
        Ok(code) => code,
        Err(error) => {
            match format {
                LogFormat::Text => eprintln!("{}", report::explain(&error)),
                LogFormat::Json => eprintln!("{}", report::explain_json(&error)),
            }
            error.class().exit_code()
        }
    }
}

async fn work(work: Work) -> Result<u8> {
    match work {
        Work::Stream(stream) => stream::run(*stream).await.map(|()| 0),
        Work::Check { config, json } => check::check(&config, json).await,
        Work::Discover(config) => check::discover(&config).await.map(|()| 0),
        Work::Subscribe(subscription) => subscribe::run(*subscription).await.map(|()| 0),
        Work::Health(health) => health::run(health).await,
        Work::Spec => report::answer_json(&config::spec()).map(|()| 0),
        Work::Offsets(offsets) => offsets::run(*offsets).await,
    }
}
