#!/bin/sh
# Times a generated model's deploy net, layer by layer.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/speed.sh MODEL_FOLDER [flags of `caffe time`]

Times the forward pass of MODEL_FOLDER/deploy.prototxt for one image. Each layer is waited for, so this is for finding
the slow ones. The programs in benchmarks/ measure whole detectors.

  scripts/speed.sh models/MDSSD300/VOC -weights MDSSD300_VOC_iter_120000.caffemodel -gpu 0
USAGE
}

case "${1:-}" in
    -h | -help | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 1 ;;
esac
model=$1
shift
if [ ! -f "$model/deploy.prototxt" ]; then
    echo "scripts/speed.sh: $model/deploy.prototxt does not exist; the programs in prototxt_gen write it" >&2
    exit 1
fi
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.caffe time -model "$model/deploy.prototxt" -phase TEST -iterations 10 "$@"
