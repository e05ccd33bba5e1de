//! How far a run has come, as bars on the standard error.

use crate::progress::{Progress, Report};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::Duration;

/// The steps of the bar of a run: reports come as fractions.
const STEPS: u64 = 1000;

/// The bars that are shown: one of the run, and one of a file that is being downloaded.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    run: Option<ProgressBar>,
    download: Option<ProgressBar>,
}

/// A progress that draws bars while something runs. Where the standard error is no terminal, nothing is drawn.
pub(super) fn with_bar() -> Progress {
    let bars = Mutex::new(Bars::default());
    Progress::default().reporting_to(move |report| {
        bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner).show(report);
    })
}

impl Bars {
    fn show(&mut self, report: Report) {
        match report {
            Report::Started { label } => {
                let bar = ProgressBar::no_length().with_style(style_of_search()).with_prefix(label);
                let bar = self.all.add(bar);
                bar.enable_steady_tick(Duration::from_millis(200));
                self.run = Some(bar);
            }
            Report::Downloading { file, done, total } => self.show_download(file, done, total),
            Report::Warning(text) => {
                self.all.suspend(|| super::terminal::to_stderr(&format!("warning: {text}")))
            }
            Report::Finished => {
                if let Some(bar) = self.run.take() {
                    bar.finish_and_clear();
                }
            }
            report => {
                let Some(bar) = &self.run else { return };
                if let Some((fraction, message)) = message(&report, bar.elapsed()) {
                    if let Some(fraction) = fraction {
                        if bar.length().is_none() {
                            bar.set_style(style_of_run());
                            bar.set_length(STEPS);
                        }
                        bar.set_position((fraction * STEPS as f64) as u64);
                    }
                    bar.set_message(message);
                }
            }
        }
    }

    fn show_download(&mut self, file: String, done: u64, total: Option<u64>) {
        let same = self.download.take().filter(|bar| bar.prefix() == file);
        let bar = same.unwrap_or_else(|| {
            // What was here before, from a run that failed, counts for nothing in the speed.
            let bar = ProgressBar::no_length()
                .with_style(style_of_download())
                .with_prefix(file)
                .with_position(done);
            let bar = self.all.add(bar);
            bar.reset_eta();
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total == Some(done) {
            bar.finish_and_clear();
        } else {
            self.download = Some(bar);
        }
    }
}

/// What a report of a run says: how much of the work is done, if it says so, and how far it has come in words.
pub(super) fn message(report: &Report, elapsed: Duration) -> Option<(Option<f64>, String)> {
    match report {
        Report::Advanced { documents, tokens, fraction } => {
            let per_second = *tokens as f64 / elapsed.as_secs_f64().max(1e-3);
            let text = format!("{documents} documents, {tokens} tokens, {per_second:.0} tokens/s");
            Some((Some(*fraction), text))
        }
        Report::Grown { features, nodes, fraction } => {
            Some((Some(*fraction), format!("{features} features, {nodes} nodes")))
        }
        Report::Level { depth, nodes } => Some((None, format!("{nodes} nodes at level {depth}"))),
        _ => None,
    }
}

/// How much of a file is there, in words.
pub(super) fn of_download(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
        None => HumanBytes(done).to_string(),
    }
}

fn style_of_run() -> ProgressStyle {
    style("{prefix}  {bar:30.cyan/dim} {percent:>3} %  {eta} left  {wide_msg}")
}

/// Of work of which nobody has said how much there will be.
fn style_of_search() -> ProgressStyle {
    style("{prefix}  {spinner:.cyan}  {elapsed}  {wide_msg}")
}

fn style_of_download() -> ProgressStyle {
    style("{prefix}  {bar:20.cyan/dim} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
