#!/usr/bin/env bash
# Builds sentencepiece as a static library from its PyPI sdist into DEPS/sentencepiece.
# Debian's own library exports protobuf-lite 3.14 and aborts in a process that has protobuf 3.21.
set -euo pipefail
deps=${1:?usage: sentencepiece.sh DEPS_FOLDER}
version=0.2.0
prefix=$deps/sentencepiece
if [ -f "$prefix/lib/libsentencepiece.a" ] && [ "$(cat "$prefix/version" 2>/dev/null)" = "$version" ]; then
  exit 0
fi
echo "building sentencepiece $version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pip only downloads here: nothing is installed.
/usr/bin/python3 -m pip download --quiet --disable-pip-version-check --no-binary :all: --no-deps "sentencepiece==$version" -d "$work" ||
  { echo "error: could not download sentencepiece==$version from PyPI; check the network and pip's index settings" >&2; exit 1; }
tar -xzf "$work/sentencepiece-$version.tar.gz" -C "$work"
cmake -S "$work/sentencepiece-$version/sentencepiece" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DSPM_PROTOBUF_PROVIDER=package -DSPM_ENABLE_SHARED=OFF -DSPM_ENABLE_TCMALLOC=OFF \
  -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib >"$work/log" 2>&1 &&
  cmake --build "$work/build" --target sentencepiece-static >>"$work/log" 2>&1 ||
  { tail -20 "$work/log" >&2; echo "error: sentencepiece did not build (log above)" >&2; exit 1; }
mkdir -p "$prefix/lib" "$prefix/include"
cp "$work/build/src/libsentencepiece.a" "$prefix/lib/"
cp "$work/sentencepiece-$version/sentencepiece/src/"sentencepiece_processor.h "$prefix/include/"
echo "$version" >"$prefix/version"
