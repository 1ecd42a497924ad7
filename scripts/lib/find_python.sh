# Part of the scripts, for /bin/sh; not a command. Expects root, the checkout. Sets python, an interpreter that has caffe
# installed: PYTHON if that is set, else the first good one of the active environment's, the checkout's .venv's and
# python3. Ends the script with a message if there is none.

# -P, so that a directory named caffe in the current one is not imported. An interrupted installation has no caffe._C.
has_caffe() { "$1" -P -c 'import caffe._C' >/dev/null 2>&1; }

python=
tried=
if [ -n "${PYTHON:-}" ]; then
  case $PYTHON in
    /*) ;;
    */*) PYTHON=$PWD/$PYTHON ;;
  esac
  has_caffe "$PYTHON" && python=$PYTHON
  tried=" PYTHON=$PYTHON"
else
  for candidate in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \
    "$root/.venv/bin/python" "$(command -v python3 || :)"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    if has_caffe "$candidate"; then
      python=$candidate
      break
    fi
    tried="$tried $candidate"
  done
fi
if [ -z "$python" ]; then
  {
    echo "$(basename "$0"): no Python with caffe installed; tried:${tried:- python3}"
    echo "'make setup' in $root installs it in .venv. PYTHON=/path/to/python names another interpreter with caffe."
  } >&2
  exit 1
fi
