#!/usr/bin/env bash
# From a bare Debian 12 to factorised models that stream over gRPC: installs, builds, fetches SmolLM2-135M, converts,
# calibrates and factorises it on Python code, measures, serves. Models stay under RANKINE_HOME; running it again
# makes only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/scripts/common.sh
bash tools/setup.sh
rankine=$PWD/build/release/rankine
server=
dense=$RANKINE_HOME/smollm2-135m
corpus=$RANKINE_HOME/corpus
measured=$RANKINE_HOME/quickstart
selective=$RANKINE_HOME/smollm2-135m-svd-llm-0.8-selective
# Models made by another version or recipe are made again.
recipe="$("$rankine" --version) recipe 1"
if [ "$(cat "$measured/recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -rf "$measured" "$dense" "$corpus" "$RANKINE_HOME"/smollm2-135m-svd-llm-*
fi
mkdir -p "$measured"
echo "$recipe" >"$measured/recipe"

# A third of the 210 linears, those that factoring to 0.8 of their parameters costs least.
selected_linears=70

factorize() { # OUT KEEP NAME [FLAG...]
  local out=$1 keep=$2 name=$3
  shift 3
  [ -d "$out" ] && [ -f "$measured/$name.json" ] && { step "$out is there"; return; }
  rm -rf "$out"
  step "factorise: svd-llm at keep $keep -> $out"
  "$rankine" factorize "$dense" "$out" --method svd-llm --keep "$keep" --calibration "$corpus/calibration.txt" \
    --statistics "$RANKINE_HOME/statistics" --json "$@" >"$measured/$name.tmp"
  mv "$measured/$name.tmp" "$measured/$name.json"
}

# Prints a regular expression of the linears with the least weighted error.
least_loss_regex() {
  "$python" - "$measured/svd-llm-0.8.json" "$selected_linears" <<'PY'
import json, re, sys
layers = json.load(open(sys.argv[1]))["layers"]
best = sorted(layers, key=lambda layer: layer["weighted_error"])[: int(sys.argv[2])]
print("^(" + "|".join(re.escape(layer["name"]) for layer in best) + ")$")
PY
}

step "model: SmolLM2-135M-Instruct"
gguf=$(bash tools/scripts/fetch_model.sh)
[ -d "$dense" ] || { step "convert to bf16"; "$rankine" convert "$gguf" "$dense"; }
[ -f "$corpus/evaluation.txt" ] || { step "corpus: modules of Python's standard library"; bash tools/scripts/corpus.sh "$corpus"; }
factorize "$RANKINE_HOME/smollm2-135m-svd-llm-0.9" 0.9 svd-llm-0.9
factorize "$RANKINE_HOME/smollm2-135m-svd-llm-0.8" 0.8 svd-llm-0.8
only=$(least_loss_regex)
factorize "$selective" 0.8 selective --only "$only"
rm -rf "$RANKINE_HOME/statistics"

models=("$dense" "$RANKINE_HOME/smollm2-135m-svd-llm-0.9" "$RANKINE_HOME/smollm2-135m-svd-llm-0.8" "$selective" "$gguf")
step "perplexity on Python modules that the calibration did not see"
for model in "${models[@]}"; do
  "$rankine" eval "$model" --text "$corpus/evaluation.txt" --windows 32 --json >"$measured/eval-$(basename "$model").json"
done
step "speed, all models interleaved in one run"
"$rankine" bench "${models[@]}" --repeat 5 --json >"$measured/bench.json"
echo
"$python" tools/scripts/quickstart_table.py "$gguf" "$measured" | tee "$measured/table.txt"
"$python" tools/scripts/quickstart_chart.py "$measured" "$measured/quickstart.svg"

serve_and_ask() { # MODEL
  local log=$measured/serve.log address
  "$rankine" serve "$1" --listen 127.0.0.1:0 >"$log" 2>&1 &
  server=$!
  trap 'kill $server 2>/dev/null || true' EXIT
  for _ in $(seq 300); do
    address=$(sed -n 's/^listening on //p' "$log")
    [ -z "$address" ] || break
    kill -0 $server 2>/dev/null || { cat "$log" >&2; fail "the server ended before it listened"; }
    sleep 0.1
  done
  [ -n "$address" ] || fail "the server did not listen within 30 s (log: $log)"
  printf '\n--- %s, served at %s ---\n' "$(basename "$1")" "$address"
  "$rankine" client "$address" --chat --prompt "What is the capital of France?" --max-tokens 48 --temperature 0
  kill -TERM $server
  wait $server || fail "the server did not end cleanly (log: $log)"
  trap - EXIT
}

step "gRPC: the same question to the dense and to the factored model"
serve_and_ask "$dense"
serve_and_ask "$selective"

cat <<EOF

Done. Try next:
  build/release/rankine chat $dense
  build/release/rankine generate $dense --prompt "def fibonacci(n):" --max-tokens 64
  build/release/rankine inspect --explain $selective
  build/release/rankine serve $selective
EOF
step "finished"
