//! Checks an SAE on real tokens: its L0 and explained variance, compared with what its authors measured.
//!
//! A wrong hook, layout, scaling factor or centering loads without an error and gives results; this check reveals it.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::extract::{ExtractOptions, USUAL_CONTEXT, Windows, activation, check_fits};
use crate::hooks::ActivationCache;
use crate::model::{Model, NormKind, TokenBatch};
use crate::progress::Progress;
use crate::sae::{ActivationNormalization, OutputHook, Sae};
use candle_core::Tensor;
use saescope_options::options;
use serde::Serialize;

/// The factor between measured and published L0 above which there is a warning.
const L0_FACTOR: f64 = 3.0;
/// The explained variance below which there is a warning.
const POOR: f64 = 0.2;

options! {
    /// The tokens that a check measures on.
    pub struct CheckOptions {
        /// Stops at this number of tokens, after the context that reaches it. Default: 1000.
        pub max_tokens: usize = 1000,
        /// Whether each context begins with a BOS. Default: as the SAE was trained.
        pub prepend_bos: Option<bool> = None,
        /// The length of a context in tokens. Default: the SAE's, at most the model's and 1024.
        pub context_size: Option<usize> = None,
    }
}

/// The quality of an SAE on real tokens; BOS tokens are not counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SaeEvaluation {
    /// The id under which the SAE was loaded.
    pub sae_id: String,
    /// The SAE's input hook.
    pub hook_name: String,
    /// The number of tokens measured.
    pub tokens: usize,
    /// The mean number of active features per token.
    pub l0: f64,
    /// The L0 that its authors measured, if known.
    pub published_l0: Option<f64>,
    /// `1 − Σ‖y − ŷ‖² / Σ‖y − mean(y)‖²` of the activation y (for a transcoder, at its output hook; `None` if that is
    /// unknown) and its reconstruction ŷ. The first position of a context is excluded, BOS or not: its activation is
    /// some fifty times as large as others and would dominate the sums.
    pub explained_variance: Option<f64>,
    /// Likely problems, for the user to judge.
    pub warnings: Vec<String>,
}

/// Measures an SAE on the first tokens of a dataset.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// let options = CheckOptions { max_tokens: 500, ..Default::default() };
/// let check = check_sae(&model, &sae, &Dataset::open("demo")?, &options, &Progress::default())?;
/// assert!(check.explained_variance.unwrap() > 0.5);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// An SAE that does not fit the model, no documents, documents that cannot be read, and [`Error::Interrupted`].
pub fn check_sae(
    model: &Model,
    sae: &Sae,
    dataset: &Dataset,
    options: &CheckOptions,
    progress: &Progress,
) -> Result<SaeEvaluation> {
    check_fits(model, sae)?;
    if options.max_tokens == 0 {
        return Err(Error::invalid("`max_tokens`", "at least 1", 0));
    }
    let usual = sae.cfg().context_size.unwrap_or(USUAL_CONTEXT).min(USUAL_CONTEXT).min(model.cfg().n_ctx);
    let contexts = ExtractOptions {
        prepend_bos: options.prepend_bos,
        context_size: options.context_size.or(Some(usual)),
        ..Default::default()
    };
    let contexts = contexts.contexts(model, sae)?;
    let mut windows = Windows::new(model.tokenizer()?.clone(), contexts);
    let mut sums = Sums::default();
    let mut documents = dataset.documents(progress);
    'documents: while let Some(text) = documents.next() {
        let contexts = match windows.cut(&text?) {
            Ok(contexts) => contexts,
            Err(error) => {
                documents.skip_bad(error)?;
                continue;
            }
        };
        for context in contexts.unwrap_or_default() {
            progress.check()?;
            sums.add(model, sae, &context.tokens, usize::from(context.begins_with_bos), progress)?;
            if sums.tokens >= options.max_tokens {
                break 'documents;
            }
        }
    }
    if sums.tokens == 0 {
        let what = format!("the dataset `{}`", dataset.path());
        return Err(Error::invalid(what, "documents with tokens", "none").with_hint("check `text_column`"));
    }
    let mut check = SaeEvaluation {
        sae_id: sae.cfg().sae_id.clone(),
        hook_name: sae.hook_in(&model.cfg().hook_points())?.to_string(),
        tokens: sums.tokens,
        l0: sums.active as f64 / sums.tokens as f64,
        published_l0: sae.cfg().published_l0,
        explained_variance: sums.explained_variance(),
        warnings: Vec::new(),
    };
    check.warnings = warnings(&check, model, sae);
    Ok(check)
}

/// Sums over tokens, in f64.
#[derive(Default)]
struct Sums {
    tokens: usize,
    active: usize,
    /// The number of tokens in the sums below.
    reconstructed: usize,
    /// `Σ‖y − ŷ‖²`.
    error: f64,
    /// `Σ‖y‖²`.
    squares: f64,
    /// `Σy` for each dimension; empty if y is unknown.
    means: Vec<f64>,
}

