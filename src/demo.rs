//! The embedded demo: a small language model, two SAEs on it and some documents, under the name "demo".
//!
//! What they are, how they were made and their attribution: `assets/demo/README.md`.

/// The model's `config.json`.
pub const MODEL_CONFIG: &[u8] = include_bytes!("../assets/demo/model/config.json");
/// The model's weights, safetensors.
pub const MODEL_WEIGHTS: &[u8] = include_bytes!("../assets/demo/model/model.safetensors");
/// The model's `tokenizer.json`.
pub const TOKENIZER: &[u8] = include_bytes!("../assets/demo/model/tokenizer.json");
/// The model's `tokenizer_config.json`.
pub const TOKENIZER_CONFIG: &[u8] = include_bytes!("../assets/demo/model/tokenizer_config.json");
/// The documents, JSON lines with a `text`.
pub const DOCS: &[u8] = include_bytes!("../assets/demo/docs.jsonl");

/// An embedded SAE in SAELens' layout.
#[derive(Debug)]
pub struct DemoSae {
    /// The id of the SAE, equal to the name of its hook.
    pub sae_id: &'static str,
    /// `cfg.json`.
    pub cfg: &'static [u8],
    /// `sae_weights.safetensors`.
    pub weights: &'static [u8],
}

/// The embedded SAEs; "demo" without an id means the first.
pub const SAES: [DemoSae; 2] = [
    DemoSae {
        sae_id: "blocks.4.hook_resid_pre",
        cfg: include_bytes!("../assets/demo/sae/blocks.4.hook_resid_pre/cfg.json"),
        weights: include_bytes!("../assets/demo/sae/blocks.4.hook_resid_pre/sae_weights.safetensors"),
    },
    DemoSae {
        sae_id: "blocks.0.hook_resid_pre",
        cfg: include_bytes!("../assets/demo/sae/blocks.0.hook_resid_pre/cfg.json"),
        weights: include_bytes!("../assets/demo/sae/blocks.0.hook_resid_pre/sae_weights.safetensors"),
    },
];
