#!/usr/bin/env bash
# The prompt in a real terminal: types into a tmux session and checks its screen. Fails at the first expected text that
# does not appear.
#
#   tests/repl/tmux.sh target/release/saescope
set -euo pipefail
program="$(realpath "${1:?the program, such as target/release/saescope}")"
folder="$(mktemp -d)"
socket="saescope-$$"
trap 'tmux -L "$socket" kill-server 2>/dev/null || true; rm -rf "$folder"' EXIT

screen() { tmux -L "$socket" capture-pane -p -t prompt; }
# tmux would treat a semicolon at the end as its own.
type() { tmux -L "$socket" send-keys -t prompt -l "${1%;}"; [[ "$1" != *';' ]] || key '\;'; }
key() { tmux -L "$socket" send-keys -t prompt "$@"; }
enter() { type "$1"; key Enter; }

# Waits until a line of the screen matches.
expect() {
    for _ in $(seq 400); do
        if screen | grep -qE -- "$1"; then
            printf 'ok    %s\n' "${2:-$1}"
            return
        fi
        sleep 0.05
    done
    printf 'not on the screen: %s\n' "$1" >&2
    screen >&2
    exit 1
}

start() {
    tmux -L "$socket" -f /dev/null new-session -d -s prompt -x 140 -y 40 \
        "${1:-}cd '$folder' && XDG_DATA_HOME='$folder/data' exec '$program'"
    expect '^saescope [0-9.]+\. `help` lists' 'the banner'
    expect '^> ?$' 'a prompt'
}

start
enter 'fn twice(x) {'
expect '^\| ?$' 'an open bracket waits for another line'
enter '    2 * x'
enter '}'
enter 'twice(21)'
expect '^42$' 'a function of several lines'

enter 'let model = load_model("demo"); let sae = load_sae("demo");'
type 'model.hook_n'
key Tab
expect '^> model\.hook_names' 'a method is completed'
key C-c
type 'plot_h'
key Tab
expect 'plot_heatmap +plot_heatmap\(' 'a menu of functions'
expect 'plot_histogram +plot_histogram\(' 'with their signatures'
key C-c
type 'definition_tree(model, v, #{ cuto'
key Tab
expect 'definition_tree\(model, v, #\{ cutoff:' 'an option is completed'
key C-c

enter 'let lost = nonsense(model)'
expect '^error: unknown function `nonsense`$' 'an error'
expect '^ --> input:1:12$' 'its position'
expect '^  \|            \^{8}$' 'with its line underlined'

enter 'help token_list'
expect 'The tokens nearest to a feature vector' 'help'
expect '^- `top_k`: The number of tokens. Default: 100.$' 'with the options'
enter '?twise'
expect 'unknown function `twise`' 'help for an unknown name'
key C-l
enter ':vars'
expect '^model +Model +Model demo' 'variables'
enter 'plot_line([1, 4, 9])'
expect '^saved to .*figure_1\.png$' 'a picture is saved if the terminal cannot show it'

for _ in $(seq 200000); do echo '{"text": "A small boat on a large lake, and a fox who drew it."}'; done > "$folder/many.jsonl"
enter 'create_feature_dataset(model, sae, #{ dataset_path: "many.jsonl", output_path: "out.jsonl" })'
expect '[0-9]+ documents, [0-9]+ tokens, [0-9]+ tokens/s' 'an extraction shows its progress'
key C-c
expect '^(\^C)?interrupted$' 'Ctrl-C interrupts it'
[[ ! -e "$folder/out.jsonl" ]] || { echo 'an incomplete output was left' >&2; exit 1; }
key C-l
enter '[twice(1), model.cfg.n_layers, is_def_var("lost")]'
expect '^\[2, 6, false\]$' 'the session is unchanged'
enter ':save statements.rhai'
expect 'statements saved to statements\.rhai$' 'the statements are saved'
grep -q '^fn twice(x) {$' "$folder/statements.rhai"
key C-d

for _ in $(seq 100); do tmux -L "$socket" has-session -t prompt 2>/dev/null || break; sleep 0.05; done
start
key Up Up
expect '^> \[twice\(1\), model' 'the history of the last session'
key Enter
expect 'unknown function `twice`' 'without its functions'
enter ':load statements.rhai'
enter 'twice(4)'
expect '^8$' 'which a file restores'
enter ':quit'
for _ in $(seq 100); do tmux -L "$socket" has-session -t prompt 2>/dev/null || break; sleep 0.05; done
if tmux -L "$socket" has-session -t prompt 2>/dev/null; then
    echo 'the prompt did not end' >&2
    exit 1
fi
echo 'ok    the end'

# A terminal that is closed ends the prompt, while it waits and during a call, also if SIGHUP is ignored as under nohup.
ended() {
    for _ in $(seq 200); do
        if ! kill -0 "$1" 2>/dev/null; then
            printf 'ok    %s\n' "$2"
            return
        fi
        sleep 0.05
    done
    kill -9 "$1"
    printf 'still running: %s\n' "$2" >&2
    exit 1
}
for ignored in '' "trap '' HUP; "; do
    for call in '' 'let x = 0; loop { x += 1; }'; do
        start "$ignored"
        process="$(tmux -L "$socket" list-panes -t prompt -F '#{pane_pid}')"
        # The shell of the pane has become the program.
        if [[ -n "$call" ]]; then
            enter "$call"
            sleep 0.5
        fi
        tmux -L "$socket" kill-session -t prompt
        ended "$process" "a closed terminal ends the prompt${ignored:+, SIGHUP ignored}${call:+, during a call}"
    done
done
