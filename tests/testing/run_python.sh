#!/usr/bin/env bash
# run_python.sh SCRIPT RANKINE: runs a Python test against the program. tools/test.sh sets the environment.
set -euo pipefail
for name in RANKINE_TEST_PYTHON RANKINE_TEST_GGUF RANKINE_TEST_MODEL_DIR; do
  [ -n "${!name:-}" ] || { echo "error: $name is not set; run: bash tools/test.sh" >&2; exit 1; }
done
cd "$(dirname "$1")"
RANKINE_BIN=$2 exec "$RANKINE_TEST_PYTHON" "$(basename "$1")" -v
