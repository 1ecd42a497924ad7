#!/usr/bin/env bash
# Makes .venv with everything that `make demo` and `make test` need.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh

Makes .venv in the checkout with everything that `make demo` and `make test` need: PyTorch, the other Python packages
and the native layers, which it compiles. `make` calls it where it is needed. Running it again is quick.

  scripts/setup.sh
  PYTHON=python3.12 scripts/setup.sh      the interpreter to make .venv with (default: the first that is 3.11 or later)
  TORCH=torch==2.12.0 scripts/setup.sh    the PyTorch to install (default: depends on whether this machine has an NVIDIA GPU)
  CXX=/path/to/g++ scripts/setup.sh       the C++ compiler (default: the first of c++, g++, clang++)
TEXT
}

case "${1:-}" in
  -h | -help | --help) usage; exit 0 ;;
  "") ;;
  *) echo "setup.sh: takes no arguments, found '$1'. See --help." >&2; exit 1 ;;
esac
cd "$(dirname "$0")/.."

fail() {
  printf '\nsetup: %s\n' "$@" >&2
  exit 1
}

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$new_enough" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  local found
  found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3}"
  fail "needs Python 3.11 or later; found: $found
  Debian, Ubuntu:  sudo apt install python3 python3-venv python3-dev   (Ubuntu 22.04: python3.11 python3.11-venv python3.11-dev)
  Fedora:          sudo dnf install python3 python3-devel
  macOS:           brew install python
Then run this again, or name the interpreter: make PYTHON=/path/to/python3.12 ..."
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c "$new_enough" 2>/dev/null; then
  python=$(find_python)
  "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python cannot make virtual environments
  Debian, Ubuntu:  sudo apt install python3-venv"
  "$python" -c 'import os, sysconfig; open(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null ||
    fail "$python has no C headers (Python.h), which the native layers need
  Debian, Ubuntu:  sudo apt install python3-dev
  Fedora:          sudo dnf install python3-devel"
fi

compiler=${CXX:-}
for candidate in c++ g++ clang++; do
  [ -n "$compiler" ] || ! command -v $candidate >/dev/null || compiler=$candidate
done
[ -n "$compiler" ] && command -v "${compiler%% *}" >/dev/null ||
  fail "needs a C++17 compiler for the native layers; found ${compiler:-none}
  Debian, Ubuntu:  sudo apt install g++
  Fedora:          sudo dnf install gcc-c++
  macOS:           xcode-select --install
Or name one: make CXX=/path/to/g++ ..."

if [ -n "${python:-}" ]; then
  # A machine set up for GPUs often has PyTorch installed already: use that one instead of downloading another.
  options=()
  torch_enough='import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11))'
  if "$python" -c "$torch_enough" 2>/dev/null; then
    options=(--system-site-packages)
  fi
  echo "setup: making .venv with $("$python" --version)${options:+, using the PyTorch that is installed}"
  rm -rf .venv
  "$python" -m venv "${options[@]}" .venv
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  if [ -z "${TORCH:-}" ]; then
    if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then TORCH='torch>=2.11'; else TORCH='torch==2.13.0'; fi
  fi
  echo "setup: installing $TORCH (the largest part)"
  pip install "$TORCH"
fi

# The build tools live in .venv too (no build isolation), so that a change of the sources rebuilds only what it affects.
echo "setup: installing the rest and building the native layers"
pip install 'scikit-build-core>=0.11' 'nanobind>=2.4' 'cmake>=3.25' ninja
PATH="$PWD/.venv/bin:$PATH" pip install --no-build-isolation -e '.[dev]'
# torchvision only for tests, which are skipped without it. Its releases go with PyTorch's, 0.28 with 2.13 and so on, and
# require exactly that one: without --no-deps pip could replace the PyTorch that was just installed.
torchvision=$(.venv/bin/python -c 'import torch; print("torchvision==0.%d.*" % (int(torch.__version__.split(".")[1]) + 15))')
pip install --no-deps "$torchvision" || echo "setup: no $torchvision; tests that need it are skipped"

.venv/bin/python - <<'END'
import torch
from caffe import _C

gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none visible"
print(f"setup: done. PyTorch {torch.__version__}, CUDA layers {'built' if _C.has_cuda else 'not built (no nvcc)'}, GPU {gpu}")
END
