#!/usr/bin/env bash
# Installs, builds and runs every test: the whole suite in release, what reads files from outside under
# AddressSanitizer, and the engine under ThreadSanitizer. RANKINE_SANITIZERS=all runs the whole suite under
# AddressSanitizer and kernels too under ThreadSanitizer (an hour on two cores); none leaves both out.
# Ends with ctest's own summary of the release suite.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/scripts/common.sh
# The report of rankine explore is opened in a browser.
RANKINE_EXTRA_PACKAGES="chromium fonts-dejavu-core" bash tools/setup.sh
export RANKINE_DEPS_DIR=${RANKINE_DEPS_DIR:-$PWD/build/deps}

step "the real model"
RANKINE_TEST_GGUF=$(bash tools/scripts/fetch_model.sh)
export RANKINE_TEST_GGUF
export RANKINE_TEST_MODEL_DIR=$PWD/build/test-model
rm -rf "$RANKINE_TEST_MODEL_DIR"
build/release/rankine convert "$RANKINE_TEST_GGUF" "$RANKINE_TEST_MODEL_DIR"

step "Python packages of the tests"
venv=build/test-venv
if ! cat tests/requirements.txt tests/requirements-torch.txt | cmp -s - $venv/installed.txt; then
  rm -rf $venv
  "$python" -m venv $venv
  $venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt ||
    fail "pip could not install tests/requirements.txt; check the network and pip's index settings"
  $venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-torch.txt ||
    fail "pip could not install tests/requirements-torch.txt; check the network and pip's index settings"
  cat tests/requirements.txt tests/requirements-torch.txt > $venv/installed.txt
fi
export RANKINE_TEST_PYTHON=$PWD/$venv/bin/python

case "${RANKINE_SANITIZERS:-quick}" in
  none) ;;
  quick)
    step "AddressSanitizer and UndefinedBehaviorSanitizer: everything that reads files from outside"
    build_preset asan rankine_models_tests
    ctest --preset asan --tests-regex '^models\.' --progress -j2 || fail "tests failed under the asan preset"
    step "ThreadSanitizer: engine, scheduler and thread pool"
    build_preset tsan rankine_runtime_tests
    ctest --preset tsan --tests-regex '^runtime\.' --progress -j2 || fail "tests failed under the tsan preset"
    ;;
  all)
    step "AddressSanitizer and UndefinedBehaviorSanitizer: the whole suite"
    build_preset asan
    ctest --preset asan --progress -j2 || fail "tests failed under the asan preset"
    step "ThreadSanitizer: kernels, runtime and engine"
    build_preset tsan rankine_kernels_tests rankine_runtime_tests
    ctest --preset tsan --tests-regex '^(kernels|runtime)\.' --progress -j2 || fail "tests failed under the tsan preset"
    ;;
  *) fail "RANKINE_SANITIZERS is none, quick or all, not '$RANKINE_SANITIZERS'" ;;
esac

step "release"
build_preset release
ctest --preset release --progress -j2
