#!/bin/sh
# Scores COCO results: `score_coco`, in the project's own environment where `make` has set it up. --help says how.
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m caffe.cli.score_coco "$@"
