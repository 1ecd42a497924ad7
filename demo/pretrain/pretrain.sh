#!/usr/bin/env bash
# Makes ssd300_narrow.caffemodel, the narrow SSD300 that the demo starts from, with the project's own commands:
# the backbone as a classifier of crops (in ImageNet's place), then SSD300 on scenes. None of these pictures is among the
# demo's: they have another seed. Takes about half an hour on two cores.
#
#   demo/pretrain/pretrain.sh [FOLDER, default build/pretrain]
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath -m "${1:-build/pretrain}")
[ -x .venv/bin/caffe ] && PATH=$PWD/.venv/bin:$PATH
seed=1001 width=1/8 iterations=600

python demo/pretrain/crops.py --output "$folder/crops" --count 24000 --seed $seed
python demo/pretrain/backbone.py --crops "$folder/crops" --output "$folder/backbone" --width $width --iterations 750
caffe train -solver "$folder/backbone/solver.prototxt" -log_dir "$folder/backbone"

data=$folder/data
python demo/scenes.py --output "$data/scenes" --train 3000 --test 100 --seed $seed
scripts/create_list.sh "$data" "$folder/lists"
scripts/create_data.sh -n scenes -r "$data" -l "$folder/lists" -m "$data/scenes/labelmap.prototxt"
python prototxt_gen/ssd300.py --width $width --name scenes --label_map "$data/scenes/labelmap.prototxt" \
  --train_lmdb "$data/scenes/lmdb/scenes_trainval_lmdb" --test_lmdb "$data/scenes/lmdb/scenes_test_lmdb" \
  --test_name_size "$folder/lists/test_name_size.txt" --gpus none --batch 8 --max_iter $iterations \
  --steps $((iterations * 3 / 4)) --test_interval $iterations --snapshot 100 \
  --snapshot_prefix "$folder/ssd300/ssd300" --random_seed $seed --result_dir "$folder/results" --output "$folder/ssd300"
# So few iterations are best spent by Adam, whose steps do not depend on the scale of the gradients, and on things that
# can be seen: the scenes are at most twice as large as the picture, not four times.
sed -i 's/^type: "SGD"/type: "Adam"\nmomentum2: 0.999/' "$folder/ssd300/solver.prototxt"
sed -i 's/max_expand_ratio: 4/max_expand_ratio: 2/' "$folder/ssd300/train.prototxt"
caffe train -solver "$folder/ssd300/solver.prototxt" -weights "$folder/backbone/backbone_iter_750.caffemodel" \
  -log_dir "$folder/ssd300"
cp "$folder/ssd300/ssd300_iter_$iterations.caffemodel" demo/pretrain/ssd300_narrow.caffemodel
