//! The forms of feature datasets: records, summaries, examples, densities.

use super::{Shown, html, strongest, tokens};
use crate::dashboard::{ColoredTokens, FeatureDensity, MaxActivatingExamples};
use crate::evaluate::SaeEvaluation;
use crate::extract::{ExtractSummary, FeatureRecord};
use crate::interpret::TreesSummary;
use crate::label::number;
use crate::plot::{Figure, HistogramOptions, PlotOptions, plot_density};

impl Shown for ColoredTokens {
    fn title(&self) -> String {
        format!("tokens with {}", if self.title.is_empty() { "values" } else { &self.title })
    }

    own_text_and_json!();

    fn ansi(&self) -> Option<String> {
        let title = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        Some(format!("{title}{}", tokens::ansi(self, self.largest())))
    }

    fn html(&self) -> Option<String> {
        Some(tokens::html(self))
    }
}

impl Shown for MaxActivatingExamples {
    fn title(&self) -> String {
        format!("the examples of feature {}", self.feature)
    }

    own_text_and_json!();

    fn ansi(&self) -> Option<String> {
        let line = |example: &crate::dashboard::Example| {
            format!("\n{:>9.3}  {}", example.value, tokens::ansi(&example.tokens, self.largest()))
        };
        let lines: String = self.examples.iter().map(line).collect();
        Some(format!("{}{lines}", self.summary()))
    }

    fn html(&self) -> Option<String> {
        let row = |example: &crate::dashboard::Example| {
            let spans = tokens::spans(&example.tokens, self.largest(), None);
            vec![number(f64::from(example.value)), spans]
        };
        let rows: Vec<_> = self.examples.iter().map(row).collect();
        let summary = html::escape(&self.summary());
        Some(html::piece(&format!(
            "<div style=\"opacity:.6\">{summary}</div>{}",
            html::table(&[], &rows, |i| i == 0)
        )))
    }
}

impl MaxActivatingExamples {
    fn largest(&self) -> f32 {
        self.examples.first().map_or(0.0, |example| example.value.abs())
    }
}

impl Shown for FeatureRecord {
    fn title(&self) -> String {
        "a feature record".to_owned()
    }

    own_text_and_json!();

    /// The text: the more features are active on a token, the darker it is. Its tooltip lists the strongest.
    fn html(&self) -> Option<String> {
        let active = self.active_features.iter().map(|active| active.len() as f32);
        let counts =
            ColoredTokens { title: String::new(), tokens: self.str_tokens(), values: active.collect() };
        let note = |(features, values): (&Vec<u32>, &Vec<f32>)| {
            let strongest = strongest(features, values, |value| format!("{value:.2}"));
            format!("{} active: {strongest}", features.len())
        };
        let notes: Vec<_> = self.active_features.iter().zip(&self.activations).map(note).collect();
        // Half as dark as usual: the counts are only a hint.
        let spans = tokens::spans(&counts, 2.0 * counts.largest(), Some(&notes));
        Some(html::piece(&format!("{spans}<div style=\"opacity:.6\">{}</div>", html::escape(&self.counts()))))
    }
}

impl Shown for FeatureDensity {
    fn title(&self) -> String {
        "the densities of features".to_owned()
    }

    own_text_and_json!();

    fn figure(&self) -> Option<Figure> {
        plot_density(self, &HistogramOptions::default(), &PlotOptions::default()).ok()
    }
}

/// The forms of the summary of a run that wrote a file.
macro_rules! summary_forms {
    ($type:ty) => {
        impl Shown for $type {
            fn title(&self) -> String {
                format!("the summary of {}", self.output_path)
            }

            own_text_and_json!();

            fn html(&self) -> Option<String> {
                Some(html::lines(&self.to_string()))
            }
        }
    };
}

summary_forms!(ExtractSummary);
summary_forms!(TreesSummary);

impl Shown for SaeEvaluation {
    fn title(&self) -> String {
        format!("the check of {}", self.sae_id)
    }

    own_text_and_json!();
}
