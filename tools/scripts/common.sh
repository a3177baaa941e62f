# Shared by the scripts of tools/: progress, errors, builds. To be sourced from the repository's root.

# step TEXT: a line with the seconds since the script began.
step() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

RANKINE_HOME=${RANKINE_HOME:-${HOME:?set HOME or RANKINE_HOME}/.cache/rankine}
export RANKINE_HOME
# Debian's own: setup.sh installs its pip and venv, which another python3 on the PATH may lack.
python=/usr/bin/python3

# writable FOLDER: makes it, or says why it can't be used.
writable() {
  { mkdir -p "$1" && [ -w "$1" ]; } 2>/dev/null ||
    fail "$1 can't be written (an earlier run with sudo?); run: sudo chown -R $(id -un) '$1'"
}
writable build
writable "$RANKINE_HOME"

# build_preset NAME [TARGET...]: configures and builds, with ninja's own progress on a terminal.
build_preset() {
  local preset=$1 log=build/$1.log
  shift
  cmake --preset "$preset" -DRANKINE_DEPS_DIR="${RANKINE_DEPS_DIR:-$PWD/build/deps}" >"$log" 2>&1 ||
    { tail -20 "$log" >&2; fail "cmake --preset $preset failed (log: $log)"; }
  local targets=()
  [ $# -eq 0 ] || targets=(--target "$@")
  if [ -t 1 ]; then
    cmake --build "build/$preset" "${targets[@]}" || fail "the $preset build failed"
  else
    # Not a terminal: a line every tenth of the way, the whole log in a file.
    cmake --build "build/$preset" "${targets[@]}" 2>&1 | tee -a "$log" |
      awk -v name="$preset" 'match($0, /^\[[0-9]+\/[0-9]+\]/) { split(substr($0, 2, RLENGTH - 2), p, "/"); t = int(10 * p[1] / p[2]); if (t > last) { last = t; printf "  %s build: %d/%d\n", name, p[1], p[2]; fflush() } }' ||
      { grep -A20 -m1 FAILED "$log" >&2 || true; fail "the $preset build failed (log: $log)"; }
  fi
}
