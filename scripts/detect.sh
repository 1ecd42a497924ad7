#!/bin/sh
# Detects objects in images, lists them, draws boxes: the command `ssd_detect`. --help explains it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.ssd_detect "$@"
