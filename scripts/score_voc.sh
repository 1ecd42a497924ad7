#!/bin/sh
# Scores VOC result files: the command `score_voc`. --help explains it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.score_voc "$@"
