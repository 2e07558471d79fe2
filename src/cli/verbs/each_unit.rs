//! Runs a verb for several units, one after another.

use crate::cli::args::Common;
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::output::{Reply, print_error, print_nothing_to_do, print_reply};
use crate::operations::interruption::Interrupted;
use crate::operations::outcome::NothingToDo;
use anstream::ColorChoice;

/// Runs a verb for each unit and prints each reply. Returns the worst status. With several units, an error of one is
/// printed and the next unit follows; an interruption ends them all.
///
/// # Errors
/// stdout cannot be written, the verb was interrupted, or it fails for the only unit.
pub(crate) async fn run<R: Reply>(
    common: &Common,
    color: ColorChoice,
    units: &[ChosenUnit],
    verb: impl AsyncFn(&ChosenUnit) -> anyhow::Result<R>,
) -> anyhow::Result<ExitStatus> {
    let mut worst = ExitStatus::Done;
    for unit in units {
        let status = match verb(unit).await {
            Ok(reply) => print_reply(common, color, &reply)?,
            Err(error) if units.len() == 1 || error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                let text = format!("{error:#}");
                if error.is::<NothingToDo>() {
                    print_nothing_to_do(common.is_json(), color, &text)?;
                } else {
                    print_error(common.is_json(), color, &text)?;
                }
                ExitStatus::from_error(&error)
            }
        };
        worst = worst.max(status);
    }
    Ok(worst)
}
