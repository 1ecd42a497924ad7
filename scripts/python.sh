# Sourced by the scripts here. Sets root, the checkout, and python: PYTHON, else .venv's, else the first on the path.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [[ -z $python ]]; then
  python=$root/.venv/bin/python
  [[ -x $python ]] || python=$(command -v python3 || true)
fi
if [[ -z $python ]] || ! (cd "$root" && "$python" -c 'import caffe') 2>/dev/null; then
  echo "$(basename "$0"): ${python:-python3} cannot import caffe. 'make setup' in $root prepares .venv; PYTHON names another." >&2
  exit 1
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
