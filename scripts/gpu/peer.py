"""The PyTorch side of scripts/gpu-check.sh: models and SAEs with random weights, a hand-tuned program that does the same as
`saescope extract`, and measurements of both. Needs torch, numpy and safetensors.

    peer.py fixtures TESTS DIR                                    tokenizers and small models for the fixtures in TESTS
    peer.py make DIR SHAPE --device D [--compile]                 a model, an SAE and documents
    peer.py rates DIR --program P --device D --dtypes f32,bf16    rates and features of both programs
    peer.py lens DIR --device D                                   the rate of TransformerLens and SAELens

Rows of Markdown tables begin with `|` and remarks with `>`. The exit code is 3 if a row is wrong.
"""
import argparse, collections, glob, itertools, json, os, subprocess, sys, time

import numpy as np

if sys.argv[1:2] != ["fixtures"]:  # which starts faster without
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file, save_file

GEMMA = dict(kind="gemma2", d=2304, heads=8, kv=4, d_head=256, d_mlp=9216, ctx=8192, window=4096, layer=12, context=1024,
             documents=128, few=2)
TINY = dict(d=64, heads=4, ctx=512, layer=2, d_sae=512, context=128, documents=64, few=16)
SHAPES = {
    "gpt2-small": dict(kind="gpt2", d=768, heads=12, kv=12, d_head=64, d_mlp=3072, ctx=1024, layer=7, d_sae=24576, context=1024,
                       documents=512, few=8),
    "gemma-2-2b": dict(GEMMA, d_sae=16384),
    "gemma-2-2b-65k": dict(GEMMA, d_sae=65536),
    "tiny-gpt2": dict(TINY, kind="gpt2", kv=4, d_head=16, d_mlp=128),
    "tiny-gemma": dict(TINY, kind="gemma2", kv=2, d_head=32, d_mlp=96, window=16),
}
VOCAB, L0 = 32768, 60
PASS = 16384  # the tokens of a pass
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check.rhai")


# --- Files -----------------------------------------------------------------------------------------------------------
def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)


def read_json(path):
    with open(path) as f:
        return json.load(f)


def link(source, path):
    if os.path.lexists(path):
        os.remove(path)
    os.symlink(source, path)


def write_tokenizer(folder, vocab, ctx):
    """Words are tokens: `w5` is token 5."""
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    words = {"<bos>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, vocab)}}
    write_json(f"{folder}/tokenizer.json", dict(
        version="1.0", truncation=None, padding=None, normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"},
        post_processor=None, decoder=None, added_tokens=[dict(flags, id=i, content=t) for i, t in enumerate(("<bos>", "<eos>"))],
        model={"type": "WordLevel", "vocab": words, "unk_token": "<eos>"}))
    write_json(f"{folder}/tokenizer_config.json", dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<bos>", eos_token="<eos>", unk_token="<eos>", add_bos_token=True,
        model_max_length=ctx))


def write_gpt2(folder, save, normal, d, heads, d_mlp, blocks, ctx, vocab):
    """`normal(shape, std)` is an array of random numbers, and `save` writes a dictionary of them. Returns the dictionary."""
    w = {"wte.weight": normal((vocab, d), 0.02), "wpe.weight": normal((ctx, d), 0.01)}
    for i in range(blocks):
        for name, shape in (("attn.c_attn", (d, 3 * d)), ("attn.c_proj", (d, d)), ("mlp.c_fc", (d, d_mlp)), ("mlp.c_proj", (d_mlp, d))):
            w[f"h.{i}.{name}.weight"], w[f"h.{i}.{name}.bias"] = normal(shape, 1.1 * d ** -0.5), normal(shape[1:], 0.02)
        for name in ("ln_1", "ln_2"):
            w[f"h.{i}.{name}.weight"], w[f"h.{i}.{name}.bias"] = 1 + normal((d,), 0.1), normal((d,), 0.02)
    w.update({"ln_f.weight": 1 + normal((d,), 0.1), "ln_f.bias": normal((d,), 0.02)})
    save(w, f"{folder}/model.safetensors")
    write_json(f"{folder}/config.json", dict(
        architectures=["GPT2LMHeadModel"], model_type="gpt2", n_embd=d, n_layer=blocks, n_head=heads, n_positions=ctx, n_ctx=ctx,
        n_inner=d_mlp, vocab_size=vocab, activation_function="gelu_new", layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0))
    write_tokenizer(folder, vocab, ctx)
    return w


