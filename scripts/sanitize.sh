#!/usr/bin/env bash
# Builds the native layers with AddressSanitizer and UndefinedBehaviorSanitizer and runs their tests.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
  cat <<'TEXT'
usage: scripts/sanitize.sh [pytest's arguments; default: the tests of the native layers]

Builds layers/ with GCC's or Clang's AddressSanitizer and UndefinedBehaviorSanitizer in build/sanitize, as a package of
its own, and runs the tests against it. Anything that the sanitizers find ends the run with their report.

  scripts/sanitize.sh
  scripts/sanitize.sh tests/ops/test_normalize.py -k empty
TEXT
}

case "${1:-}" in
  -h | -help | --help) usage; exit 0 ;;
esac
python=${PYTHON:-$root/.venv/bin/python}
compiler=${CXX:-c++}
folder=$root/build/sanitize
cd "$root"

PATH="$root/.venv/bin:$PATH" cmake -S . -B "$folder/cmake" -G Ninja -DSANITIZE=ON -DWITH_CUDA=OFF \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPython_EXECUTABLE="$python" -DCMAKE_CXX_COMPILER="$compiler" >"$folder.log" 2>&1 ||
  { cat "$folder.log" >&2; exit 1; }
PATH="$root/.venv/bin:$PATH" cmake --build "$folder/cmake" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }

# The package as links to the sources, with the other module in it.
rm -rf "$folder/package"
mkdir -p "$folder/package/caffe"
for entry in caffe/*; do
  case $entry in */_C*.so | */__pycache__) continue ;; esac
  ln -s "$root/$entry" "$folder/package/$entry"
done
cp "$folder"/cmake/_C*.so "$folder/package/caffe/"

if [[ $# -eq 0 ]]; then
  set -- tests/ops tests/engine/test_multibox_loss.py tests/detection/test_detection_output_layer.py
fi
# An editable installation's finder would put its own module first.
start='
import os, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]
sys.path.insert(0, os.environ["SANITIZED"])
import caffe._C
if not caffe._C.__file__.startswith(os.environ["SANITIZED"]):
    sys.exit(f"sanitize.sh: {caffe._C.__file__} is not the module with the sanitizers")
import pytest
sys.exit(pytest.main(sys.argv[1:]))
'
# Reports go to the process's own standard error, which pytest would otherwise capture and lose with the process.
# The runtimes come first, because Python itself is built without them. Python, PyTorch and OpenCV keep memory until the
# end, so leaks cannot be told apart.
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:alloc_dealloc_mismatch=0:protect_shadow_gap=0 \
  UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 OMP_NUM_THREADS=1 SANITIZED="$folder/package" \
  "$python" -c "$start" -q --capture=sys -p no:cacheprovider -m "not gpu and not slow" "$@"
