//! The forms of definition trees, token lists, logit lenses, similar features, feature vectors and scale sweeps.

use super::{Shown, html, to_json};
use crate::error::Result;
use crate::interpret::{DefinitionTree, FeatureVector, LogitLens, ScaleSweep, SimilarFeatures, TokenList};
use crate::plot::{Figure, features_figure, lens_figure, tokens_figure, tree_dot, tree_figure};
use std::io::Write;

/// The most nodes of a tree in a preview picture.
const NODES: usize = 100;
/// The most nodes of a tree in HTML.
const LISTED: usize = 2000;

impl Shown for DefinitionTree {
    fn title(&self) -> String {
        format!("the definition tree of {}", self.params.vector.title())
    }

    fn text(&self) -> String {
        self.to_text(None)
    }

    fn html(&self) -> Option<String> {
        let likeliest = self.likeliest(LISTED);
        Some(html::tree(self, likeliest.as_ref().map_or(self, |(tree, _)| tree)))
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(self, out)
    }

    fn figure(&self) -> Option<Figure> {
        Some(tree_figure(self))
    }

    fn preview(&self) -> Option<Figure> {
        Some(tree_figure(&self.likeliest(NODES).map_or_else(|| self.clone(), |(tree, _)| tree)))
    }

    fn brief(&self) -> String {
        self.to_string()
    }

    fn dot(&self) -> Option<String> {
        Some(tree_dot(self))
    }
}

impl Shown for TokenList {
    fn title(&self) -> String {
        self.params.title()
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        Some(html::tokens(&self.tokens))
    }

    fn figure(&self) -> Option<Figure> {
        Some(tokens_figure(self))
    }

    fn csv(&self) -> Result<Option<String>> {
        self.to_csv().map(Some)
    }
}

impl Shown for LogitLens {
    fn title(&self) -> String {
        format!("the logit lens of {}", self.params.title())
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        Some(html::lens(self))
    }

    fn figure(&self) -> Option<Figure> {
        Some(lens_figure(self))
    }
}

impl Shown for SimilarFeatures {
    fn title(&self) -> String {
        format!("features like {} of {}", self.feature, self.sae)
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        Some(html::features(self))
    }

    fn figure(&self) -> Option<Figure> {
        Some(features_figure(self))
    }
}

impl Shown for FeatureVector {
    fn title(&self) -> String {
        self.params.title()
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        Some(html::preformatted(&self.to_string()))
    }
}

impl Shown for ScaleSweep {
    fn title(&self) -> String {
        format!("scales of {}", self.best().params.vector.title())
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        Some(html::sweep(self))
    }

    fn figure(&self) -> Option<Figure> {
        Some(tree_figure(self.best()))
    }
}
