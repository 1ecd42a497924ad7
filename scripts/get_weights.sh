#!/usr/bin/env bash
# Downloads published weights, checks and imports them: scripts/get_weights.sh NAME [FOLDER, default weights] [flags]
# scripts/get_weights.sh --help says more.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib/find_python.sh"

exec "$python" -P -m caffe.cli.get_weights -models "$root/models" "$@"
