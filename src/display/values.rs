//! The forms of figures, models, SAEs, features, tensors, activation caches, lists of SAEs and datasets.

use super::{Shown, html, strongest, to_json};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hooks::ActivationCache;
use crate::label::number;
use crate::linalg::f32s;
use crate::model::Model;
use crate::plot::Figure;
use crate::registry::SaeTable;
use crate::sae::{Feature, FeatureActs, Sae};
use crate::tensors;
use candle_core::{DType, Tensor, WithDType};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;

/// The most rows in a table of a long value; four times as many for a list of SAEs.
const ROWS: usize = 50;

impl Shown for Figure {
    fn title(&self) -> String {
        "a picture".to_owned()
    }

    fn text(&self) -> String {
        let (width, height) = self.size();
        format!("Figure, {width} x {height} pixels")
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let (width, height) = self.size();
        to_json(&json!({ "width": width, "height": height }), out)
    }

    fn figure(&self) -> Option<Figure> {
        Some(self.clone())
    }
}

impl Shown for Model {
    fn title(&self) -> String {
        format!("the model {}", self.cfg().model_name)
    }

    fn text(&self) -> String {
        format!("{self}")
    }

    fn html(&self) -> Option<String> {
        Some(html::details(&self.text(), &facts(self.cfg())))
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(self.cfg(), out)
    }
}

impl Shown for Sae {
    fn title(&self) -> String {
        format!("the SAE {}", self.cfg().sae_id)
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> Option<String> {
        let text = self.to_string();
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let lines = rest.lines().filter_map(|line| line.trim().split_once(": "));
        let rows: Vec<_> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(html::details(first, &rows))
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(&self.report(), out)
    }
}

impl Shown for Feature {
    fn title(&self) -> String {
        format!("feature {}", self.index)
    }

    fn text(&self) -> String {
        let (encoder, decoder) = (self.encoder.dims(), self.decoder.dims());
        format!("Feature {}: encoder {encoder:?}, decoder {decoder:?}", self.index)
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let (encoder, decoder) = (f32s(&self.encoder)?, f32s(&self.decoder)?);
        #[derive(Serialize)]
        struct Json {
            index: usize,
            encoder: Vec<f32>,
            decoder: Vec<f32>,
        }
        to_json(&Json { index: self.index, encoder, decoder }, out)
    }
}

impl Shown for FeatureActs {
    fn title(&self) -> String {
        format!("the features of {} tokens", self.len())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> Option<String> {
        let row = |pos: usize| {
            let (features, values) = self.at(pos);
            let strongest = strongest(features, values, |value| number(f64::from(value)));
            vec![pos.to_string(), features.len().to_string(), strongest]
        };
        let rows: Vec<_> = (0..self.len().min(ROWS)).map(row).collect();
        let title =
            format!("FeatureActs [{} tokens, {} features], L0 {:.1}", self.len(), self.d_sae(), self.l0());
        let more = html::more(self.len(), ROWS, "tokens");
        let table = html::table(&["token", "active", "strongest"], &rows, |i| i < 2);
        Some(html::piece(&format!("<div style=\"opacity:.6\">{title}</div>{table}{more}")))
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        #[derive(Serialize)]
        struct Json<'a> {
            d_sae: usize,
            active_features: Vec<&'a [u32]>,
            activations: Vec<&'a [f32]>,
        }
        let (active_features, activations) = (0..self.len()).map(|pos| self.at(pos)).unzip();
        to_json(&Json { d_sae: self.d_sae(), active_features, activations }, out)
    }
}

impl Shown for ActivationCache {
    fn title(&self) -> String {
        "an activation cache".to_owned()
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> Option<String> {
        let rows: Vec<_> = self
            .iter()
            .map(|(name, tensor)| vec![format!("<code>{name}</code>"), format!("{:?}", tensor.dims())])
            .collect();
        Some(html::piece(&html::table(&["activation", "shape"], &rows, |_| false)))
    }

    /// Writes only the shapes; [`ActivationCache::save`] writes the values.
    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let shapes: Map<_, _> = self.iter().map(|(name, t)| (name.to_string(), json!(t.dims()))).collect();
        to_json(&shapes, out)
    }
}

impl Shown for Tensor {
    fn title(&self) -> String {
        format!("a tensor {:?}", self.dims())
    }

    fn text(&self) -> String {
        tensors::describe(self).unwrap_or_else(|_| format!("Tensor {:?}", self.dims()))
    }

    /// Writes the dtype, the shape, and all elements as one flat array.
    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let (dtype, shape) = (self.dtype().as_str(), self.dims());
        put(out, &format!("{{ \"dtype\": \"{dtype}\", \"shape\": {shape:?}, \"values\": ["))?;
        match self.dtype() {
            DType::U8 | DType::U32 | DType::I64 => put_elements::<i64>(self, out)?,
            DType::F64 => put_elements::<f64>(self, out)?,
            _ => put_elements::<f32>(self, out)?,
        }
        put(out, "] }\n")
    }
}

fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(Error::failed("write JSON"))
}

fn put_elements<T: WithDType + Serialize>(tensor: &Tensor, out: &mut dyn Write) -> Result<()> {
    let mut is_first = true;
    tensors::blocks::<T>(tensor, |elements| {
        let elements: Vec<_> = elements.iter().map(|x| json!(x).to_string()).collect();
        put(out, if std::mem::take(&mut is_first) { "" } else { ", " })?;
        put(out, &elements.join(", "))
    })
}

impl Shown for SaeTable {
    fn title(&self) -> String {
        "a list of SAEs".to_owned()
    }

    own_text_and_json!();

    fn html(&self) -> Option<String> {
        let row = |sae: &crate::registry::SaeListing| {
            let width = sae.width.map_or(String::new(), |width| width.to_string());
            let l0 = sae.l0.map_or(String::new(), number);
            let hook = sae.hook.as_deref().unwrap_or_default();
            [&sae.release, &sae.sae_id, hook, &width, &l0].map(html::escape).to_vec()
        };
        let rows: Vec<_> = self.saes.iter().take(4 * ROWS).map(row).collect();
        let table = html::table(&["release", "sae_id", "hook", "width", "l0"], &rows, |i| i > 2);
        let more = html::more(self.saes.len(), 4 * ROWS, "SAEs");
        Some(html::piece(&format!("{table}{more}")))
    }
}

impl Shown for Dataset {
    fn title(&self) -> String {
        format!("the dataset {}", self.path())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let files: Vec<_> = self.files().map(|path| path.display().to_string()).collect();
        to_json(&json!({ "path": self.path(), "split": self.split(), "files": files }), out)
    }
}

/// The names and values of a configuration's fields, without those that are null.
fn facts(cfg: &impl Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(cfg) else { return Vec::new() };
    let text = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    fields.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect()
}
