//! Progress bars below a cell, redrawn in place (`update_display_data`).

use super::super::progress::{of_download, of_run};
use super::cell::Cell;
use crate::display::escape;
use crate::progress::ProgressEvent;
use jupyter_protocol::{DisplayData, JupyterMessageContent, Media, MediaType, Transient, UpdateDisplayData};
use std::time::{Duration, Instant};

/// A call that ends within this time shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// The minimum time between two redraws of a bar.
const PAUSE: Duration = Duration::from_millis(100);

/// The bars of a cell.
#[derive(Default)]
pub(super) struct Bars {
    /// The number of bars so far, for their ids.
    count: usize,
    run: Option<Bar>,
    download: Option<Bar>,
    cell: Option<Cell>,
}

/// The bar of a run or a download.
struct Bar {
    label: String,
    message: String,
    /// The fraction of the work done, if known.
    fraction: Option<f64>,
    started: Instant,
    drawn: Option<Instant>,
    id: String,
}

impl Bars {
    /// Updates the bars from a report and sends those to redraw.
    pub(super) fn report(
        &mut self,
        report: ProgressEvent,
        cell: &Cell,
        send: impl Fn(JupyterMessageContent),
    ) {
        self.cell = Some(cell.clone());
        match report {
            ProgressEvent::Started { label } => self.run = Some(self.new_bar(label)),
            ProgressEvent::Finished => {
                if let Some(bar) = self.run.take() {
                    bar.end(send);
                }
            }
            ProgressEvent::Downloading { file, done, total } => {
                let same = self.download.take().filter(|bar| bar.label == file);
                let mut bar = same.unwrap_or_else(|| self.new_bar(file));
                bar.fraction = total.map(|total| done as f64 / total.max(1) as f64);
                bar.message = of_download(done, total);
                if total == Some(done) {
                    return bar.end(send);
                }
                bar.draw(send);
                self.download = Some(bar);
            }
            ProgressEvent::Advanced { fraction, counts } => {
                let Some(bar) = &mut self.run else { return };
                bar.fraction = fraction.or(bar.fraction);
                bar.message = of_run(&counts, bar.started.elapsed());
                bar.draw(send);
            }
            // The cell shows warnings among its output.
            ProgressEvent::Warning(_) => {}
        }
    }

    /// Ends the cell's bars. A bar that a failed call left keeps its last state.
    pub(super) fn end(&mut self, send: impl Fn(JupyterMessageContent, &Cell)) {
        let cell = self.cell.take();
        for bar in [self.run.take(), self.download.take()].into_iter().flatten() {
            if let Some(cell) = &cell {
                bar.end(|content| send(content, cell));
            }
        }
    }

    /// Drops all bars without drawing them.
    pub(super) fn forget(&mut self) {
        (self.run, self.download, self.cell) = (None, None, None);
    }

    fn new_bar(&mut self, label: String) -> Bar {
        self.count += 1;
        let id = format!("saescope-{}-{}", std::process::id(), self.count);
        Bar { label, message: String::new(), fraction: None, started: Instant::now(), drawn: None, id }
    }
}

impl Bar {
    fn draw(&mut self, send: impl Fn(JupyterMessageContent)) {
        let now = Instant::now();
        match self.drawn {
            None if self.started.elapsed() < PATIENCE => return,
            None => {
                let transient = Some(Transient { display_id: Some(self.id.clone()) });
                send(DisplayData { data: self.media(), metadata: Default::default(), transient }.into());
            }
            Some(drawn) if drawn + PAUSE > now => return,
            Some(_) => send(UpdateDisplayData::new(self.media(), &self.id).into()),
        }
        self.drawn = Some(now);
    }

    /// Replaces the bar with a line of text.
    fn end(self, send: impl Fn(JupyterMessageContent)) {
        if self.drawn.is_none() {
            return;
        }
        let text = format!("{}: {}, {:.1} s", self.label, self.message, self.started.elapsed().as_secs_f64());
        let html = format!("<div style=\"opacity:.6;font-size:12px\">{}</div>", escape(&text));
        let media = Media::new(vec![MediaType::Plain(text), MediaType::Html(html)]);
        send(UpdateDisplayData::new(media, &self.id).into());
    }

    fn media(&self) -> Media {
        let percent = self.fraction.map(|fraction| 100.0 * fraction.clamp(0.0, 1.0));
        let done = percent.map_or(String::new(), |percent| format!(" {percent:.0} %,"));
        let text = format!("{}:{done} {}", self.label, self.message);
        let bar = percent.map_or(String::new(), |percent| {
            format!(
                "<span style=\"display:inline-block;width:220px;height:8px;margin:0 8px;background:rgba(128,128,128,.25);\
                 border-radius:4px\"><span style=\"display:block;width:{percent:.1}%;height:8px;background:#2a3fb5;\
                 border-radius:4px\"></span></span>{percent:.0} % &nbsp; "
            )
        });
        let html = format!(
            "<div style=\"font-size:12px\">{} {bar}{}</div>",
            escape(&self.label),
            escape(&self.message)
        );
        Media::new(vec![MediaType::Plain(text), MediaType::Html(html)])
    }
}
