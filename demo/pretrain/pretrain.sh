#!/usr/bin/env bash
# Makes ssd300_narrow.caffemodel, the narrow SSD300 that the demo starts from, with the project's own commands.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: demo/pretrain/pretrain.sh [FOLDER, default build/pretrain]

Makes demo/pretrain/ssd300_narrow.caffemodel, the narrow SSD300 that the demo starts from: first the backbone as a
classifier of crops (in ImageNet's place), then SSD300 on scenes. None of these pictures is among the demo's: they have
another seed. Takes about half an hour on two cores. What it makes on the way stays in FOLDER; the weights replace those
of the checkout.

  demo/pretrain/pretrain.sh
  demo/pretrain/pretrain.sh ~/pretrain
TEXT
}

case "${1:-}" in
  -h | -help | --help) usage; exit 0 ;;
  -*) echo "pretrain.sh: unknown flag $1. See --help." >&2; exit 1 ;;
esac
folder=$(realpath -m "${1:-build/pretrain}")
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/scripts/lib/find_python.sh"
cd "$root"
export PYTHON=$python
caffe() { "$python" -P -m caffe.cli.caffe "$@"; }

seed=1001 width=1/8 backbone_iterations=320 ssd_iterations=1000
backbone=$folder/backbone ssd=$folder/ssd300 data=$folder/data labels=$folder/data/scenes/labelmap.prototxt

"$python" demo/pretrain/crops.py --output "$folder/crops" --count 24000 --seed $seed
"$python" demo/pretrain/backbone.py --crops "$folder/crops" --output "$backbone" --width $width \
  --iterations $backbone_iterations
"$python" demo/pretrain/batch_norm.py insert "$backbone/backbone.prototxt"
caffe train -solver "$backbone/solver.prototxt" -log_dir "$backbone" -overwrite

"$python" demo/scenes.py --output "$data/scenes" --train 3000 --test 100 --seed $seed
scripts/create_list.sh "$data" "$folder/lists"
scripts/create_data.sh -n scenes -r "$data" -l "$folder/lists" -m "$labels"
"$python" prototxt_gen/ssd300.py --width $width --name scenes --label_map "$labels" \
  --train_lmdb "$data/scenes/lmdb/scenes_trainval_lmdb" --test_lmdb "$data/scenes/lmdb/scenes_test_lmdb" \
  --test_name_size "$folder/lists/test_name_size.txt" --gpus none --batch 8 --augmentation mirror \
  --solver_type Adam --max_iter $ssd_iterations \
  --steps $((ssd_iterations * 3 / 4)) --test_interval $ssd_iterations --snapshot 100 --snapshot_prefix "$ssd/ssd300" \
  --random_seed $seed --result_dir "$folder/results" --output "$ssd"
cp "$ssd/train.prototxt" "$ssd/plain.prototxt"
"$python" demo/pretrain/batch_norm.py insert "$ssd/train.prototxt"
"$python" demo/pretrain/batch_norm.py insert "$ssd/test.prototxt"
caffe train -solver "$ssd/solver.prototxt" -weights "$backbone/backbone_iter_$backbone_iterations.caffemodel" \
  -log_dir "$ssd" -overwrite
"$python" demo/pretrain/batch_norm.py fold "$ssd/ssd300_iter_$ssd_iterations.caffemodel" "$ssd/plain.prototxt" \
  demo/pretrain/ssd300_narrow.caffemodel
