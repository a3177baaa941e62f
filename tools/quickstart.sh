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
name=$RANKINE_HOME/smollm2-135m
dense=$name
flagship=$name-caldera-3.5
rounded=$name-int3
selective=$name-svd-llm-0.8-selective
corpus=$RANKINE_HOME/corpus
measured=$RANKINE_HOME/quickstart
statistics=$RANKINE_HOME/statistics
# Models made by another version or recipe are made again.
recipe="$("$rankine" --version) recipe 3"
if [ "$(cat "$measured/recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -rf "$measured" "$corpus" "$statistics" "$dense" "$rounded" "$RANKINE_HOME"/smollm2-135m-{svd-llm,qlr,caldera}-*
fi
mkdir -p "$measured"
echo "$recipe" >"$measured/recipe"

# A third of the 210 linears, those that factoring to 0.8 of their parameters costs least.
selected_linears=70

factorize() { # OUT METHOD [FLAG...]
  local out=$1 method=$2 report=$measured/factorize-$(basename "$1").json
  shift 2
  [ -d "$out" ] && [ -f "$report" ] && { step "$out is there"; return; }
  rm -rf "$out"
  step "factorise by $method -> $out"
  "$rankine" factorize "$dense" "$out" --method "$method" --statistics "$statistics" "$@" --json >"$report.tmp"
  mv "$report.tmp" "$report"
}

# Prints a regular expression of the linears with the least weighted error.
least_loss_regex() {
  "$python" - "$measured/factorize-$(basename "$name-svd-llm-0.8").json" "$selected_linears" <<'PY'
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
if ! [ -f "$measured/factorize-$(basename "$selective").json" ]; then
  step "calibrate: what the layers read on Python code"
  "$rankine" calibrate "$dense" --text "$corpus/calibration.txt" --out "$statistics"
fi
# Q in 3 bits and L R in 4, between Hadamard transforms: 3.5 bits a weight with everything counted. The embedding, which
# is also the head, gets the 8 bits that it has in the shipped file.
embedding=$measured/embedding.map
echo 'embed_tokens int8:g32' >"$embedding"
if ! [ -d "$flagship" ]; then
  factorize "$flagship-factors" caldera --bits 3.5 --base-encode int3:g64 --factor-encode int4:g64
  "$rankine" convert "$flagship-factors" "$flagship" --encode-map "$embedding"
  rm -rf "$flagship-factors"
fi
factorize "$name-svd-llm-0.9" svd-llm --keep 0.9
factorize "$name-svd-llm-0.8" svd-llm --keep 0.8
factorize "$selective" svd-llm --keep 0.8 --only "$(least_loss_regex)"
if ! [ -d "$rounded" ]; then
  step "plain rounding at the same bytes -> $rounded"
  "$rankine" convert "$dense" "$rounded" --encode int3:g32 --encode-map "$embedding"
fi
rm -rf "$statistics"

models=("$dense" "$flagship" "$rounded" "$name-svd-llm-0.9" "$name-svd-llm-0.8" "$selective" "$gguf")
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
serve_and_ask "$flagship"

cat <<EOF

Done. Try next:
  build/release/rankine chat $flagship
  build/release/rankine generate $dense --prompt "def fibonacci(n):" --max-tokens 64
  build/release/rankine inspect --explain $flagship
  build/release/rankine serve $flagship
EOF
step "finished"
