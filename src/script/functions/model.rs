//! Models: `load_model`, tokenization, activations, hooks and generation.

use super::arguments::{ids_of, integers, tokens_of};
use super::completion::{Completion, TypedString};
use super::errors::to_script;
use super::names::type_name;
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::aliases::model_names;
use crate::error::Error;
use crate::hooks::{ActivationCache, Edits};
use crate::model::{GenerateOptions, Model, ModelOptions, TokenOptions};
use candle_core::{Device, Tensor};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map};
use saescope_options::{Field, Options};
use std::cell::RefCell;
use std::path::Path;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<Model>("model: &mut Model"),
    ShownType::of::<ActivationCache>("cache: &mut ActivationCache"),
];
pub(super) const OPTIONS: &[FunctionOptions] = &[
    ("generate", || {
        let hooks = "A map of closures, as for `run_with_hooks`; they see the prompt first and then one position at a \
                     time. Default: none.";
        [GenerateOptions::fields(), vec![Field::other("hooks", hooks)]].concat()
    }),
    ("load_model", ModelOptions::fields),
    ("to_tokens", TokenOptions::fields),
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Completes the names of models, and of hooks: in a cache, after the text that a model runs on, and anywhere if the
/// string begins like one.
pub(super) fn names(string: &TypedString) -> Option<Vec<Completion>> {
    if let Some(cache) = string.indexed.as_ref().and_then(|value| value.read_lock::<ActivationCache>()) {
        return Some(cache.names().map(|name| Completion::name(name.to_string(), "activation")).collect());
    }
    if string.in_call("load_model").is_some() {
        return Some(model_names().chain(["demo"]).map(|name| Completion::name(name, "model")).collect());
    }
    let takes_hooks = string.call.as_ref().is_some_and(|call| {
        // `run_with_cache(model, text, hooks)` has one argument more than `model.run_with_cache(text, hooks)`.
        let is_after_text = call.commas > usize::from(!call.is_method);
        ["run_with_cache", "run_with_hooks"].contains(&call.function) && is_after_text
    });
    if !takes_hooks && !["blocks.", "hook_", "ln_final"].iter().any(|hook| string.text.starts_with(hook)) {
        return None;
    }
    let models =
        string.scope.iter().filter_map(|(_, _, value)| value.read_lock::<Model>().map(|m| m.clone()));
    let hooks = models.flat_map(|model| model.cfg().hook_points().all());
    Some(hooks.map(|hook| Completion::name(hook.to_string(), "hook")).collect())
}

/// Returns the names in a string or an array of strings.
fn names_of(names: &Dynamic) -> Result<Vec<String>, Error> {
    let wrong = || Error::invalid("hook names", "a string or an array of strings", type_name(names));
    if let Ok(name) = names.clone().into_string() {
        return Ok(vec![name]);
    }
    let array = names.read_lock::<Array>().ok_or_else(wrong)?;
    array.iter().map(|name| name.clone().into_string().map_err(|_| wrong())).collect()
}

/// Runs `call` with a map of closures as edits. An error in a closure is returned unchanged.
fn with_edits<T>(
    context: &NativeCallContext,
    model: &Model,
    hooks: Map,
    call: impl FnOnce(Edits) -> crate::error::Result<T>,
) -> ScriptResult<T> {
    let failed = RefCell::new(None);
    let mut edits = Edits::new();
    for (name, closure) in hooks {
        let hook = script(model.cfg().hook_points().find_to_edit(&name))?;
        let closure = closure.clone().try_cast_result::<FnPtr>().map_err(|value| {
            let what = format!("the hook at `{name}`");
            to_script(&Error::invalid(what, "a closure |activation| …", type_name(&value)))
        })?;
        let failed = &failed;
        edits = edits.with(hook, move |activation| {
            let activation = activation.to_device(&Device::Cpu)?; // what scripts compute with
            let result: ScriptResult<Dynamic> = closure.call_within_context(context, (activation,));
            match result.map(Dynamic::try_cast_result::<Tensor>) {
                Ok(Ok(tensor)) => Ok(tensor),
                Ok(Err(other)) => Err(Error::invalid(
                    format!("the closure at `{hook}`"),
                    "a Tensor as its result",
                    type_name(&other),
                )
                .with_hint("the result of a closure is the value of its last statement")),
                Err(error) => {
                    *failed.borrow_mut() = Some(error);
                    Err(Error::Interrupted)
                }
            }
        });
    }
    let result = call(edits);
    match failed.into_inner() {
        Some(error) => Err(error),
        None => script(result),
    }
}

#[export_module]
mod functions {
    /// A language model.
    pub type Model = crate::model::Model;
    /// The activations of one forward pass, by hook name.
    pub type ActivationCache = crate::hooks::ActivationCache;

    /// Loads a language model: "demo", a local folder in the Hugging Face layout (`config.json`, `model.safetensors` or
    /// its shards, `tokenizer.json`), a TransformerLens name, or a repository on the hub, whose files are downloaded
    /// once. Weights are read when they are first used.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn load_model(context: NativeCallContext, name: &str, options: Map) -> ScriptResult<Model> {
        script(Model::load_with(name, &options::parse(options)?, &progress_of(&context)))
    }

    /// The configuration of a model, a map with TransformerLens' names.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.cfg.d_model);
    /// ```
    #[rhai_fn(global, get = "cfg", pure, return_raw)]
    pub fn model_cfg(model: &mut Model) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(model.cfg())
    }

    /// The token embedding matrix, [d_vocab, d_model].
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let dog = model.to_tokens("dog", #{ prepend_bos: false })[0];
    /// print(model.W_E[dog].norm());
    /// ```
    #[rhai_fn(global, get = "W_E", pure, return_raw)]
    pub fn model_w_e(model: &mut Model) -> ScriptResult<Tensor> {
        script(model.W_E())
    }

    /// The unembedding matrix, [d_model, d_vocab].
    ///
    /// ```rhai
    /// print(load_model("demo").W_U.shape);
    /// ```
    #[rhai_fn(global, get = "W_U", pure, return_raw)]
    pub fn model_w_u(model: &mut Model) -> ScriptResult<Tensor> {
        script(model.W_U())
    }

    /// The names of all hook points, in the order of a forward pass. Hooks that TransformerLens computes only on
    /// request (`hook_attn_in`, `hook_q_input`, `hook_k_input`, `hook_v_input`, `attn.hook_result`, `hook_mlp_in`) are
    /// computed if requested by their full name; patterns do not match them.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.hook_names().filter(|name| name.contains("blocks.0.")));
    /// ```
    #[rhai_fn(global, pure)]
    pub fn hook_names(model: &mut Model) -> Array {
        let names = model.cfg().hook_points().all();
        names.into_iter().map(|name| Dynamic::from(name.to_string())).collect()
    }

    /// The token ids of a string, after a BOS if the model uses one.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.to_tokens("a small boat"));
    /// print(model.to_tokens("a small boat", #{ prepend_bos: false }));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_tokens(model: &mut Model, text: &str, options: Map) -> ScriptResult<Array> {
        let options: TokenOptions = options::parse(options)?;
        Ok(integers(&script(model.to_tokens(text, options.prepend_bos))?))
    }

    /// The text of each token of a string or of an array of token ids, an array of strings.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.to_str_tokens("a small boat"));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_str_tokens(model: &mut Model, input: Dynamic) -> ScriptResult<Array> {
        let tokens = tokens_of(model, &input, None)?;
        let strings = script(model.to_str_tokens(&tokens))?;
        Ok(strings.into_iter().map(Dynamic::from).collect())
    }

    /// Decodes an array of token ids, or a single id, to a string.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.to_string(model.to_tokens("a small boat")));
    /// ```
    #[rhai_fn(global, name = "to_string", pure, return_raw)]
    pub fn model_to_string(model: &mut Model, tokens: Dynamic) -> ScriptResult<String> {
        script(Model::to_string(model, &script(ids_of(&tokens))?))
    }

    /// The logits for a string or an array of token ids, [pos, d_vocab].
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let logits = model.logits("A typical definition of \"dog\" would be \"");
    /// let best = logits[-1].argmax();
    /// print(model.to_string(best));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn logits(context: NativeCallContext, model: &mut Model, input: Dynamic) -> ScriptResult<Tensor> {
        let tokens = tokens_of(model, &input, None)?;
        script(model.logits(&tokens, &progress_of(&context)))
    }

    /// The activations at hook points for a string or an array of token ids: hook names, or patterns in which `*`
    /// matches anything. The pass stops after the last of them. `cache["name"]` is a tensor [pos, …].
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let cache = model.run_with_cache("a small boat", ["blocks.*.hook_resid_pre", "blocks.3.attn.hook_pattern"]);
    /// print(cache["blocks.3.attn.hook_pattern"].shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn run_with_cache(
        context: NativeCallContext,
        model: &mut Model,
        input: Dynamic,
        names: Dynamic,
    ) -> ScriptResult<ActivationCache> {
        let tokens = tokens_of(model, &input, None)?;
        let names = script(names_of(&names))?;
        script(model.run_with_cache(&tokens, &names, &progress_of(&context)))
    }

    /// Runs the model on a string or an array of token ids with hooks and returns the logits, [pos, d_vocab]. `hooks`
    /// is a map from hook names to closures, which take the activation and return the one to continue with.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo");
    /// let v = sae.feature(700).decoder;
    /// let logits = model.run_with_hooks("a small boat", #{
    ///     "blocks.4.hook_resid_pre": |resid| resid + 4.0 * v,
    /// });
    /// print(logits.shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn run_with_hooks(
        context: NativeCallContext,
        model: &mut Model,
        input: Dynamic,
        hooks: Map,
    ) -> ScriptResult<Tensor> {
        let tokens = tokens_of(model, &input, None)?;
        with_edits(&context, model, hooks, |edits| {
            model.run_with_hooks(&tokens, edits, &progress_of(&context))
        })
    }

    /// Generates a continuation of a string, or of an array of token ids, and returns the prompt with the continuation
    /// in the same form.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// print(model.generate("A typical definition of \"dog\" would be \"", #{ max_new_tokens: 12, temperature: 0 }));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn generate(
        context: NativeCallContext,
        model: &mut Model,
        prompt: Dynamic,
        options: Map,
    ) -> ScriptResult<Dynamic> {
        let mut options = options;
        let hooks = options::take_map(&mut options, "hooks")?;
        let options: GenerateOptions = options::parse(options)?;
        let tokens = tokens_of(model, &prompt, options.prepend_bos)?;
        let new = with_edits(&context, model, hooks, |mut edits| {
            model.generate(&tokens, &options, &mut edits, &progress_of(&context))
        })?;
        match prompt.into_immutable_string() {
            Ok(text) => Ok(format!("{text}{}", script(Model::to_string(model, &new))?).into()),
            Err(_) => Ok(integers(&[tokens, new].concat()).into()),
        }
    }

    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn cache_get(cache: &mut ActivationCache, name: &str) -> ScriptResult<Tensor> {
        script(cache.get(name).cloned())
    }

    /// The hook names of the activations in a cache, in the order of the forward pass.
    ///
    /// ```rhai
    /// let cache = load_model("demo").run_with_cache("a small boat", "blocks.*.hook_resid_post");
    /// print(cache.names);
    /// ```
    #[rhai_fn(global, get = "names", pure)]
    pub fn cache_names(cache: &mut ActivationCache) -> Array {
        cache.names().map(|name| Dynamic::from(name.to_string())).collect()
    }

    /// Writes the activations of a cache to a safetensors file, each under its hook name.
    ///
    /// ```rhai
    /// let cache = load_model("demo").run_with_cache("a small boat", "blocks.*.hook_resid_post");
    /// cache.save("cache.safetensors");
    /// print(load_tensors("cache.safetensors").keys());
    /// ```
    #[rhai_fn(global, name = "save", pure, return_raw, volatile)]
    pub fn save_cache(cache: &mut ActivationCache, path: &str) -> ScriptResult<()> {
        script(cache.save(Path::new(path)))
    }
}
