#!/usr/bin/env bash
# Writes the texts that quality figures are made with: Python code from the standard library of this machine's
# python3. Modules for calibration, for validation (what a search of ranks looks at) and for evaluation are different
# ones, of different kinds of work. Training text for healing is every module that is neither for calibration nor for
# evaluation, those for validation among them; tables and tests are left out.
#
# Usage: bash tools/scripts/corpus.sh FOLDER [PYTHON]     writes calibration.txt, validation.txt, evaluation.txt and
#                                                         training.txt there
set -euo pipefail

calibration_modules=(
  argparse ast calendar cmd codecs collections/__init__ configparser contextlib copy csv dataclasses datetime difflib
  email/message enum fractions functools heapq html/parser http/client imaplib inspect json/decoder json/encoder
  logging/__init__ mailbox multiprocessing/pool pathlib pickle platform queue random selectors shelve smtplib socket
  statistics string subprocess tarfile tempfile textwrap threading timeit tokenize traceback typing urllib/request uuid
  xml/etree/ElementTree
)
validation_modules=(
  aifc asyncio/events asyncio/streams asyncio/tasks bdb code compileall concurrent/futures/process copyreg
  distutils/cmd email/charset email/header imp lib2to3/refactor logging/config mimetypes modulefinder
  multiprocessing/managers nntplib opcode operator pkgutil plistlib poplib pty runpy sndhdr socketserver symtable
  sysconfig trace tracemalloc tty turtle unittest/mock urllib/robotparser webbrowser wsgiref/handlers xdrlib
  xml/dom/minidom xmlrpc/client zipimport
)
evaluation_modules=(
  asyncio/base_events bisect bz2 cgi cProfile concurrent/futures/thread ctypes/util dis doctest filecmp fileinput
  ftplib getopt gettext glob graphlib gzip hashlib hmac http/cookiejar importlib/metadata/__init__ ipaddress
  keyword linecache locale netrc numbers optparse os pdb pprint profile pyclbr reprlib sched secrets shlex shutil
  ssl stat sqlite3/dump telnetlib types unittest/case urllib/parse warnings wave weakref zipfile zipapp
)

fail() { echo "error: $*" >&2; exit 1; }

folder=${1:?usage: corpus.sh FOLDER [PYTHON]}
python=${2:-/usr/bin/python3}
[ -x "$python" ] || python=$(command -v python3) || fail "python3 is not installed; run: bash tools/setup.sh"
library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
[ -f "$library/argparse.py" ] || fail "no standard library under $library; install the package libpython3-stdlib"

# Modules come and go between versions of Python; those that are missing are left out, and said so.
write() {
  local out=$1 missing=() module
  shift
  : > "$out.tmp"
  for module in "$@"; do
    if [ -f "$library/$module.py" ]; then cat "$library/$module.py" >> "$out.tmp"; else missing+=("$module"); fi
  done
  [ "${#missing[@]}" -le $(($# / 5)) ] || fail "$library lacks ${#missing[@]} of $# modules: ${missing[*]}"
  [ "${#missing[@]}" -eq 0 ] || echo "corpus: not in this Python: ${missing[*]}" >&2
  mv "$out.tmp" "$out"
}

mkdir -p "$folder"
write "$folder/calibration.txt" "${calibration_modules[@]}"
write "$folder/validation.txt" "${validation_modules[@]}"
write "$folder/evaluation.txt" "${evaluation_modules[@]}"

# Names of all other modules, sorted. Encodings and topics are tables, not code; lib2to3's and other tests quote modules.
training_modules() {
  (cd "$library" && LC_ALL=C find . -name '*.py' -printf '%P\n') | grep -vE \
    '(^|/)(test|tests|idle_test|site-packages|dist-packages|encodings|pydoc_data|config-[^/]*)/|^_sysconfigdata' |
    sed 's/\.py$//' | LC_ALL=C sort |
    grep -vxFf <(printf '%s\n' "${calibration_modules[@]}" "${evaluation_modules[@]}")
}
mapfile -t training < <(training_modules)
[ "${#training[@]}" -ge 100 ] || fail "$library has only ${#training[@]} modules for training"
write "$folder/training.txt" "${training[@]}"
