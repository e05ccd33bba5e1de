# What the scripts of this folder share: where builds go, and a Python with Jupyter. To be sourced.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One folder for all builds, so that a second run is short; nothing depends on its contents.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/saescope"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
export CARGO_TERM_COLOR=never
# What incremental builds keep grows without end.
export CARGO_INCREMENTAL=0
program="$CARGO_TARGET_DIR/release/saescope"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
venv="$scratch/venv"

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

# Builds the program, and installs Jupyter with its kernel in a Python environment of its own.
jupyter() {
    cargo build --release --locked
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet install -r tests/jupyter/requirements.txt
    "$program" kernel install --prefix "$venv"
}
