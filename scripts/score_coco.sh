#!/bin/sh
# Scores COCO results: the command `score_coco`. --help explains it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.score_coco "$@"
