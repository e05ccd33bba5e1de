#!/usr/bin/env bash
# Checks a build on a machine with a GPU, in one call of at most five minutes: whether it computes there what it computes
# on the CPU, and how fast it is beside a hand-tuned PyTorch program. Prints tables and writes them to $OUT/gpu-check.md,
# and all that was printed to $OUT/gpu-check.txt. The exit code is 0 only if everything is right.
#
#   bash scripts/gpu-check.sh BINARY                # BINARY: a release build with --features cuda
#   DEVICE=cpu SHAPES='tiny-gpt2 tiny-gemma' MODES='f32 bf16' bash scripts/gpu-check.sh BINARY      # without a GPU
#
# Needs nvidia-smi, and Python with torch, numpy and safetensors. Environment variables, with their defaults:
#   FAMILIES=60, RATES=150, TREE=40, CORES=60, LENS=60: the time limit of each part in seconds; 0 leaves it out
#   MODES='bf16 f32 tf32 auto', SHAPES='gpt2-small gemma-2-2b' (also gemma-2-2b-65k), ROUNDS=1: what is measured
#   NODES=700: the nodes of the tree; GOAL=0.8: the efficiency of all cores; TOTAL=290: the time limit of all parts
#   DEVICE=cuda, PEER_DEVICE=$DEVICE: where saescope and PyTorch run
#   PYTHON=python3, WORK=/tmp/gpu-check (models, several GB), OUT=$WORK
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=$(realpath "${1:?the program is missing: bash scripts/gpu-check.sh BINARY}")
export DEVICE=${DEVICE:-cuda} SHAPES=${SHAPES:-gpt2-small gemma-2-2b} MODES=${MODES:-bf16 f32 tf32 auto} ROUNDS=${ROUNDS:-1}
export PEER_DEVICE=${PEER_DEVICE:-$DEVICE} NODES=${NODES:-700} PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1
# Efficiency means little where other programs run, as on a machine without a GPU.
GOAL=${GOAL:-$([ "$DEVICE" = cpu ] && echo 0 || echo 0.8)}
export GOAL WORK=${WORK:-${TMPDIR:-/tmp}/gpu-check}
mkdir -p "$WORK" "${OUT:=$WORK}"
WORK=$(realpath "$WORK")
export OUT DTYPES=${MODES// /,} TORCHINDUCTOR_CACHE_DIR=$WORK/inductor TRITON_CACHE_DIR=$WORK/triton
TOTAL=${TOTAL:-290}
REPORT=$OUT/gpu-check.md SCRIPT=$HERE/gpu/check.rhai PEER=$HERE/gpu/peer.py
# `timeout --foreground` leaves a program in its part's process group, which the part's own limit ends as a whole.
limited() { timeout --foreground -k 2 "$@"; }

# --- The parts, each a process of its own ----------------------------------------------------------------------------
part_FAMILIES() {
    local lists names saes log=$WORK/families.rows name code found wrong=0
    lists=$("$PYTHON" "$PEER" fixtures "$HERE/../tests" "$WORK/fixtures") || return 1
    names=$(head -1 <<<"$lists") saes=$(tail -1 <<<"$lists")
    cd "$WORK/fixtures" || return 1
    echo '| model | activations in f32, furthest hook | logits | after edits | generated | tree | token lists | SAE features | bf16: activations (on the CPU) | s | |'
    echo '|---|---|---|---|---|---|---|---|---|---|---|'
    # The script ends after an error, and the next run goes on after it.
    while [ -n "$names" ]; do
        limited 45 "$BIN" run "$SCRIPT" -- families "$DEVICE" "$DTYPES" "$WORK/fixtures" "$names" "$saes" 2>&1 | tee "$log"
        code=${PIPESTATUS[0]}
        [ "$code" = 0 ] || wrong=1
        found=0
        while read -r _ name _; do
            names=",$names," names=${names/,$name,/,} names=${names#,} names=${names%,} found=1
        done < <(grep '^| ' "$log")
        if [ -n "$names" ] && { [ "$code" -gt 1 ] || [ "$found" = 0 ]; }; then # a crash, a hang, or no script
            echo "| ${names%%,*} | FAILED: exit code $code |"
            [[ $names == *,* ]] || break
            names=${names#*,}
        fi
    done
    return $wrong
}

part_RATES() {
    local shape code=0
    echo '| shape | dtype | saescope, first run | second run | PyTorch, forward pass | with features | ratio | error (PyTorch) | other features (PyTorch) | |'
    echo '|---|---|---|---|---|---|---|---|---|---|'
    for shape in $SHAPES; do
        [ -f "$WORK/$shape/sae/cfg.json" ] || { echo "| $shape | FAILED: no model |"; code=1; continue; }
        limited 100 "$PYTHON" "$PEER" rates "$WORK/$shape" --program "$BIN" --device "$DEVICE" --peer-device "$PEER_DEVICE" \
            --dtypes "$DTYPES" --rounds "$ROUNDS"
        case $? in 0) ;; 3) code=3 ;; *) echo "| $shape | FAILED: exit code $? |"; code=1 ;; esac
        rm -f "$WORK/$shape/ours.jsonl"
    done
    return $code
}