def write_gemma(folder, save, normal, s, blocks, vocab):
    d, q, kv, m = s["d"], s["heads"] * s["d_head"], s["kv"] * s["d_head"], s["d_mlp"]
    w = {"model.embed_tokens.weight": normal((vocab, d), 0.02), "model.norm.weight": normal((d,), 0.1)}
    for i in range(blocks):
        for name, shape in (("self_attn.q_proj", (q, d)), ("self_attn.k_proj", (kv, d)), ("self_attn.v_proj", (kv, d)),
                            ("self_attn.o_proj", (d, q)), ("mlp.gate_proj", (m, d)), ("mlp.up_proj", (m, d)), ("mlp.down_proj", (d, m))):
            w[f"model.layers.{i}.{name}.weight"] = normal(shape, d ** -0.5)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            w[f"model.layers.{i}.{name}_layernorm.weight"] = normal((d,), 0.1)
    save(w, f"{folder}/model.safetensors")
    write_json(f"{folder}/config.json", dict(
        architectures=["Gemma2ForCausalLM"], model_type="gemma2", hidden_size=d, num_hidden_layers=blocks,
        num_attention_heads=s["heads"], num_key_value_heads=s["kv"], head_dim=s["d_head"], intermediate_size=m, vocab_size=vocab,
        max_position_embeddings=s["ctx"], hidden_activation="gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh", rms_norm_eps=1e-6,
        rope_theta=1e4, query_pre_attn_scalar=s["d_head"], attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        sliding_window=s["window"], attention_bias=False, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        torch_dtype="bfloat16"))
    write_tokenizer(folder, vocab, s["ctx"])
    return w


def fixtures(a):
    """Writes links to the fixtures of model families, tokenizers for those without one, and small models for the fixtures of
    SAEs. Prints the names of models, and those of SAEs."""
    from safetensors.numpy import save_file
    names, saes = ["demo"], []
    for source in sorted(glob.glob(f"{os.path.abspath(a.tests)}/fixtures/models/*/model.safetensors")):
        source, name = os.path.dirname(source), os.path.basename(os.path.dirname(source))
        os.makedirs(f"{a.dir}/{name}", exist_ok=True)
        for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "sae"):
            if os.path.exists(f"{source}/{file}"):
                link(f"{source}/{file}", f"{a.dir}/{name}/{file}")
        if not os.path.exists(f"{source}/tokenizer.json"):
            config = read_json(f"{source}/config.json")
            write_tokenizer(f"{a.dir}/{name}", config.get("text_config", config)["vocab_size"], 64)
        names.append(name)
    rng = np.random.default_rng(0)
    normal = lambda shape, std: (rng.standard_normal(shape) * std).astype(np.float32)
    for d in (8, 16):
        os.makedirs(f"{a.dir}/width{d}", exist_ok=True)
        write_gpt2(f"{a.dir}/width{d}", save_file, normal, d, 2, 4 * d, 2, 64, 300)
    for kind in ("native", "native_more", "training"):
        for source in sorted(glob.glob(f"{os.path.abspath(a.tests)}/fixtures/saes/{kind}/*/cfg.json")):
            name = f"{kind}-{os.path.basename(os.path.dirname(source))}"
            link(os.path.dirname(source), f"{a.dir}/{name}")
            saes.append(f"width{read_json(source)['d_in']}:{name}")
    print(",".join(names + ["saes"]) + "\n" + ",".join(saes))


