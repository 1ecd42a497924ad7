#!/bin/sh
# Runs the three trainings of a DSSD one after another, or goes on where they stopped.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/train_dssd.sh SSD_FOLDER DSSD_FOLDER RESNET.caffemodel [flags of `caffe train`]

Trains SSD_FOLDER/solver.prototxt from the weights of ResNet-101, then DSSD_FOLDER/solver.prototxt, the decoder alone,
from the trained SSD, then DSSD_FOLDER/solver_ft.prototxt, all layers. A training that has ended is not repeated, and one
that was stopped resumes from its newest snapshot.

  scripts/train_dssd.sh models/SSD321/VOC models/DSSD321/VOC ResNet-101-model.caffemodel -gpu 0,1
USAGE
}

case "${1:-}" in
    -h | -help | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 1 ;;
esac
if [ $# -lt 3 ]; then
    usage >&2
    exit 1
fi
ssd=$1 dssd=$2 weights=$3
shift 3
for solver in "$ssd/solver.prototxt" "$dssd/solver.prototxt" "$dssd/solver_ft.prototxt"; do
    if [ ! -f "$solver" ]; then
        echo "scripts/train_dssd.sh: $solver does not exist; prototxt_gen/ssd321.py, dssd321.py and so on write it" >&2
        exit 1
    fi
done
if [ ! -f "$weights" ]; then
    echo "scripts/train_dssd.sh: $weights does not exist; it should be the weights of ResNet-101" >&2
    exit 1
fi

# the value of a field of a solver prototxt
field() {
    sed -n "s/^ *$1: *\"\{0,1\}\([^\"]*\)\"\{0,1\} *\$/\1/p" "$2"
}

for solver in "$ssd/solver.prototxt" "$dssd/solver.prototxt" "$dssd/solver_ft.prototxt"; do
    trained=$(field snapshot_prefix "$solver")_iter_$(field max_iter "$solver").caffemodel
    if [ -f "$trained" ]; then
        echo "$solver: $trained exists already"
    else
        "$root/scripts/train.sh" "$solver" -weights "$weights" "$@"
    fi
    if [ ! -f "$trained" ]; then
        echo "scripts/train_dssd.sh: $solver has not been trained to its end: $trained does not exist" >&2
        exit 1
    fi
    weights=$trained
done
echo "DSSD is trained: $weights"
