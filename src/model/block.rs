//! One block of the decoder: attention and MLP, each reading a norm of the residual stream and adding to it.
//!
//! `resid_mid = resid_pre + attn(ln1(resid_pre))`, `resid_post = resid_mid + mlp(ln2(resid_mid))`; in a parallel block
//! the MLP reads `resid_pre` as well. [`ModelConfig`] says what a model has beyond that: rotated queries and keys,
//! several queries that share a key, norms of queries, keys and outputs, a gated MLP, windows and caps.

use super::config::{AttentionType, ModelConfig};
use super::decoder::{Halt, Pass, plain_norm};
use super::ops::{self, Scores};
use super::weights::{Block, Norm};
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint};
use crate::linear::{Linear, add_bias};
use candle_core::{DType, Tensor};

impl Pass<'_> {
    /// Runs a block and returns the residual stream after it, `[n, d_model]`.
    pub(super) fn block(&mut self, layer: usize, block: &Block, resid_pre: Tensor) -> Result<Tensor, Halt> {
        let mut resid_mid = self.attention(layer, block, &resid_pre)?; // [n, d_model]
        let mlp_in = if self.cfg.parallel_attn_mlp {
            resid_pre
        } else {
            drop(resid_pre);
            resid_mid = self.at(layer, HookPoint::ResidMid, resid_mid)?;
            resid_mid.clone()
        };
        let mlp_in = self.at(layer, HookPoint::MlpIn, mlp_in)?;
        let resid_post = self.mlp(layer, block, &mlp_in, &resid_mid)?; // [n, d_model]
        self.at(layer, HookPoint::ResidPost, resid_post)
    }

    /// `resid_pre` plus what attention adds to it, `[n, d_model]`.
    fn attention(&mut self, layer: usize, block: &Block, resid_pre: &Tensor) -> Result<Tensor, Halt> {
        use HookPoint::{AttnIn, AttnNormedIn, AttnScores, KInput, Ln1In, Pattern, QInput, VInput};
        let per_head = [AttnIn, QInput, KInput, VInput];
        let [q, k, v] = if per_head.iter().any(|point| self.wants(layer, *point)) {
            self.qkv_per_head(layer, block, resid_pre)?
        } else {
            let x = self.at(layer, Ln1In, resid_pre.clone())?;
            let x = self.ln1(layer, block, &x, self.dtype_at(layer, AttnNormedIn))?; // [n, d_model]
            let x = self.at(layer, AttnNormedIn, x)?;
            self.qkv(&block.qkv, &x)?
        };
        let q = self.at(layer, HookPoint::Q, q)?; // [n, n_heads, d_head]
        let k = self.at(layer, HookPoint::K, k)?; // [n, n_key_value_heads, d_head]
        let v = self.at(layer, HookPoint::V, v)?; // [n, n_key_value_heads, d_head]
        let [q, k, v] = [self.clip(q)?, self.clip(k)?, self.clip(v)?];
        use HookPoint::{KNormNormalized, KNormScale, KNormed, QNormNormalized, QNormScale, QNormed};
        let q = self.qk_norm(layer, [QNormScale, QNormNormalized, QNormed], block.q_norm.as_ref(), q)?;
        let k = self.qk_norm(layer, [KNormScale, KNormNormalized, KNormed], block.k_norm.as_ref(), k)?;
        let q = self.rotate(layer, HookPoint::RotQ, q)?;
        let k = self.rotate(layer, HookPoint::RotK, k)?;
        if let Some(cache) = &mut self.cache {
            cache.add(layer, &k, &v)?;
        }
        let rule = Scores {
            scale: self.cfg.attn_factor(layer),
            soft_cap: self.cfg.attn_scores_soft_cap.map(|cap| cap as f32),
            window: self.cfg.window(layer),
        };
        let z = if self.wants(layer, AttnScores) || self.wants(layer, Pattern) {
            self.one_sequence(layer)?;
            let [k, v] = self.all_seen(layer, k, v)?; // [key_pos, n_key_value_heads, d_head]
            let scores = ops::attention_scores(&q, &k, rule)?; // [n_heads, query_pos, key_pos]
            let scores = self.at(layer, AttnScores, scores)?;
            let pattern = crate::linalg::softmax(&scores, 2)?;
            let pattern = self.at(layer, Pattern, pattern)?;
            ops::mix_values(&pattern, &v)?
        } else if let (Some(cache), Some(paths)) = (&self.cache, &self.paths) {
            ops::path_attention(&q, cache.block(layer), self.cfg.n_key_value_heads, paths, rule)?
        } else {
            ops::attention(&q, &k, &v, &self.spans(), rule, self.precision)?
        };
        let z = self.at(layer, HookPoint::Z, z)?; // [n, n_heads, d_head]
        let out = self.attn_out(layer, &block.attn_out, &z)?;
        let sublayer = Sublayer {
            points: [HookPoint::AttnPreNormOut, HookPoint::AttnOut],
            bias: block.attn_out.bias.as_ref(),
            post: block.ln1_post.as_ref(),
            post_points: [HookPoint::Ln1PostScale, HookPoint::Ln1PostNormalized],
        };
        self.add_to_residual(layer, &sublayer, out, resid_pre)
    }

    /// The keys and values of one sequence, including its past.
    fn all_seen(&self, layer: usize, k: Tensor, v: Tensor) -> Result<[Tensor; 2]> {
        match (&self.cache, &self.paths) {
            (Some(cache), Some(paths)) => {
                cache.gather(layer, paths.get(k.dim(0)?.saturating_sub(1)), self.cfg.d_head)
            }
            _ => Ok([k, v]),
        }
    }

    fn ln1(&mut self, layer: usize, block: &Block, x: &Tensor, dtype: DType) -> Result<Tensor, Halt> {
        self.pre_norm(layer, [HookPoint::Ln1Scale, HookPoint::Ln1Normalized], block.ln1.as_ref(), x, dtype)
    }

    /// What a sublayer reads: a norm of the residual stream, or the stream itself.
    fn pre_norm(
        &mut self,
        layer: usize,
        points: [HookPoint; 2],
        norm: Option<&Norm>,
        x: &Tensor,
        dtype: DType,
    ) -> Result<Tensor, Halt> {
        match norm {
            None => Ok(x.clone()),
            Some(norm) => self.norm(points.map(|point| HookName::in_block(layer, point)), norm, x, dtype),
        }
    }

    fn qkv(&self, qkv: &Linear, x: &Tensor) -> Result<[Tensor; 3]> {
        let ModelConfig { n_heads, n_key_value_heads: n_groups, d_head, .. } = *self.cfg;
        let all = qkv.forward(x)?; // [n, (n_heads + 2 · n_key_value_heads) · d_head]
        let all = all.reshape((x.dim(0)?, n_heads + 2 * n_groups, d_head))?;
        let part = |start: usize, len: usize| all.narrow(1, start, len);
        Ok([part(0, n_heads)?, part(n_heads, n_groups)?, part(n_heads + n_groups, n_groups)?])
    }

    fn clip(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.cfg.clip_qkv {
            Some(limit) => x.clamp(-limit, limit)?,
            None => x,
        })
    }

    /// Queries, keys and values if the input of each head can be changed (`hook_attn_in`, `hook_q_input`, …).
    fn qkv_per_head(&mut self, layer: usize, block: &Block, resid_pre: &Tensor) -> Result<[Tensor; 3], Halt> {
        let ModelConfig { n_heads, n_key_value_heads: n_groups, d_head, d_model, .. } = *self.cfg;
        let n = resid_pre.dim(0)?;
        let ln1_in = self.at(layer, HookPoint::Ln1In, resid_pre.clone())?;
        let for_heads = |heads: usize| ln1_in.unsqueeze(1)?.expand((n, heads, d_model))?.contiguous();
        let (q_in, kv_in) = if n_groups == n_heads {
            let attn_in = self.at(layer, HookPoint::AttnIn, for_heads(n_heads)?)?; // [n, n_heads, d_model]
            (attn_in.clone(), attn_in)
        } else {
            (for_heads(n_heads)?, for_heads(n_groups)?)
        };
        let q_in = self.at(layer, HookPoint::QInput, q_in)?;
        let k_in = self.at(layer, HookPoint::KInput, kv_in.clone())?;
        let v_in = self.at(layer, HookPoint::VInput, kv_in)?;
        let mut part = |first: usize, heads: usize, x: Tensor| {
            let x = self.ln1(layer, block, &x, DType::F32)?; // [n, heads, d_model]
            let (start, len) = (first * d_head, heads * d_head);
            let weight = block.qkv.columns(start..start + len)?.reshape((d_model, heads, d_head))?;
            let weight = weight.transpose(0, 1)?.contiguous()?; // [heads, d_model, d_head]
            let part = block.qkv.times(&x.transpose(0, 1)?.contiguous()?, &weight)?; // [heads, n, d_head]
            let mut part = part.transpose(0, 1)?.contiguous()?; // [n, heads, d_head]
            if let Some(bias) = &block.qkv.bias {
                part = part.broadcast_add(&bias.narrow(0, start, len)?.reshape((heads, d_head))?)?;
            }
            Ok::<_, Halt>(part)
        };
        let parts = [
            part(0, n_heads, q_in)?,
            part(n_heads, n_groups, k_in)?,
            part(n_heads + n_groups, n_groups, v_in)?,
        ];
        self.read_only_attn_in(layer, block, &ln1_in)?;
        Ok(parts)
    }

    /// Calls `attn.hook_in` if each head has its own input: the activation can then be read but not changed.
    fn read_only_attn_in(&mut self, layer: usize, block: &Block, x: &Tensor) -> Result<(), Halt> {
        let point = HookPoint::AttnNormedIn;
        if !self.wants(layer, point) {
            self.at(layer, point, x.clone())?;
            return Ok(());
        }
        let normed = match &block.ln1 {
            Some(norm) => plain_norm(norm, x, self.cfg.eps, DType::F32)?,
            None => x.clone(),
        };
        let after = self.at(layer, point, normed.clone())?;
        // An activation that was only read is the same tensor, even if it contains NaN.
        if after.id() == normed.id() || after.ne(&normed)?.max_all()?.to_scalar::<u8>()? == 0 {
            return Ok(());
        }
        let name = HookName::in_block(layer, point);
        Err(Halt::from(Error::mismatch(
            format!("`{name}` cannot be changed together with the inputs of single heads"),
            "change `hook_q_input`, `hook_k_input` and `hook_v_input`, or only `attn.hook_in`",
        )))
    }

    /// Normalizes queries or keys `[n, heads, d_head]` head by head, or several heads together if the weight is longer.
    fn qk_norm(
        &mut self,
        layer: usize,
        [scale, normalized, normed]: [HookPoint; 3],
        norm: Option<&Norm>,
        x: Tensor,
    ) -> Result<Tensor, Halt> {
        let Some(norm) = norm else { return Ok(x) };
        let width = norm.weight.elem_count();
        let (n, heads, d_head) = x.dims3()?;
        let grouped = x.contiguous()?.reshape((n, heads * d_head / width, width))?;
        let names = [scale, normalized].map(|point| HookName::in_block(layer, point));
        let x = self.norm(names, norm, &grouped, DType::F32)?.reshape((n, heads, d_head))?;
        self.at(layer, normed, x)
    }

    fn rotate(&mut self, layer: usize, point: HookPoint, x: Tensor) -> Result<Tensor, Halt> {
        let Some(angles) = &self.angles else { return Ok(x) };
        let is_local = self.cfg.attn_types.get(layer) == Some(&AttentionType::Local);
        let rotated = angles.rotate(&x, is_local)?;
        self.at(layer, point, rotated)
    }

    /// `z · W_O`, `[n, d_model]`, without its bias.
    fn attn_out(&mut self, layer: usize, w_o: &Linear, z: &Tensor) -> Result<Tensor, Halt> {
        let ModelConfig { n_heads, d_head, d_model, .. } = *self.cfg;
        if !self.wants(layer, HookPoint::Result) {
            return Ok(w_o.without_bias(&z.reshape((z.dim(0)?, n_heads * d_head))?)?);
        }
        let by_head = w_o.columns(0..d_model)?.reshape((n_heads, d_head, d_model))?;
        let result = w_o.times(&z.transpose(0, 1)?.contiguous()?, &by_head)?; // [n_heads, n, d_model]
        let result = result.transpose(0, 1)?.contiguous()?;
        let result = self.at(layer, HookPoint::Result, result)?; // [n, n_heads, d_model]
        Ok(result.sum(1)?)
    }

    /// `residual` plus what the MLP adds to it, `[n, d_model]`.
    fn mlp(
        &mut self,
        layer: usize,
        block: &Block,
        mlp_in: &Tensor,
        residual: &Tensor,
    ) -> Result<Tensor, Halt> {
        let points = [HookPoint::Ln2Scale, HookPoint::Ln2Normalized];
        let dtype = self.dtype_at(layer, HookPoint::MlpNormedIn);
        let x = self.pre_norm(layer, points, block.ln2.as_ref(), mlp_in, dtype)?; // [n, d_model]
        let x = self.at(layer, HookPoint::MlpNormedIn, x)?;
        let post = if self.cfg.gated_mlp {
            self.gated(layer, &block.mlp_in, &x)?
        } else {
            self.activated(layer, &block.mlp_in, &x)?
        };
        let post = self.at(layer, HookPoint::MlpPost, post)?; // [n, d_mlp]
        let out = block.mlp_out.without_bias(&post)?; // [n, d_model]
        let sublayer = Sublayer {
            points: [HookPoint::MlpPreNormOut, HookPoint::MlpOut],
            bias: block.mlp_out.bias.as_ref(),
            post: block.ln2_post.as_ref(),
            post_points: [HookPoint::Ln2PostScale, HookPoint::Ln2PostNormalized],
        };
        self.add_to_residual(layer, &sublayer, out, residual)
    }

    /// `act_fn(mlp_in(x))`, `[n, d_mlp]`.
    fn activated(&mut self, layer: usize, mlp_in: &Linear, x: &Tensor) -> Result<Tensor, Halt> {
        let dtype = self.dtype_at(layer, HookPoint::MlpPost);
        if !self.wants(layer, HookPoint::MlpPre) {
            return Ok(ops::activate(mlp_in.without_bias(x)?, mlp_in.bias.as_ref(), self.cfg.act_fn, dtype)?);
        }
        let pre = self.at(layer, HookPoint::MlpPre, mlp_in.forward(x)?)?.copy()?;
        Ok(ops::activate(pre, None, self.cfg.act_fn, dtype)?)
    }

    /// `act_fn(gate) · linear`, `[n, d_mlp]`, where `mlp_in(x)` is gate and linear side by side.
    fn gated(&mut self, layer: usize, mlp_in: &Linear, x: &Tensor) -> Result<Tensor, Halt> {
        let mut both = mlp_in.forward(x)?; // [n, 2 · d_mlp]
        let points = [HookPoint::MlpPre, HookPoint::MlpPreLinear];
        if points.iter().any(|point| self.wants(layer, *point)) {
            let part = |i: usize| both.narrow(1, i * self.cfg.d_mlp, self.cfg.d_mlp);
            let (gate, linear) = (part(0)?, part(1)?);
            let gate = self.at(layer, HookPoint::MlpPre, gate)?;
            let linear = self.at(layer, HookPoint::MlpPreLinear, linear)?;
            both = Tensor::cat(&[gate, linear], 1)?;
        }
        Ok(ops::gate(&both, self.cfg.act_fn, self.dtype_at(layer, HookPoint::MlpPost))?)
    }

    /// `residual + post(out + bias)`, with a hook on what is added.
    fn add_to_residual(
        &mut self,
        layer: usize,
        sublayer: &Sublayer,
        mut out: Tensor,
        residual: &Tensor,
    ) -> Result<Tensor, Halt> {
        let [raw_out, added] = sublayer.points;
        let wanted = self.wants(layer, added);
        match (sublayer.bias, sublayer.post) {
            (Some(bias), None) if !wanted => {
                return Ok(ops::add_bias_residual(out, bias, residual)?);
            }
            (Some(bias), _) => out = add_bias(out, bias)?,
            (None, _) => {}
        }
        if let Some(post) = sublayer.post {
            out = self.at(layer, raw_out, out)?;
            out = self.norm(
                sublayer.post_points.map(|point| HookName::in_block(layer, point)),
                post,
                &out,
                DType::F32,
            )?;
        }
        if wanted {
            let out = self.at(layer, added, out)?;
            return Ok((residual + out)?);
        }
        Ok(ops::add(out, residual)?)
    }
}

/// How attention or MLP adds to the residual stream.
struct Sublayer<'a> {
    /// The points of the output before `post`, and of what is added.
    points: [HookPoint; 2],
    bias: Option<&'a Tensor>,
    post: Option<&'a Norm>,
    post_points: [HookPoint; 2],
}
