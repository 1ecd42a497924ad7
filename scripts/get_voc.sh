#!/usr/bin/env bash
# Fetches PASCAL VOC 2007 and 2012 (2.9 GB), checks and unpacks them: scripts/get_voc.sh [FOLDER, default ~/data] [flags]
# scripts/get_voc.sh --help tells more.
set -euo pipefail
source "$(dirname "$0")/python.sh"

if [[ $# -eq 0 || $1 == -* && $1 != -h && $1 != --help ]]; then
  set -- "$HOME/data" "$@"
fi
exec "$python" -m caffe.cli.download_voc "$@"
