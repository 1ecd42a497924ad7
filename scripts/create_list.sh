#!/usr/bin/env bash
# Lists of VOC's images: scripts/create_list.sh [ROOTFOLDER, default ~/data/VOCdevkit] [OUTFOLDER, default data/VOC0712]
# scripts/create_list.sh --help says more, and how to list your own data or COCO.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"

if [[ $# -eq 0 ]]; then
  set -- "$HOME/data/VOCdevkit" "$root/data/VOC0712"
fi
exec "$python" -P -m caffe.cli.create_list "$@"
