//! The hook points of a model, and the selection of them by names and patterns.

use super::name::{HookName, HookPoint, POINTS, unknown_hook};
use super::spelling::{Meaning, Spelled, Traits, meaning};
use crate::error::{Error, Result};

/// The hook points of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPoints {
    n_layers: usize,
    absent: Vec<HookPoint>,
}

impl HookPoints {
    /// The hook points of a model with `n_layers` blocks, without those in `absent`.
    pub fn new(n_layers: usize, absent: impl IntoIterator<Item = HookPoint>) -> Self {
        HookPoints { n_layers, absent: absent.into_iter().collect() }
    }

    /// The names of all points, in the order of a pass.
    pub fn all(&self) -> Vec<HookName> {
        let globals = self.points().filter(|point| !point.is_in_block()).map(HookName::global);
        let in_blocks = (0..self.n_layers).flat_map(|layer| {
            self.points().filter(|p| p.is_in_block()).map(move |point| HookName::in_block(layer, point))
        });
        let mut names: Vec<_> = globals.chain(in_blocks).collect();
        names.sort();
        names
    }

    /// The points that names and patterns select, in the order of a pass. A name may be another library's, as in
    /// [`HookPoints::find`]. In a pattern `*` matches any characters, so that `blocks.*.hook_out` also selects
    /// `blocks.0.attn.hook_out`. In another library's name `*` matches the number of a block, or at the beginning of a
    /// bridge's name everything before it: `*.mlp.hook_out`.
    ///
    /// # Errors
    /// A name that is not a hook point of this model; a pattern that matches nothing.
    pub fn select<S: AsRef<str>>(&self, patterns: &[S]) -> Result<Vec<HookName>> {
        let all = self.all();
        let mut selected = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if !pattern.contains('*') {
                selected.push(self.find(pattern)?);
                continue;
            }
            let before = selected.len();
            let fits = |n: &&HookName| !n.point().is_opt_in() && matches_pattern(pattern, &n.to_string());
            selected.extend(all.iter().filter(fits));
            if pattern.starts_with('*') {
                // The pattern does not name a block: it may match the end of a bridge's name.
                let fitting = bridge_names(self.n_layers).filter(|name| matches_pattern(pattern, name));
                let found: Vec<_> = fitting.filter_map(|name| self.find(&name).ok()).collect();
                selected.extend(found.iter().filter(|name| !name.point().is_opt_in()));
                if selected.len() == before {
                    selected.extend(found);
                }
            } else {
                let in_layer = |layer: usize| self.find(&pattern.replace('*', &layer.to_string())).ok();
                selected.extend((0..self.n_layers).filter_map(in_layer));
            }
            if selected.len() == before {
                return Err(self.unknown(pattern));
            }
        }
        selected.sort();
        selected.dedup();
        Ok(selected)
    }

    /// Returns the point of this model that has this name in TransformerLens or in another library, such as
    /// `model.layers.5.mlp`.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// let points = saescope::Model::load("demo")?.cfg().hook_points();
    /// assert_eq!(points.find("blocks.2.hook_out")?.to_string(), "blocks.2.hook_resid_post");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An unknown name; a module without a hook point; a point that this model does not have.
    pub fn find(&self, name: &str) -> Result<HookName> {
        Ok(self.spelled(name)?.name)
    }

    /// Like [`HookPoints::find`], for an activation that will be changed.
    ///
    /// # Errors
    /// As [`HookPoints::find`]; the input of one of several modules that read the same activation.
    pub fn find_to_edit(&self, name: &str) -> Result<HookName> {
        let Spelled { name: point, is_shared, .. } = self.spelled(name)?;
        if !is_shared {
            return Ok(point);
        }
        let hint = match point.point() {
            HookPoint::AttnNormedIn => {
                "change `attn.hook_in` for all of them, or one of `hook_q_input`, `hook_k_input` and `hook_v_input`"
            }
            _ => "change `mlp.hook_in` for both of them",
        };
        Err(Error::mismatch(
            format!("`{name}` cannot be changed by itself: other modules read `{point}` as well"),
            hint,
        ))
    }

    fn spelled(&self, name: &str) -> Result<Spelled> {
        let exact = HookName::exact(name.trim());
        if let Some(name) = exact.filter(|exact| self.check(exact).is_ok()) {
            return Ok(Spelled::exactly(name));
        }
        let traits = Traits {
            has_pre_norm: self.has(HookPoint::Ln1Normalized),
            has_post_norm: self.has(HookPoint::Ln1PostNormalized),
            is_gated: self.has(HookPoint::MlpPreLinear),
        };
        match (meaning(name, Some((traits, self.n_layers))), exact) {
            (Meaning::Point(spelled), _) => {
                if let (Some(norm), Some(layer)) = (spelled.norm, spelled.name.layer()) {
                    self.check(&HookName::in_block(layer, norm))?;
                }
                let name = self.canonical(spelled.name);
                self.check(&name)?;
                Ok(Spelled { name, ..spelled })
            }
            (_, Some(exact)) => {
                self.check(&exact)?;
                Ok(Spelled::exactly(exact))
            }
            (Meaning::NoPoint, None) => Err(Error::mismatch(
                format!("there is no hook point for the activation of `{name}`"),
                "`hook_names()` lists the hook points; a module that computes several activations at once has a point for each, \
                 such as `hook_q`, `hook_k` and `hook_v`",
            )),
            (_, None) => Err(self.unknown(name)),
        }
    }

    /// Replaces `attn.hook_out` by `hook_attn_out`, and likewise for the MLP, in a model that does not normalize it.
    fn canonical(&self, name: HookName) -> HookName {
        let point = match name.point() {
            HookPoint::AttnPreNormOut if !self.has(HookPoint::AttnPreNormOut) => HookPoint::AttnOut,
            HookPoint::MlpPreNormOut if !self.has(HookPoint::MlpPreNormOut) => HookPoint::MlpOut,
            _ => return name,
        };
        name.layer().map_or(name, |layer| HookName::in_block(layer, point))
    }

    /// Checks that the model has this point.
    ///
    /// # Errors
    /// A block beyond the last, or a point that the model lacks; the message says why.
    pub fn check(&self, name: &HookName) -> Result<()> {
        if let Some(layer) = name.layer().filter(|layer| *layer >= self.n_layers) {
            return Err(Error::Invalid {
                what: format!("hook `{name}`"),
                expected: format!("a block from 0 to {}", self.n_layers.saturating_sub(1)),
                got: layer.to_string(),
                hint: Some(format!("the model has {} blocks, counted from 0", self.n_layers)),
            });
        }
        if self.has(name.point()) {
            return Ok(());
        }
        let reason = match name.point() {
            HookPoint::ResidMid => {
                "its attention and MLP read the same residual stream: there is nothing between them"
            }
            HookPoint::PosEmbed => "it rotates queries and keys instead of adding position embeddings",
            HookPoint::RotQ | HookPoint::RotK => "it adds position embeddings instead of rotating",
            HookPoint::AttnIn => {
                "several queries share a key; use `hook_q_input`, `hook_k_input` or `hook_v_input`"
            }
            HookPoint::MlpPreLinear => "its MLP is not gated",
            HookPoint::AttnPreNormOut => "it does not normalize the output of attention; use `hook_attn_out`",
            HookPoint::MlpPreNormOut => "it does not normalize the output of the MLP; use `hook_mlp_out`",
            _ => "it has no such norm",
        };
        Err(Error::mismatch(
            format!("this model has no hook `{name}`: {reason}"),
            "`hook_names()` lists the hooks of this model",
        ))
    }

    fn has(&self, point: HookPoint) -> bool {
        !self.absent.contains(&point)
    }

    fn points(&self) -> impl Iterator<Item = HookPoint> {
        POINTS.iter().map(|(point, _)| *point).filter(|point| self.has(*point))
    }

    fn unknown(&self, name: &str) -> Error {
        unknown_hook(name, self.n_layers.saturating_sub(1), self.points())
    }
}