part_TREE() {
    local shape=${SHAPES##* } dtypes=
    for mode in $MODES; do case $mode in f32 | bf16) dtypes+=${dtypes:+,}$mode ;; esac; done
    echo "> The shape is ${shape}'s."
    echo '| dtype | nodes | depth | first tree, s | second, s | third, s | compared with the CPU | |'
    echo '|---|---|---|---|---|---|---|---|'
    "$BIN" run "$SCRIPT" -- tree "$DEVICE" "${dtypes:-$DTYPES}" "$WORK/$shape/model" "$NODES" 100
}

part_CORES() {
    local shape=${SHAPES%% *} order all cores n rate one='' efficiency verdict code=0
    # One processor of each core first.
    mapfile -t order < <(lscpu -p=CPU,CORE | awk -F, '!/^#/ { print n[$2]++, $1 }' | sort -n -k1,1 -k2,2 | cut -d' ' -f2)
    [ ${#order[@]} -gt 0 ] || mapfile -t order < <(seq 0 $(($(nproc) - 1)))
    all=${#order[@]} cores=$(lscpu -p=CORE | grep -v '^#' | sort -u | wc -l)
    [ "$cores" -gt 0 ] || cores=$all
    echo "> The shape is ${shape}'s. $all processors on $cores cores; four documents for each."
    echo '| processors | tokens/s | efficiency | |'
    echo '|---|---|---|---|'
    for n in $(printf '%s\n' 1 2 4 8 "$all" | sort -nu); do
        [ "$n" -le "$all" ] || continue
        rate=$(RAYON_NUM_THREADS=$n limited 30 taskset -c "$(IFS=,; echo "${order[*]:0:n}")" "$BIN" run "$SCRIPT" -- extract cpu f32 \
            "$WORK/$shape/model" "$WORK/$shape/sae" "$WORK/$shape/docs.jsonl" "$WORK/cores.jsonl" $((4 * n)) "$n" |
            sed -nE 's/.*"second":.*"tokens_per_second":([0-9.]+).*/\1/p')
        [ -n "$rate" ] || { echo "| $n | FAILED |"; code=1; continue; }
        one=${one:-$rate}
        read -r rate efficiency verdict < <(awk -v r="$rate" -v one="$one" -v n="$n" -v all="$all" -v cores="$cores" -v goal="$GOAL" 'BEGIN {
            e = r / one / (n < cores ? n : cores); printf "%.0f %.2f %s\n", r, e, n < all || goal == 0 ? "" : e < goal ? "OFF" : "ok" }')
        [ "$verdict" != OFF ] || code=1
        echo "| $n | $rate | $efficiency | $verdict |"
    done
    return $code
}

part_LENS() {
    local shape code=0
    "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("transformer_lens", "sae_lens"))))' ||
        { echo '> TransformerLens and SAELens are not installed here, and not measured.'; return 0; }
    echo '| shape | TransformerLens and SAELens | saescope, f32 | ratio |'
    echo '|---|---|---|---|'
    for shape in $SHAPES; do
        HF_HUB_OFFLINE=1 limited 60 "$PYTHON" "$PEER" lens "$WORK/$shape" --device "$PEER_DEVICE" || { echo "| $shape | FAILED: exit code $? |"; code=1; }
    done
    return $code
}

if [ -n "${PART:-}" ]; then
    "part_$PART"
    exit
fi

# --- The whole -------------------------------------------------------------------------------------------------------
rm -rf "$WORK/logs"
mkdir "$WORK/logs"
exec > >(tee "$OUT/gpu-check.txt") 2>&1
tee=$!
failed=()
say() { printf '%4d s  %s\n' $SECONDS "$*"; }

part() { # name, limit in seconds, heading, explanation
    local name=$1 limit=${!1:-$2} log=$WORK/logs/$1 code
    [ "$limit" != 0 ] || { say "$3: left out"; return; }
    [ "$limit" -le $((TOTAL - SECONDS)) ] || limit=$((TOTAL - SECONDS))
    [ "$limit" -ge 1 ] || limit=1
    say "$3: at most $limit s"
    PART=$name timeout -k 5 "$limit" bash "$0" "$BIN" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || failed+=("$3")
    {
        printf '\n### %s\n\n%s\n' "$3" "$4"
        sed -n 's/^> //p' "$log"
        ! grep -q '^| ' "$log" || { echo; grep '^|' "$log"; }
        case $code in 0) ;; 124 | 137) echo; echo "**Stopped at the time limit of $limit s.**" ;; *) echo; echo '**Something is wrong.**' ;; esac
    } >>"$REPORT"
}

