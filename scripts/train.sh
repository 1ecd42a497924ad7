#!/bin/sh
# Trains a generated model, or resumes its training from the last snapshot.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/train.sh MODEL_FOLDER|SOLVER [flags of `caffe train`]

Trains MODEL_FOLDER/solver.prototxt, or the solver named. If there are snapshots under its snapshot_prefix, training
resumes from the newest that is whole; -overwrite starts again. Give -weights to start from pretrained ones; they are
used only for the first start. The log is kept in MODEL_FOLDER/log.

  scripts/train.sh models/MDSSD300/VOC -weights SSD300_VOC_iter_120000.caffemodel -gpu 0,1
USAGE
}

case "${1:-}" in
    -h | -help | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 1 ;;
esac
model=$1
shift
solver=$model/solver.prototxt
case $model in *.prototxt) solver=$model model=$(dirname "$model") ;; esac
if [ ! -f "$solver" ]; then
    echo "scripts/train.sh: $solver does not exist; the programs in prototxt_gen write it" >&2
    exit 1
fi

case " $* " in
    *" -overwrite"* | *" --overwrite"*) ;;
    *) set -- -snapshot auto "$@" ;;
esac
. "$root/scripts/lib/find_python.sh"
exec "$python" -P -m caffe.cli.caffe train -solver "$solver" -log_dir "$model/log" "$@"