impl Sums {
    fn add(
        &mut self,
        model: &Model,
        sae: &Sae,
        tokens: &[u32],
        bos: usize,
        progress: &Progress,
    ) -> Result<()> {
        let n = tokens.len().saturating_sub(bos);
        if n == 0 {
            return Ok(());
        }
        let points = model.cfg().hook_points();
        let hook = sae.hook_in(&points)?;
        let is_transcoder = sae.cfg().architecture.output != OutputHook::Same;
        let out = sae.cfg().hook_name_out.as_ref().filter(|_| is_transcoder);
        let out = out.map(|name| points.find(name)).transpose()?;
        let mut cache = ActivationCache::new([Some(hook), out].into_iter().flatten().collect());
        model.run_until(&TokenBatch::single(tokens), None, &mut cache, progress)?;
        let x = activation(model, sae, &cache)?;
        let sae = &sae.for_model(model.compute());
        let (features, y_hat) = sae.encode_and_reconstruct(&x, progress)?;
        self.tokens += n;
        self.active += (bos..features.len()).map(|pos| features.at(pos).0.len()).sum::<usize>();
        let y = match out {
            Some(out) => cache.get(&out.to_string())?.clone(),
            None if is_transcoder => return Ok(()),
            None => sae.reads(&x)?,
        };
        let n = tokens.len() - 1;
        if n == 0 {
            return Ok(());
        }
        self.reconstructed += n;
        let rows = |t: Tensor| t.narrow(0, 1, n)?.flatten_all()?.to_vec1::<f32>();
        let (y, y_hat) = (rows(y)?, rows(y_hat)?);
        let d = y.len() / n;
        self.means.resize(d, 0.0);
        for (y, y_hat) in y.chunks_exact(d).zip(y_hat.chunks_exact(d)) {
            for ((y, y_hat), mean) in y.iter().zip(y_hat).zip(&mut self.means) {
                let (y, y_hat) = (f64::from(*y), f64::from(*y_hat));
                self.error += (y - y_hat) * (y - y_hat);
                self.squares += y * y;
                *mean += y;
            }
        }
        Ok(())
    }

    fn explained_variance(&self) -> Option<f64> {
        let of_means: f64 = self.means.iter().map(|sum| sum * sum / self.reconstructed.max(1) as f64).sum();
        let variance = self.squares - of_means;
        (variance > 0.0).then(|| 1.0 - self.error / variance)
    }
}

/// Describes likely problems and their cause.
fn warnings(check: &SaeEvaluation, model: &Model, sae: &Sae) -> Vec<String> {
    let (cfg, sae_cfg) = (model.cfg(), sae.cfg());
    let mut warnings = Vec::new();
    if let Some(published) = check.published_l0.filter(|published| *published > 0.0) {
        let factor = check.l0 / published;
        if !(1.0 / L0_FACTOR..=L0_FACTOR).contains(&factor) {
            warnings.push(format!(
                "the SAE `{}` has {:.1} active features per token here, its authors measured {published:.1}",
                check.sae_id, check.l0
            ));
        }
    }
    if let Some(explained) = check.explained_variance.filter(|explained| *explained < POOR) {
        let how = if explained < 0.0 {
            "worse than their mean does".to_owned()
        } else {
            format!("poorly: {explained:.3} of their variance")
        };
        warnings.push(format!(
            "the SAE `{}` explains the activations at `{}` {how}; a trained SAE does better",
            check.sae_id, check.hook_name
        ));
    }
    if warnings.is_empty() {
        return warnings;
    }
    let is_residual = sae.hook_in(&cfg.hook_points()).is_ok_and(|hook| hook.point().is_residual());
    let scaled = sae_cfg.normalize_activations == ActivationNormalization::ExpectedAverageOnlyIn;
    let cause = if scaled && sae_cfg.norm_scaling_factor.is_none() {
        "it was trained on scaled activations, and the scale is unknown: set norm_scaling_factor".to_owned()
    } else if check.explained_variance.is_some_and(|explained| explained > 0.5) {
        "it reconstructs well, so either the text differs from what its authors measured on, or they count L0 in \
         another way"
            .to_owned()
    } else if let Some(trained_on) =
        sae_cfg.model_name.as_ref().filter(|name| !is_named(name, &cfg.model_name))
    {
        format!("it was trained on `{trained_on}`, and this is `{}`", cfg.model_name)
    } else if is_residual
        && cfg.normalization_type == NormKind::LayerNorm
        && sae_cfg.center_writing_weights.is_none()
    {
        "its checkpoint does not say whether it reads a centered residual stream: try center_writing_weights: true"
            .to_owned()
    } else {
        "its hook, its layout or its preprocessing differs from what its checkpoint says: see `print(sae)`, and try \
         hook_name, conversion or center_writing_weights"
            .to_owned()
    };
    warnings.push(format!("likely cause: {cause}"));
    warnings
}

/// Whether two names mean the same model.
fn is_named(name: &str, other: &str) -> bool {
    let id = |name: &str| crate::aliases::resolve_model(name).unwrap_or(name).to_lowercase();
    let last = |name: &str| id(name).rsplit('/').next().unwrap_or_default().to_owned();
    last(name) == last(other)
}

impl std::fmt::Display for SaeEvaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SAE {} at {} on {} tokens: L0 {:.1}", self.sae_id, self.hook_name, self.tokens, self.l0)?;
        if let Some(l0) = self.published_l0 {
            write!(f, " (published {l0:.1})")?;
        }
        match self.explained_variance {
            Some(explained) => write!(f, ", explained variance {explained:.3}")?,
            None => write!(f, ", explained variance unknown: no output hook")?,
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}
