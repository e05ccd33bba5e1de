//! How far a run has come, as a bar on the standard error.

use crate::progress::{Progress, Report};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;

/// The steps of a bar: reports come as fractions.
const STEPS: u64 = 1000;

/// A progress that draws a bar while something runs. Where the standard error is no terminal, nothing is drawn.
pub(super) fn with_bar() -> Progress {
    let bar = Mutex::new(ProgressBar::hidden());
    Progress::default().reporting_to(move |report| {
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match report {
            Report::Started { label } => {
                *bar = ProgressBar::new(STEPS).with_style(style()).with_prefix(label);
                bar.enable_steady_tick(std::time::Duration::from_millis(200));
            }
            Report::Advanced { documents, tokens, fraction } => {
                let per_second = tokens as f64 / bar.elapsed().as_secs_f64().max(1e-3);
                bar.set_position((fraction * STEPS as f64) as u64);
                bar.set_message(format!("{documents} documents, {tokens} tokens, {per_second:.0} tokens/s"));
            }
            Report::Warning(text) => bar.suspend(|| super::to_stderr(&format!("warning: {text}"))),
            Report::Finished => bar.finish_and_clear(),
        }
    })
}

fn style() -> ProgressStyle {
    let template = "{prefix}  {bar:30.cyan/dim} {percent:>3} %  {msg}  {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
