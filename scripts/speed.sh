#!/bin/sh
# Measures images a second of SSD and MDSSD, one image at a time.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/speed.sh [MODEL_FOLDER ...] [flags of `caffe speed`]

Measures SSD300, MDSSD300, SSD512 and MDSSD512, or the given ones: images a second at batch 1, with and without decoding
and NMS, parameters and operations. `caffe speed --help` explains the flags; `caffe time` times a net layer by layer.

  scripts/speed.sh -images 200 -json speed.json
  scripts/speed.sh -images 2000 -seconds 60 -json speed.json models/*/VOC
  scripts/speed.sh models/MDSSD300/VOC -weights MDSSD300_VOC_iter_120000.caffemodel -gpu 0
USAGE
}

case "${1:-}" in
    -h | -help | --help) usage; exit 0 ;;
esac
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.caffe speed "$@"
