//! How far a run has come, as bars on the standard error.

use crate::progress::{Progress, Report};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
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
                let bar = self.all.add(ProgressBar::new(STEPS).with_style(of_run()).with_prefix(label));
                bar.enable_steady_tick(Duration::from_millis(200));
                self.run = Some(bar);
            }
            Report::Advanced { documents, tokens, fraction } => {
                if let Some(bar) = &self.run {
                    let per_second = tokens as f64 / bar.elapsed().as_secs_f64().max(1e-3);
                    bar.set_position((fraction * STEPS as f64) as u64);
                    bar.set_message(format!(
                        "{documents} documents, {tokens} tokens, {per_second:.0} tokens/s"
                    ));
                }
            }
            Report::Grown { features, nodes, fraction } => {
                if let Some(bar) = &self.run {
                    bar.set_position((fraction * STEPS as f64) as u64);
                    bar.set_message(format!("{features} features, {nodes} nodes"));
                }
            }
            Report::Level { depth, nodes } => {
                if let Some(bar) = &self.run {
                    bar.set_message(format!("{nodes} nodes at level {depth}"));
                }
            }
            Report::Downloading { file, done, total } => self.show_download(file, done, total),
            Report::Warning(text) => self.all.suspend(|| super::to_stderr(&format!("warning: {text}"))),
            Report::Finished => {
                if let Some(bar) = self.run.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn show_download(&mut self, file: String, done: u64, total: Option<u64>) {
        let same = self.download.take().filter(|bar| bar.prefix() == file);
        let bar = same.unwrap_or_else(|| {
            // What was here before, from a run that failed, counts for nothing in the speed.
            let bar =
                ProgressBar::no_length().with_style(of_download()).with_prefix(file).with_position(done);
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

fn of_run() -> ProgressStyle {
    style("{prefix}  {bar:30.cyan/dim} {percent:>3} %  {msg}  {eta} left")
}

fn of_download() -> ProgressStyle {
    style("{prefix}  {bar:30.cyan/dim} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
