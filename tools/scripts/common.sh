# Shared by the scripts of tools/: progress, errors, builds. To be sourced from the repository's root.

RANKINE_HOME=${RANKINE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/rankine}
export RANKINE_HOME

# step TEXT: a line with the seconds since the script began.
step() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# build_preset NAME [TARGET...]: configures once and builds, with ninja's own progress on a terminal.
build_preset() {
  local preset=$1 log=build/$1.log
  shift
  mkdir -p build
  cmake --preset "$preset" >"$log" 2>&1 || { tail -20 "$log" >&2; fail "cmake --preset $preset failed (log: $log)"; }
  local targets=()
  [ $# -eq 0 ] || targets=(--target "$@")
  if [ -t 1 ]; then
    cmake --build "build/$preset" "${targets[@]}" || fail "the $preset build failed"
  else
    # Not a terminal: a line every tenth of the way, the whole log in a file.
    cmake --build "build/$preset" "${targets[@]}" 2>&1 | tee -a "$log" |
      awk -v name="$preset" 'match($0, /^\[[0-9]+\/[0-9]+\]/) { split(substr($0, 2, RLENGTH - 2), p, "/"); t = int(10 * p[1] / p[2]); if (t > last) { last = t; printf "  %s build: %d/%d\n", name, p[1], p[2]; fflush() } } /error:|FAILED:/ { print; fflush() }'
    [ "${PIPESTATUS[0]}" -eq 0 ] || { grep -A20 -m1 'FAILED' "$log" >&2; fail "the $preset build failed (log: $log)"; }
  fi
}
