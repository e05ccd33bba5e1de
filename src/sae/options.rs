//! Overrides for what an SAE's checkpoint says.

use super::architecture::ActivationRule;
use super::config::{ActivationNormalization, SaeConfig};
use crate::error::{Error, Result};
use crate::hooks::{HookName, usual_point};
use saescope_options::options;

/// The name of an SAE: "demo", a release, a repository, a folder or a file; with an id if the name leads to several SAEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaeName<'a> {
    /// The name.
    pub name: &'a str,
    /// The id of one SAE in a release, or its path in a repository or folder.
    pub id: Option<&'a str>,
}

impl<'a, N: AsRef<str> + ?Sized> From<&'a N> for SaeName<'a> {
    fn from(name: &'a N) -> Self {
        SaeName { name: name.as_ref(), id: None }
    }
}

impl<'a, N: AsRef<str> + ?Sized, I: Into<Option<&'a str>>> From<(&'a N, I)> for SaeName<'a> {
    fn from((name, id): (&'a N, I)) -> Self {
        SaeName { name: name.as_ref(), id: id.into() }
    }
}

options! {
    /// Overrides for what an SAE's checkpoint says.
    pub struct SaeOptions {
        /// The branch, tag or commit of the SAE's repository on the hub. Default: `main`.
        pub revision: Option<String> = None,
        /// The list of releases to look the name up in, such as a newer `pretrained_saes.yaml` of SAELens. Default: the
        /// embedded list.
        pub registry: Option<String> = None,
        /// The hook point that the SAE reads, by TransformerLens' name or another library's (`model.layers.5.output`).
        /// Default: as in the checkpoint.
        pub hook_name: Option<String> = None,
        /// The hook point whose activation a transcoder predicts. Default: as in the checkpoint.
        pub hook_name_out: Option<String> = None,
        /// The checkpoint's layout: SAELens' name of the loader ("gemma_2", "dictionary_learning_1", …) or saescope's
        /// name of the layout. Default: detected from the files.
        pub conversion: Option<String> = None,
        /// Whether to fold the norms of the decoder's rows into the encoder, as Neuronpedia does: an activation is then
        /// the norm of what the feature adds to the output. Default: as the layout's own project does, which for most
        /// is no.
        pub fold_decoder_norm: Option<bool> = None,
        /// The factor of an `expected_average_only_in` SAE: `sqrt(d_in)` over the mean norm of its training
        /// activations. Default: as in the checkpoint; without one, activations are not scaled.
        pub norm_scaling_factor: Option<f64> = None,
        /// Whether the SAE reads the residual stream minus its mean. Default: as in the checkpoint.
        pub center_writing_weights: Option<bool> = None,
        /// Whether the SAE reads `hook_z` and `hook_v` minus the value bias. Default: as in the checkpoint.
        pub fold_value_biases: Option<bool> = None,
        /// Whether the norm's bias counts as part of the value bias. Default: as in the checkpoint.
        pub fold_ln: Option<bool> = None,
        /// Whether to compute pre-activations in bf16 first, and in f32 only those that may be active by a proven bound: for
        /// 20,000 features or more, up to twice as fast. Sums are rounded in another order, so that activations differ by
        /// about 1e-6 of the terms' size, and features that close to their threshold may differ. Needs AVX512-BF16 and
        /// another 1.5 times the encoder's memory. Default: only where the activations of a model in bf16 are encoded.
        pub screen: Option<bool> = None,
    }
}

impl SaeOptions {
    /// Applies these options to a configuration.
    pub(super) fn over(&self, mut cfg: SaeConfig) -> Result<SaeConfig> {
        let translated = |name: &Option<String>| {
            let parse = |name: &String| match name.parse::<HookName>() {
                Ok(hook) => Ok(hook.to_string()),
                Err(_) if usual_point(name).is_some() => Ok(name.clone()),
                Err(error) => Err(error),
            };
            name.as_ref().map(parse).transpose()
        };
        cfg.hook_name = translated(&self.hook_name)?.or(cfg.hook_name);
        cfg.hook_name_out = translated(&self.hook_name_out)?.or(cfg.hook_name_out);
        let is_scaled = cfg.normalize_activations == ActivationNormalization::ExpectedAverageOnlyIn;
        if self.norm_scaling_factor.is_some() && !is_scaled {
            return Err(Error::mismatch(
                format!(
                    "`norm_scaling_factor` is for SAEs with normalize_activations = expected_average_only_in, this \
                     one has {}",
                    cfg.normalize_activations.name()
                ),
                "leave it out",
            ));
        }
        cfg.norm_scaling_factor = self.norm_scaling_factor.or(cfg.norm_scaling_factor).filter(|_| is_scaled);
        if let Some(factor) = cfg.norm_scaling_factor.filter(|factor| !(factor.is_finite() && *factor > 0.0))
        {
            return Err(Error::invalid("`norm_scaling_factor`", "a number above 0", factor));
        }
        let (name, rule) = (cfg.architecture.name(), cfg.architecture.rule);
        let is_sequential =
            matches!(rule, ActivationRule::MatchingPursuit { .. } | ActivationRule::Temporal { .. });
        if cfg.norm_scaling_factor.is_some() && is_sequential {
            return Err(Error::mismatch(
                format!("`norm_scaling_factor` cannot be folded into a {name} SAE"),
                "its encoder is its decoder, transposed: scale the activations before you encode them",
            ));
        }
        cfg.fold_decoder_norm = self.fold_decoder_norm.unwrap_or(cfg.fold_decoder_norm);
        // Where features compete, the norms must have their part in the selection already.
        let competes = is_sequential || rule.k().is_some() && !rule.rescales();
        if cfg.fold_decoder_norm && competes {
            return Err(Error::mismatch(
                format!("`fold_decoder_norm` would change which features of this {name} SAE are active"),
                "leave it out; it is for SAEs whose features do not compete",
            ));
        }
        cfg.center_writing_weights = self.center_writing_weights.or(cfg.center_writing_weights);
        cfg.fold_value_biases = self.fold_value_biases.unwrap_or(cfg.fold_value_biases);
        cfg.fold_ln = self.fold_ln.unwrap_or(cfg.fold_ln);
        Ok(cfg)
    }
}
