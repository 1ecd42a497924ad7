#!/bin/sh
# From a folder of annotated photographs to a trained, scored detector: the command `train_own`. --help explains it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.train_own "$@"
