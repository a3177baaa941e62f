#!/usr/bin/env bash
# Installs, builds and runs every test: the whole suite in release, what handles outside input under
# AddressSanitizer, and the threaded parts under ThreadSanitizer. Ends with ctest's own summary of the release suite.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/scripts/common.sh
bash tools/setup.sh
export RANKINE_DEPS_DIR=${RANKINE_DEPS_DIR:-$PWD/build/deps}

step "the real model"
RANKINE_TEST_GGUF=$(bash tools/scripts/fetch_model.sh)
export RANKINE_TEST_GGUF
export RANKINE_TEST_MODEL_DIR=$PWD/build/test-model
rm -rf "$RANKINE_TEST_MODEL_DIR"
build/release/rankine convert "$RANKINE_TEST_GGUF" "$RANKINE_TEST_MODEL_DIR"

step "Python packages of the tests"
venv=build/test-venv
if ! cmp -s tests/requirements.txt $venv/installed.txt; then
  rm -rf $venv
  "$python" -m venv $venv
  $venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt ||
    fail "pip could not install tests/requirements.txt; check the network and pip's index settings"
  cp tests/requirements.txt $venv/installed.txt
fi
export RANKINE_TEST_PYTHON=$PWD/$venv/bin/python

if [ "${RANKINE_SKIP_SANITIZERS:-0}" != 1 ]; then
  step "AddressSanitizer and UndefinedBehaviorSanitizer"
  build_preset asan rankine_kernels_tests rankine_runtime_tests rankine_models_tests rankine_serving_tests rankine_tools_tests rankine_structure_tests
  ctest --preset asan --label-exclude python --progress -j2 || fail "tests failed under the asan preset"
  step "ThreadSanitizer"
  build_preset tsan rankine_kernels_tests rankine_runtime_tests
  ctest --preset tsan --tests-regex '^(kernels|runtime)\.' --progress -j2 || fail "tests failed under the tsan preset"
fi

step "release"
build_preset release
ctest --preset release --progress -j2