def make(a):
    began, s = time.perf_counter(), SHAPES[a.shape]
    blocks, gemma, context, d_sae = s["layer"] + 1, s["kind"] == "gemma2", s["context"], s["d_sae"]
    g = torch.Generator(device=a.device).manual_seed(0)
    store = torch.bfloat16 if gemma else torch.float32
    normal = lambda shape, std: (torch.randn(*shape, generator=g, device=a.device) * std).to(store).cpu()
    save = lambda w, path: save_file(w, path, metadata={"format": "pt"})
    for folder in ("model", "sae", "topk"):
        os.makedirs(f"{a.dir}/{folder}", exist_ok=True)
    if gemma:
        w = write_gemma(f"{a.dir}/model", save, normal, s, blocks, VOCAB)
    else:
        w = write_gpt2(f"{a.dir}/model", save, normal, s["d"], s["heads"], s["d_mlp"], blocks, s["ctx"], VOCAB)
    # Each document fills one context. Tokens are as frequent as words: a few make most of the text. The last documents, and
    # the last of the first quarter, are the first again, so that both ends of a run can be compared with the same reference.
    rng = np.random.default_rng(1)
    docs = [np.minimum(2 + (rng.pareto(0.8, context - 1) * 20).astype(int), VOCAB - 1) for _ in range(s["documents"])]
    for end in (s["documents"] // 4, s["documents"]):
        docs[end - s["few"]:end] = docs[:s["few"]]
    with open(f"{a.dir}/docs.jsonl", "w") as f:
        f.writelines(json.dumps({"text": " ".join(f"w{t}" for t in doc)}) + "\n" for doc in docs)
    write_json(f"{a.dir}/shape.json", dict(s, name=a.shape))
    # The SAE: random directions, with a bias or thresholds that leave about L0 features active.
    W = torch.randn(s["d"], d_sae, generator=g, device=a.device)
    W /= W.norm(dim=0, keepdim=True)
    sae = {"W_enc": W.cpu(), "W_dec": W.T.contiguous().cpu(), "b_dec": torch.zeros(s["d"]), "b_enc": torch.zeros(d_sae)}
    peer = Peer(s, w, sae, a.device, "f32")
    with torch.no_grad():
        x = torch.cat([peer.forward(ids)[1:].float() for ids in contexts(a.dir, 8, a.device).split(1)])
    pre = (x[::max(1, len(x) // 256)] @ W).flatten().cpu()
    cut = pre.kthvalue(int(pre.numel() * (1 - min(L0, d_sae / 8) / d_sae))).values.item()
    spread = cut * (torch.rand(d_sae, generator=torch.Generator().manual_seed(2)) * 0.2 + 0.9)
    sae.update({"threshold": spread} if gemma else {"b_enc": -spread})
    save_file(sae, f"{a.dir}/sae/sae_weights.safetensors")
    metadata = dict(sae_lens_version="6.54.12", sae_lens_training_version="6.54.12", model_name=a.shape, dataset_path="none",
                    hook_name=f"blocks.{s['layer']}.hook_resid_post", prepend_bos=True, context_size=context)
    cfg = dict(d_in=s["d"], d_sae=d_sae, dtype="float32", device="cpu", apply_b_dec_to_input=not gemma,
               normalize_activations="none", reshape_activations="none", metadata=metadata)
    write_json(f"{a.dir}/sae/cfg.json", dict(cfg, architecture="jumprelu" if gemma else "standard"))
    if not gemma:  # the same weights with another rule
        link("../sae/sae_weights.safetensors", f"{a.dir}/topk/sae_weights.safetensors")
        write_json(f"{a.dir}/topk/cfg.json", dict(cfg, architecture="topk", k=32, rescale_acts_by_decoder_norm=False))
    print(f"{a.shape}: {blocks} blocks, {len(docs)} documents of {context} tokens, made in {time.perf_counter() - began:.1f} s")
    if a.compile:  # into a cache, from where `rates` takes it
        peer = Peer(s, w, sae, a.device, "bf16", compile=True)
        with torch.no_grad():
            peer.encode(peer.forward(contexts(a.dir, PASS // context, a.device)))
        torch.cuda.synchronize()
        print(f"{a.shape}: compiled after {time.perf_counter() - began:.1f} s")


# --- The program -----------------------------------------------------------------------------------------------------
def rms(x, w, eps=1e-6):
    """Gemma's norm: in f32, with the factor 1 + w."""
    f = x.float()
    return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + eps) * (1 + w.float())).to(x.dtype)


def rope(x, cos, sin):
    """x: [batch, pos, heads, d_head]. The halves of a head are rotated together."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


cap_50 = lambda score, b, h, i, j: 50.0 * torch.tanh(score / 50.0)


# A block is compiled in two halves around its attention: compiled as a whole, with flex_attention inside, it gave wrong
# numbers in torch 2.15 on the CPU; each part alone was right.
def gemma_before(x, w, s, cos, sin):
    b, t, _ = x.shape
    q, kv = s["heads"] * s["d_head"], s["kv"] * s["d_head"]
    q, k, v = (z.view(b, t, -1, s["d_head"]) for z in (rms(x, w["in"]) @ w["qkv"]).split([q, kv, kv], -1))
    return rope(q, cos, sin).transpose(1, 2), rope(k, cos, sin).transpose(1, 2), v.transpose(1, 2)


def gemma_after(x, z, w):
    b, t, _ = x.shape
    x = x + rms(z.transpose(1, 2).reshape(b, t, -1) @ w["o"], w["attn_post"])
    gate, up = (rms(x, w["mlp_in"]) @ w["gate_up"]).chunk(2, -1)
    return x + rms((F.gelu(gate, approximate="tanh") * up) @ w["down"], w["mlp_post"])


def gpt2_block(x, w, s):
    b, t, d = x.shape
    times = lambda x, name: torch.addmm(w[name][1], x, w[name][0])
    qkv = times(F.layer_norm(x, (d,), *w["ln_1"], 1e-5).view(-1, d), "qkv").view(b, t, -1)
    q, k, v = (z.view(b, t, s["heads"], -1).transpose(1, 2) for z in qkv.chunk(3, -1))
    z = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(-1, d)
    x = x + times(z, "o").view(b, t, d)
    y = times(F.layer_norm(x, (d,), *w["ln_2"], 1e-5).view(-1, d), "fc")
    return x + times(F.gelu(y, approximate="tanh"), "proj").view(b, t, d)


class Peer:
    """The model up to the SAE's hook, and the SAE's encoder. dtype: f32, tf32 or bf16; the SAE is in TF32 unless in f32."""

    def __init__(self, shape, w, sae, device, dtype, compile=False):
        self.s, self.device, self.tf32, self.sae_tf32 = shape, device, dtype == "tf32", dtype != "f32"
        self.type = torch.bfloat16 if dtype == "bf16" else torch.float32
        at = lambda name: w[name].to(device, self.type)
        self.blocks, self.masks, self.flex = [], {}, None
        for i in range(shape["layer"] + 1):
            if shape["kind"] == "gemma2":
                p = f"model.layers.{i}."
                mat = lambda *names: torch.cat([at(f"{p}{n}_proj.weight") for n in names]).T.contiguous()
                norm = lambda name: at(f"{p}{name}_layernorm.weight")
                self.blocks.append({
                    "in": norm("input"), "attn_post": norm("post_attention"), "mlp_in": norm("pre_feedforward"),
                    "mlp_post": norm("post_feedforward"), "qkv": mat("self_attn.q", "self_attn.k", "self_attn.v"),
                    "o": mat("self_attn.o"), "gate_up": mat("mlp.gate", "mlp.up"), "down": mat("mlp.down")})
            else:
                both = lambda name: (at(f"h.{i}.{name}.weight"), at(f"h.{i}.{name}.bias"))
                self.blocks.append({"ln_1": both("ln_1"), "ln_2": both("ln_2"), "qkv": both("attn.c_attn"),
                                    "o": both("attn.c_proj"), "fc": both("mlp.c_fc"), "proj": both("mlp.c_proj")})
        if shape["kind"] == "gemma2":
            self.embed = at("model.embed_tokens.weight")
            self.scale = torch.tensor(shape["d"] ** 0.5, dtype=self.type, device=device)
            e = shape["d_head"]
            angle = torch.outer(torch.arange(shape["ctx"]).float(), 1e4 ** (-torch.arange(0, e, 2).float() / e))
            self.cos, self.sin = (f(angle)[None, :, None, :].to(device, self.type) for f in (torch.cos, torch.sin))
            if device != "cpu" and dtype == "bf16":  # f32 heads of 256 do not fit in its shared memory
                from torch.nn.attention.flex_attention import flex_attention
                self.flex = torch.compile(flex_attention)
        else:
            self.embed, self.pos = at("wte.weight"), at("wpe.weight")
        parts = (gemma_before, gemma_after, gpt2_block)
        self.before, self.after, self.gpt2_block = (torch.compile(f, dynamic=False) if compile else f for f in parts)
        self.W, self.b_enc = sae["W_enc"].to(device), sae["b_enc"].to(device)
        self.b_dec = sae["b_dec"].to(device) if sae["b_dec"].any() else None
        self.cut = sae["threshold"].to(device) if "threshold" in sae else torch.zeros_like(self.b_enc)

    def attention(self, q, k, v, window):
        """Causal attention with a soft cap and a window. q: [batch, heads, pos, d_head]; k, v: [batch, kv, pos, d_head]."""
        t, scale = q.shape[2], self.s["d_head"] ** -0.5
        window = min(t, window)
        if self.flex:
            if (t, window) not in self.masks:
                from torch.nn.attention.flex_attention import create_block_mask
                seen = lambda b, h, i, j: (i >= j) & (i - j < window)
                self.masks[t, window] = create_block_mask(seen, None, None, t, t, device=self.device)
            return self.flex(q, k, v, score_mod=cap_50, block_mask=self.masks[t, window], scale=scale, enable_gqa=True)
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        scores = cap_50((q @ k.transpose(2, 3)).float() * scale, 0, 0, 0, 0)
        i = torch.arange(t, device=q.device)
        seen = (i[:, None] >= i) & (i[:, None] - i < window)
        return scores.masked_fill(~seen, -torch.inf).softmax(-1).to(v.dtype) @ v

    def forward(self, ids):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        x, t, s = F.embedding(ids, self.embed), ids.shape[1], self.s
        if s["kind"] == "gemma2":
            x, cos, sin = x * self.scale, self.cos[:, :t], self.sin[:, :t]
            for i, w in enumerate(self.blocks):  # every second block has a window
                q, k, v = self.before(x, w, s, cos, sin)
                x = self.after(x, self.attention(q, k, v, s["window"] if i % 2 == 0 else s["ctx"]), w)
        else:
            x = x + self.pos[:t]
            for w in self.blocks:
                x = self.gpt2_block(x, w, s)
        return x.reshape(-1, s["d"])

    def encode(self, x, rows=4096):
        """The token, the feature and the value of what is active, on the device, by chunks."""
        torch.backends.cuda.matmul.allow_tf32 = self.sae_tf32
        parts = []
        for start in range(0, x.shape[0], rows):
            part = x[start:start + rows].float()
            pre = torch.addmm(self.b_enc, part if self.b_dec is None else part - self.b_dec, self.W)
            active = pre > self.cut
            token, feature = active.nonzero(as_tuple=True)
            parts.append((token.int() + start, feature.int(), pre[active]))
        return parts


def contexts(dir, limit, device):
    with open(f"{dir}/docs.jsonl") as f:
        lines = [json.loads(line)["text"].split() for _, line in zip(range(limit), f)]
    return torch.tensor([[0, *(int(word[1:]) for word in line)] for line in lines], device=device)


def run(peer, dir, n, few):
    """Rates over `n` documents, after one pass to warm up, and the features of the first `few`."""
    cuda, context = peer.device == "cuda", peer.s["context"]
    sync = torch.cuda.synchronize if cuda else lambda: None
    passes = contexts(dir, n, peer.device).split(PASS // context)
    to_host = lambda parts: [tuple(x.to("cpu", non_blocking=cuda) for x in part) for part in parts]
    first = to_host(peer.encode(peer.forward(passes[0])))
    sync()
    token, feature, value = (torch.cat(columns).numpy() for columns in zip(*first))
    start = time.perf_counter()
    for ids in passes:
        peer.forward(ids)
    sync()
    middle = time.perf_counter()
    for ids in passes:  # the host waits for the number of active features, not for their copies
        parts = to_host(peer.encode(peer.forward(ids)))
    sync()
    end, tokens = time.perf_counter(), sum(ids.numel() for ids in passes)
    document, position = np.divmod(token[token < few * context].astype(np.int64), context)
    features = by_key(document, position, feature[:len(document)], value[:len(document)])
    return dict(forward=tokens / (middle - start), rate=tokens / (end - middle), features=features)


# --- Comparison ------------------------------------------------------------------------------------------------------
def by_key(document, position, feature, value):
    """Ascending keys of documents, positions and features, and their values. The BOS is left out."""
    keep = position > 0
    key = (((document << 20) + position << 24) + feature)[keep]
    at = np.argsort(key)
    return key[at], value[keep][at].astype(np.float64)


def read_features(path, few, last=False):
    with open(path, "rb") as f:
        lines = collections.deque(f, few) if last else [line for _, line in zip(range(few), f)]
    columns = []
    for d, record in enumerate(map(json.loads, lines)):
        counts = [len(active) for active in record["active_features"]]
        feature, value = (np.array(list(itertools.chain(*record[key])), float) for key in ("active_features", "activations"))
        columns.append((np.full(len(value), d), np.repeat(np.arange(len(counts)), counts), feature.astype(np.int64), value))
    return by_key(*map(np.concatenate, zip(*columns)))


def difference(a, b):
    """The relative error of what is active in both, and the share of features that are active in one only."""
    common, i, j = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    only = len(a[0]) + len(b[0]) - 2 * len(common)
    error = np.linalg.norm(a[1][i] - b[1][j]) / np.linalg.norm(a[1][i]) if len(common) else 1.0
    return error if np.isfinite(error) else 1.0, only / (only + len(common))


def is_near(ours, theirs, kind):
    """Not further from the CPU than PyTorch with the same dtype, with half as much again for chance. PyTorch itself must be
    near: far from what it and the CPU should both compute, it is no measure."""
    limits = {"f32": (1e-5, 1e-3), "tf32": (5e-3, 2e-2), "bf16": (5e-2, 1e-1)}[kind]
    columns = zip(ours, theirs or limits, limits, (2e-6, 1e-4))
    return all(y <= limit and x <= 1.5 * y + floor for x, y, limit, floor in columns)


def show(ours, theirs=None):
    text = lambda x: (f"{x[0]:.1e}", f"{100 * x[1]:.3f} %")
    return " | ".join(text(ours) if theirs is None else (f"{x} ({y})" for x, y in zip(text(ours), text(theirs))))


def call(command, limit):
    """The output of a program. An error has the line that says why it failed."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"stopped after {limit} s") from None
    sys.stderr.write(done.stderr[-2000:])
    if done.returncode:
        lines = done.stderr.splitlines() or [""]
        raise RuntimeError(f"exit code {done.returncode}: {next((x for x in lines if x.startswith('error')), lines[-1])}")
    return done.stdout


def rates(a):
    s, right = read_json(f"{a.dir}/shape.json"), True
    few, output, reference, dtypes = s["few"], f"{a.dir}/ours.jsonl", f"{a.dir}/cpu.jsonl", a.dtypes.split(",")
    model, docs = f"{a.dir}/model", f"{a.dir}/docs.jsonl"

    def row(judge, *arguments):
        """Prints a row. `judge` returns its cells, and whether they are right."""
        nonlocal right
        try:
            cells, is_right = judge(*arguments)
            cells.append("ok" if is_right else "OFF")
        except Exception as error:
            cells, is_right = [arguments[0], f"FAILED: {type(error).__name__}: {error}".replace("|", "/").replace("\n", " ")[:300]], False
        right &= is_right
        print(f"| {s['name']} | {' | '.join(cells)} |", flush=True)

    def extract(sae, device, dtype, to):
        call([a.program, "extract", "--model", model, "--sae", f"{a.dir}/{sae}", "--dataset", docs, "--max-examples", few,
              "--device", device, "--dtype", dtype, "--output", to], a.limit)
        return read_features(to, few)

    def program(dtype, peer, kind, n):
        counts = json.loads(call([a.program, "run", SCRIPT, "--", "extract", a.device, dtype, model, f"{a.dir}/sae", docs, output, n],
                                 a.limit).strip().splitlines()[-1])
        first, second = (counts[key]["tokens_per_second"] for key in ("first", "second"))
        measured[dtype] = second
        distance = tuple(map(max, *(difference(expected, read_features(output, few, last)) for last in (False, True))))
        theirs = difference(expected, peer["features"]) if peer["features"] else None
        cells = (f"{x:.0f}" for x in (first, second, peer["forward"], peer["rate"]))
        measure = None if kind == "tf32" and a.peer_device == "cpu" else theirs  # a CPU has no TF32
        return [dtype, *cells, f"{second / peer['rate']:.2f}", show(distance, theirs)], is_near(distance, measure, kind)

    def command_line(dtype, sae, what):
        expected = extract(sae, "cpu", "f32", reference)
        start = time.perf_counter()
        found = extract(sae, a.device, dtype, output)
        seconds, distance = time.perf_counter() - start, difference(expected, found)
        return [dtype, f"{what}, {seconds:.1f} s", *[""] * 4, show(distance)], is_near(distance, None, dtype)

    expected = extract("sae", "cpu", "f32", reference)
    w, sae = load_file(f"{model}/model.safetensors"), load_file(f"{a.dir}/sae/sae_weights.safetensors")
    measured, peers = {}, {}
    nothing = dict(forward=float("nan"), rate=float("nan"), features=None)
    for dtype in dtypes * a.rounds:
        kind = "f32" if dtype == "auto" else dtype
        n = s["documents"] // 4 if kind == "f32" else s["documents"]  # f32 is slow
        try:
            if dtype != "auto" or kind not in peers:
                peers.pop(kind, None)
                with torch.no_grad():
                    compile = kind == "bf16" and a.peer_device == "cuda"
                    peers[kind] = run(Peer(s, w, sae, a.peer_device, kind, compile), a.dir, n, few)
        except Exception as error:
            print(f"> PyTorch failed in {kind}: {type(error).__name__}: {error}".replace("\n", " ")[:300], flush=True)
            right = False
        if a.peer_device == "cuda":
            torch.cuda.empty_cache()
        row(program, dtype, peers.get(kind, nothing), kind, n)
    write_json(f"{a.dir}/rates.json", measured)
    for sae, what in (("sae", "command line"), ("topk", "command line, top-k")):  # a GPU selects the largest in another way
        if os.path.exists(f"{a.dir}/{sae}/cfg.json"):
            row(command_line, "f32", sae, what)
    return right


# --- Other libraries -------------------------------------------------------------------------------------------------
def lens(a):
    """As people run them: every feature of a batch in a dense tensor, in f32 without TF32."""
    try:
        from sae_lens import SAE
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError as error:
        print(f"> TransformerLens and SAELens are not measured: {error}")
        return
    s = read_json(f"{a.dir}/shape.json")
    options = dict(n_layers=s["layer"] + 1, d_model=s["d"], n_heads=s["heads"], d_head=s["d_head"], d_mlp=s["d_mlp"], n_ctx=s["ctx"],
                   d_vocab=VOCAB, device=a.device, seed=0, act_fn="gelu_new", normalization_type="LN")
    if s["kind"] == "gemma2":
        kinds = ["global" if i % 2 else "local" for i in range(s["layer"] + 1)]
        options.update(
            act_fn="gelu_pytorch_tanh", normalization_type="RMS", positional_embedding_type="rotary", rotary_dim=s["d_head"],
            n_key_value_heads=s["kv"], window_size=s["window"], use_local_attn=True, attn_types=kinds, gated_mlp=True, final_rms=True,
            attn_scores_soft_cap=50.0, output_logits_soft_cap=30.0, use_normalization_before_and_after=True)
    model = HookedTransformer(HookedTransformerConfig(**options))
    sae, hook = SAE.load_from_disk(f"{a.dir}/sae", device=a.device), f"blocks.{s['layer']}.hook_resid_post"
    batches = contexts(a.dir, 32, a.device).split(8)
    with torch.no_grad():
        for i, ids in enumerate((batches[0], *batches)):  # the first to warm up
            start = time.perf_counter() if i <= 1 else start
            _, cache = model.run_with_cache(ids, names_filter=hook, stop_at_layer=s["layer"] + 1)
            (sae.encode(cache[hook]) > 0).sum().item()  # which waits for the device
    rate = sum(ids.numel() for ids in batches) / (time.perf_counter() - start)
    ours = read_json(f"{a.dir}/rates.json").get("f32", 0) if os.path.exists(f"{a.dir}/rates.json") else 0
    print(f"| {s['name']} | {rate:.0f} | {ours:.0f} | {ours / rate:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name, positional in (("fixtures", "tests dir"), ("make", "dir shape"), ("rates", "dir"), ("lens", "dir")):
        command = commands.add_parser(name)
        for argument in positional.split():
            command.add_argument(argument)
        for option, default in dict(device="cuda", peer_device="cuda", program="", dtypes="f32", rounds=1, limit=60).items():
            command.add_argument(f"--{option.replace('_', '-')}", type=type(default), default=default)
        command.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    done = {f.__name__: f for f in (fixtures, make, rates, lens)}[arguments.command](arguments)
    sys.exit(3 if done is False else 0)
