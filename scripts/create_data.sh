#!/usr/bin/env bash
# Builds the databases of a data set from its lists.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
  cat <<'TEXT'
usage: scripts/create_data.sh [-n NAME] [-r ROOTFOLDER] [-l LISTFOLDER] [-m LABELMAP] [-t xml|json|txt] [-a "FLAGS"] [FLAGS...]

Builds an LMDB from each list in LISTFOLDER (trainval.txt, test.txt; all that create_list wrote), with unchanged
images, and links it from examples/NAME, where the prototxts under models/ look for it.

  -n NAME        name of the data set (default: VOC0712)
  -r ROOTFOLDER  directory that the lists' paths are relative to (default: ~/data/VOCdevkit)
  -l LISTFOLDER  directory of the lists (default: data/NAME)
  -m LABELMAP    label map (default: models/labelmap_voc.prototxt)
  -t TYPE        format of the annotations (default: xml)
  -a "FLAGS"     flags for convert_annoset that concern training data only: lists whose names begin with "train"
  FLAGS          more flags for convert_annoset, e.g. --redo --resize-width=300 --resize-height=300

  scripts/create_data.sh
  scripts/create_data.sh -n BCCD -r ~/data/bccd -m data/BCCD/labelmap.prototxt
  scripts/create_data.sh -n BCCD -r ~/data/bccd -m data/BCCD/labelmap.prototxt -a "--paste-small 3 --oversample-small 2"
  scripts/create_data.sh -n coco -r ~/data/coco -m models/labelmap_coco.prototxt -t json

Databases go to ROOTFOLDER/NAME/lmdb/NAME_<list>_lmdb. Every annotation is checked before anything is written.
At the end check_dataset counts problems in the data; with -out and -net it says more.
TEXT
}

name=VOC0712 data=$HOME/data/VOCdevkit lists="" map=$root/models/labelmap_voc.prototxt type=xml training=""
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) usage; exit ;;
    -n | -r | -l | -m | -t | -a)
      [[ $# -gt 1 ]] || { echo "create_data.sh: $1 needs a value. See --help." >&2; exit 1; }
      case $1 in -n) name=$2 ;; -r) data=$2 ;; -l) lists=$2 ;; -m) map=$2 ;; -t) type=$2 ;; -a) training=$2 ;; esac
      shift 2 ;;
    *) break ;;
  esac
done
lists=${lists:-$root/data/$name}
. "$root/scripts/lib/find_python.sh"

found=0
databases=()
for list in "$lists"/*.txt; do
  subset=$(basename "$list" .txt)
  [[ -f $list && $subset != *_name_size ]] || continue
  found=1
  more=()
  [[ $subset != train* ]] || read -ra more <<<"$training"
  echo "$subset: $list"
  "$python" -P -m caffe.cli.create_annoset --anno-type=detection --label-type="$type" --label-map-file="$map" \
    --check-label --encode-type=jpg --encoded "${more[@]}" "$@" \
    "$data" "$list" "$data/$name/lmdb/${name}_${subset}_lmdb" "$root/examples/$name"
  databases+=("$data/$name/lmdb/${name}_${subset}_lmdb")
done
if [[ $found -eq 0 ]]; then
  echo "create_data.sh: no lists in $lists. scripts/create_list.sh makes them; see --help." >&2
  exit 1
fi
echo
"$python" -P -m caffe.cli.check_dataset -short -label_map_file "$map" "${databases[@]}"
