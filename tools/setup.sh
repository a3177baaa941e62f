#!/usr/bin/env bash
# Installs what Rankine needs on Debian 12, then configures and builds release into build/release.
# May be run again at any time; needs root or sudo only while a package is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/scripts/common.sh

packages=(
  build-essential cmake ninja-build ccache pkg-config ca-certificates git
  python3 python3-pip python3-venv
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev
  libhwy-dev libeigen3-dev libpcre2-dev libre2-dev libutf8proc-dev libcli11-dev
  libspdlog-dev libfmt-dev nlohmann-json3-dev libgtest-dev libgmock-dev libbenchmark-dev
  ${RANKINE_EXTRA_PACKAGES:-} # of tools/test.sh
)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    step "packages: all installed"
    return
  fi
  command -v apt-get >/dev/null || fail "this script installs Debian packages and apt-get is not here; install by other means: ${missing[*]}"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "packages are missing; run as root or install sudo: ${missing[*]}"
    sudo=(sudo)
  fi
  step "packages: installing ${#missing[@]} (${missing[*]})"
  "${sudo[@]}" apt-get update -q >/dev/null || fail "apt-get update failed; check the network and /etc/apt/sources.list"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >build/apt.log 2>&1 ||
    { tail -15 build/apt.log >&2; fail "apt-get could not install the packages (log: build/apt.log)"; }
}

mkdir -p build
install_packages
export RANKINE_DEPS_DIR=${RANKINE_DEPS_DIR:-$PWD/build/deps}
step "sentencepiece"
bash tools/scripts/sentencepiece.sh "$RANKINE_DEPS_DIR"
step "build"
build_preset release rankine
[ -x build/release/rankine ] || fail "the build made no build/release/rankine"
step "built build/release/rankine ($(build/release/rankine --version))"