# cuBLAS and cuRAND, where the driver does not bring them: PyTorch's wheels have them.
if [ "$DEVICE" != cpu ] && [ -z "${SAESCOPE_CUDA_LIBS:-}" ]; then
    SAESCOPE_CUDA_LIBS=$("$PYTHON" -c 'import glob, sys; print(":".join(sorted({d for p in sys.path if p for d in glob.glob(p + "/nvidia/*/lib")})))')
    export SAESCOPE_CUDA_LIBS
fi
# Models are made while the fixtures are compared.
making=()
if [ "${RATES:-1}" != 0 ] || [ "${TREE:-1}" != 0 ] || [ "${CORES:-1}" != 0 ] || [ "${LENS:-1}" != 0 ]; then
    compile=; [ "$PEER_DEVICE" != cuda ] || [[ " $MODES " != *" bf16 "* ]] || [ "${RATES:-1}" = 0 ] || compile=--compile
    for shape in $SHAPES; do
        rm -rf "${WORK:?}/$shape"
        timeout -k 5 100 "$PYTHON" "$PEER" make "$WORK/$shape" "$shape" --device "$PEER_DEVICE" $compile >"$WORK/logs/make-$shape" 2>&1 &
        making+=($!)
    done
fi

gpu=none
[ "$DEVICE" = cpu ] || gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1)
version=$("$BIN" --version) || { say "the program does not start"; failed+=("start"); }
python=$("$PYTHON" -c 'import platform, torch; print("PyTorch", torch.__version__ + ", Python", platform.python_version())')
nvcc=$(nvcc --version 2>/dev/null | sed -nE 's/.*release ([0-9.]+).*/, nvcc \1/p')
call=$(for name in DEVICE PEER_DEVICE SHAPES MODES ROUNDS; do printf "%s='%s' " "$name" "${!name}"; done)
cat >"$REPORT" <<END
GPU: ${gpu:-not found by nvidia-smi}. CPU: $(lscpu | sed -nE 's/^Model name: *//p' | head -1), $(nproc) processors.
$(date -u +%F); $version, $python$nvcc.

\`\`\`sh
${call}bash scripts/gpu-check.sh BINARY
\`\`\`
END
cat "$REPORT"
stat -L -c '%s bytes' "$BIN"
if ldd "$BIN" | grep -E 'libcu|libnv'; then say "the program needs CUDA libraries to start"; failed+=("ldd"); fi
if [ "$DEVICE" != cpu ]; then # the first use compiles kernels in the driver, and says what is missing
    probe() { timeout -k 5 60 "$BIN" eval "print(load_model(\"demo\", #{ device: \"$DEVICE\" }).logits([1, 2]).shape)"; }
    if ! probe && export LD_LIBRARY_PATH="$SAESCOPE_CUDA_LIBS:${LD_LIBRARY_PATH:-}" && probe; then
        say "the libraries in SAESCOPE_CUDA_LIBS are found only with LD_LIBRARY_PATH"; failed+=("libraries")
    fi
    probe >"$WORK/logs/probe" 2>&1 || { say "the device cannot be used"; failed+=("device"); }
    say "first use of the device"
fi

part FAMILIES 60 "Every model family" "The largest difference from the CPU in f32, relative to the largest magnitude of the
activation. In f32, up to 2e-5 is right; more where attention scores are above 10, whose relative error a softmax magnifies. bf16 is
not judged; beside it is the difference of bf16 on the CPU. Trees: the nodes, and the largest difference of log probabilities. SAE
features: the largest difference, and how many are active on one side only."
for id in "${making[@]}"; do wait "$id" || failed+=("a model"); done
cat "$WORK"/logs/make-* 2>/dev/null
say "models are made"
part RATES 150 "Extraction" "Tokens/s with random weights. The first run reads the weights and sets the device up; the second, in the
same process, is the rate, with texts, tokenizing and writing. The ratio is that of the second run to PyTorch with features, which
are copied to the host and not written. Error and other features: how far activations are from the CPU in f32, and how many features are
active on one side only; right if not further than 1.5 times PyTorch's own distance in the same dtype."
part TREE 40 "A definition tree" "Seconds with random weights. The first tree reads the weights; the others have the nodes in the second
column. The comparison is of about 100 nodes: the largest difference of log probabilities."
part CORES 60 "The CPU" "Extraction in f32, the second of two runs in a process; efficiency: the rate relative to that of one processor
times the number of cores$([ "$GOAL" = 0 ] || echo "; the goal is $GOAL on all")."
part LENS 60 "TransformerLens and SAELens" "Tokens/s on the same device in f32: batches of eight contexts, all features in a dense tensor,
nothing written."

if [ ${#failed[@]} = 0 ]; then verdict='Everything is right'; else verdict="**Wrong: $(IFS=,; echo "${failed[*]}")**"; fi
say "$verdict"
printf '\n%s; %d s in all.\n' "$verdict" $SECONDS >>"$REPORT"
echo; cat "$REPORT"
exec >&- 2>&-
wait "$tee"
exit $((${#failed[@]} > 0))
