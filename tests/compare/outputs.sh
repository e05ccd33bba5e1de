#!/usr/bin/env bash
# Compares what two builds of the program write, byte for byte: records, meta files, trees, token lists, hook values, SAE
# outputs, and the lists of published SAEs. Numbers of a run's own time are left out.
#
#   tests/compare/outputs.sh BEFORE AFTER       two programs, such as the one of an earlier commit and target/release/saescope
set -euo pipefail
[[ $# == 2 ]] || { sed -n '2,6s/^# \?//p' "$0"; exit 2; }
before="$(realpath "$1")"
after="$(realpath "$2")"
source="$(cd "$(dirname "$0")/../.." && pwd)"
export HF_HUB_OFFLINE=1
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# Everything that is compared, into the current folder.
outputs() {
    local program="$1" demo="--model demo --sae demo" block
    "$program" extract $demo --dataset demo --output records.jsonl
    "$program" extract $demo --sae-id blocks.0.hook_resid_pre --dataset demo --output packed.jsonl \
        --packing concatenate --context-size 32 --activation-threshold 0.1 --batch-size 3
    "$program" extract $demo --dataset tests/fixtures/datasets/plain --output split.jsonl \
        --long-documents split --context-size 8 --prepend-bos false --max-examples 20
    for block in blocks.0.hook_resid_pre blocks.4.hook_resid_pre; do
        "$program" tree $demo --sae-id "$block" --feature 624 --cutoff 1e-3 --null-directions 4 --output "tree_$block.json"
        "$program" tree $demo --sae-id "$block" --feature 1,2,3 --cutoff 1e-2 --scales 0.5,1,2 --output "trees_$block.jsonl"
        for method in ratio centered_cosine logit_lens logit_lens_raw; do
            "$program" tokens $demo --sae-id "$block" --feature 1663 --method "$method" --output "tokens_${block}_$method.json"
        done
    done
    "$program" saes --json > saes.json
    find tests/fixtures/saes -follow -name expected.safetensors -printf '%h\n' | sort > saes.txt
    "$program" run "$source/tests/compare/outputs.rhai" -- $(cat saes.txt) > script.txt
}

for side in before after; do
    mkdir -p "$scratch/$side"
    ln -s "$source/tests" "$scratch/$side/tests"
    (cd "$scratch/$side" && outputs "${!side}") > "$scratch/$side.log" 2>&1 || { cat "$scratch/$side.log"; exit 1; }
    rm "$scratch/$side/tests"
    # How long a run took.
    sed -i -E '/"(seconds|tokens_per_second)"/d' "$scratch/$side"/*.meta.json
done
files="$(ls "$scratch/before" | wc -l)"
if diff -r "$scratch/before" "$scratch/after"; then
    echo "the same: $files files, $(du -sh --apparent-size "$scratch/before" | cut -f1)"
else
    echo "the programs differ" >&2
    exit 1
fi
