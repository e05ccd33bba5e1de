#!/usr/bin/env bash
# Takes a picture of the prompt in a terminal that shows pictures: xterm with sixel, on a virtual display. Needs xterm,
# xvfb, xdotool and imagemagick.
#
#   tests/repl/picture.sh target/release/saescope docs/prompt.png
set -euo pipefail
program="$(realpath "${1:?the program, such as target/release/saescope}")"
picture="$(realpath "${2:?the file to write, such as docs/prompt.png}")"
folder="$(mktemp -d)"
export DISPLAY=":$((RANDOM % 1000 + 100))"
Xvfb "$DISPLAY" -screen 0 1400x1100x24 >/dev/null 2>&1 &
server=$!
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
sleep 1

cat > "$folder/resources" <<'X'
XTerm*faceName: DejaVu Sans Mono
XTerm*faceSize: 11
XTerm*background: #1d1f28
XTerm*foreground: #e4e6eb
XTerm*cursorColor: #e4e6eb
XTerm*internalBorder: 14
XTerm*decTerminalID: vt340
XTerm*numColorRegisters: 256
XTerm*sixelScrolling: true
XTerm*color0: #1d1f28
XTerm*color1: #ff6b5e
XTerm*color2: #9bd182
XTerm*color4: #7aa7ff
XTerm*color5: #d79bff
XTerm*color6: #5fd0d6
XTerm*color8: #8b909c
XTerm*color9: #ff6b5e
XTerm*color12: #7aa7ff
XTerm*color14: #5fd0d6
X
(cd "$folder" && XENVIRONMENT="$folder/resources" XDG_DATA_HOME="$folder/data" \
    xterm -geometry 112x48+0+0 -e "$program") &
sleep 1.5

type() { xdotool type --delay 12 -- "$1"; }
enter() { type "$1"; xdotool key Return; sleep "${2:-0.5}"; }

enter 'let model = load_model("demo"); let sae = load_sae("demo");'
enter 'let text = "The old mill has no wheel. They had been told that it would have one.";'
enter 'colored_tokens(model.to_str_tokens(text), feature_acts(model, sae, text).of(1919))'
enter 'let early = load_sae("demo", "blocks.0.hook_resid_pre");'
enter 'definition_tree(model, feature_vector(model, early, 624), #{ cutof: 1e-3 })'
enter 'let tree = definition_tree(model, feature_vector(model, early, 624), #{ cutoff: 1e-3, null_directions: 16 });' 1.5
enter 'tree.trim(7e-3)' 1.5
type 'tree.'
xdotool key Tab
sleep 0.7
window="$(xdotool search --class xterm | tail -1)"
import -window "$window" "$picture"
kill "$server" 2>/dev/null || true
echo "$picture"
