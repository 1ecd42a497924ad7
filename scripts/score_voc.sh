#!/bin/sh
# Scores VOC result files: `score_voc`, in the project's own environment where `make` has set it up. --help says how.
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m caffe.cli.score_voc "$@"
