#!/usr/bin/env bash
# Downloads PASCAL VOC 2007 and 2012 (2.9 GB), checks and unpacks them: scripts/get_voc.sh [FOLDER, default ~/data] [flags]
# scripts/get_voc.sh --help says more.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"

if [[ $# -eq 0 || $1 == -* && $1 != -h && $1 != --help ]]; then
  set -- "$HOME/data" "$@"
fi
exec "$python" -P -m caffe.cli.download_voc "$@"
