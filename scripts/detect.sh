#!/bin/sh
# Detects objects in images, lists them, draws boxes: `ssd_detect`, in the project's own environment where `make` has set it up. --help says how.
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m caffe.cli.ssd_detect "$@"