/// The names of module inputs and outputs in the bridge of TransformerLens 3, for all kinds of models.
fn bridge_names(n_layers: usize) -> impl Iterator<Item = String> {
    const OUTSIDE: [&str; 4] = ["embed", "pos_embed", "ln_final", "unembed"];
    const IN_BLOCK: [&str; 15] = [
        "",
        ".ln1",
        ".ln1_post",
        ".ln2",
        ".ln2_post",
        ".attn",
        ".attn.q",
        ".attn.k",
        ".attn.v",
        ".attn.q_norm",
        ".attn.k_norm",
        ".attn.o",
        ".mlp",
        ".mlp.in",
        ".mlp.out",
    ];
    let in_blocks = move |layer| IN_BLOCK.iter().map(move |module| format!("blocks.{layer}{module}"));
    let modules = OUTSIDE.map(str::to_owned).into_iter().chain((0..n_layers).flat_map(in_blocks));
    modules.flat_map(|module| ["hook_in", "hook_out"].map(|side| format!("{module}.{side}")))
}

/// Whether `name` matches `pattern`, in which `*` matches any run of characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || last.is_empty() || name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort_in_the_order_of_a_pass() {
        let names = HookPoints::new(2, []).all();
        for name in &names {
            assert_eq!(&name.to_string().parse::<HookName>().unwrap(), name);
        }
        let text: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(text.first().map(String::as_str), Some("hook_embed"));
        assert_eq!(text.last().map(String::as_str), Some("unembed.hook_out"));
        let at = |n: &str| text.iter().position(|t| t == n).unwrap();
        assert!(at("blocks.0.hook_resid_post") < at("blocks.1.hook_resid_pre"));
        assert!(at("blocks.1.hook_resid_post") < at("ln_final.hook_scale"));
    }

    #[test]
    fn patterns() {
        assert!(matches_pattern("blocks.*.hook_resid_pre", "blocks.11.hook_resid_pre"));
        assert!(!matches_pattern("blocks.*.hook_resid_pre", "blocks.11.hook_resid_post"));
        assert!(matches_pattern("*hook_z", "blocks.1.attn.hook_z"));
        assert!(matches_pattern("blocks.1.*", "blocks.1.attn.hook_z"));
        let points = HookPoints::new(3, []);
        let some = points.select(&["blocks.*.hook_resid_pre", "hook_embed"]).unwrap();
        assert_eq!(some.len(), 4);
        // A pattern may match the end of a bridge's name, whose block is still a number.
        let outputs = points.select(&["*.hook_out"]).unwrap();
        for name in
            ["hook_embed", "blocks.2.hook_resid_post", "blocks.1.attn.hook_out", "blocks.0.attn.hook_q"]
        {
            assert!(outputs.contains(&name.parse().unwrap()), "{name}");
        }
        assert!(!outputs.contains(&"blocks.0.hook_resid_pre".parse().unwrap()));
        let of_mlps: Vec<_> =
            points.select(&["*mlp.hook_out"]).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(of_mlps, [0, 1, 2].map(|layer| format!("blocks.{layer}.mlp.hook_out")));
        // A norm that a model lacks has no input.
        let plain = HookPoints::new(
            3,
            [
                HookPoint::QNormScale,
                HookPoint::Ln1PostScale,
                HookPoint::AttnPreNormOut,
                HookPoint::MlpPreNormOut,
            ],
        );
        assert!(
            plain.select(&["*q_norm.hook_in"]).is_err() && plain.find("blocks.0.ln1_post.hook_in").is_err()
        );
        let inputs = plain.select(&["*hook_in"]).unwrap();
        assert!(!inputs.contains(&"blocks.0.attn.hook_q".parse().unwrap()));
        assert!(points.find("blocks.0.attn.q_norm.hook_in").is_ok());
        assert!(!points.select(&["*.ln1.hook_out"]).unwrap().is_empty());
        let block = points.select(&["blocks.0.*"]).unwrap();
        assert!(block.iter().all(|n| !n.point().is_opt_in()));
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        for (wrong, right) in [
            ("blocks.2.hook_resid_pree", "blocks.2.hook_resid_pre"),
            ("resid_mid", "blocks.0.hook_resid_mid"),
            ("blocks.1.hook_z", "blocks.1.attn.hook_z"),
        ] {
            let error = HookPoints::new(3, []).select(&[wrong]).unwrap_err();
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(right), "{wrong}: {error} {hint}");
        }
        let error = HookPoints::new(3, []).select(&["blocks.7.hook_resid_pre"]).unwrap_err();
        assert!(error.to_string().contains("from 0 to 2"), "{error}");
    }
}
