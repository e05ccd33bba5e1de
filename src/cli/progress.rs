//! Progress bars on standard error.

use crate::progress::{Progress, ProgressEvent};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::Duration;

/// The length of a run's bar; its reports are fractions from 0 to 1.
const STEPS: u64 = 1000;
/// The styles of bars: of a run, of work of unknown length, of a download.
const RUN: &str = "{prefix}  {bar:30.cyan/dim} {percent:>3} %  {eta} left  {wide_msg}";
const SEARCH: &str = "{prefix}  {spinner:.cyan}  {elapsed}  {wide_msg}";
const DOWNLOAD: &str = "{prefix}  {bar:20.cyan/dim} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";

/// The visible bars: one for the run and one for the current download.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    run: Option<ProgressBar>,
    download: Option<ProgressBar>,
}

/// A progress that draws bars while something runs. Draws nothing if standard error is not a terminal.
pub(super) fn with_bar() -> Progress {
    let bars = Mutex::new(Bars::default());
    Progress::default().reporting_to(move |report| {
        bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner).show(report);
    })
}

impl Bars {
    fn show(&mut self, report: ProgressEvent) {
        match report {
            ProgressEvent::Started { label } => {
                let bar = ProgressBar::no_length().with_style(style(SEARCH)).with_prefix(label);
                let bar = self.all.add(bar);
                bar.enable_steady_tick(Duration::from_millis(200));
                self.run = Some(bar);
            }
            ProgressEvent::Downloading { file, done, total } => self.show_download(file, done, total),
            ProgressEvent::Warning(text) => {
                self.all.suspend(|| super::terminal::to_stderr(&format!("warning: {text}")))
            }
            ProgressEvent::Finished => {
                if let Some(bar) = self.run.take() {
                    bar.finish_and_clear();
                }
            }
            ProgressEvent::Advanced { fraction, counts } => {
                let Some(bar) = &self.run else { return };
                if let Some(fraction) = fraction {
                    if bar.length().is_none() {
                        bar.set_style(style(RUN));
                        bar.set_length(STEPS);
                    }
                    bar.set_position((fraction * STEPS as f64) as u64);
                }
                bar.set_message(of_run(&counts, bar.elapsed()));
            }
        }
    }

    fn show_download(&mut self, file: String, done: u64, total: Option<u64>) {
        let same = self.download.take().filter(|bar| bar.prefix() == file);
        let bar = same.unwrap_or_else(|| {
            // Bytes left by an earlier run that failed do not count toward the speed.
            let bar =
                ProgressBar::no_length().with_style(style(DOWNLOAD)).with_prefix(file).with_position(done);
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

/// The counts of a run as text, with the rate of the finest unit: `12 documents, 345 tokens, 60 tokens/s`.
pub(super) fn of_run(counts: &[(&str, u64)], elapsed: Duration) -> String {
    let mut parts: Vec<_> = counts.iter().map(|(unit, n)| format!("{n} {unit}")).collect();
    if let Some((unit, n)) = counts.last() {
        parts.push(format!("{:.0} {unit}/s", *n as f64 / elapsed.as_secs_f64().max(1e-3)));
    }
    parts.join(", ")
}

/// The bytes downloaded so far as text, such as `1.20 MiB of 3.00 MiB`.
pub(super) fn of_download(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
        None => HumanBytes(done).to_string(),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
