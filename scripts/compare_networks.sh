#!/bin/sh
# Trains the networks of all families in the same way, and compares their speed and their scores by size of the objects.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/compare_networks.sh DATA [--networks NETWORK ...] [--seeds SEED ...] [--quick] [flags of the training]

Trains the nine networks, or the given ones, on DATA, a data set in VOC's layout, all from random numbers and in the same
way. Scores them by size of the objects, measures their speed, and makes tables, a page and pictures of their errors.
The same command resumes where it stopped. docs/small_objects.md has its method and results, and
experiments/small_objects/compare.py --help all flags.

  scripts/compare_networks.sh data/deeppcb
  scripts/compare_networks.sh data/deeppcb --networks families-300 --seeds 1 2 3 --iterations 600
  scripts/compare_networks.sh data/deeppcb --networks mdssd300 dssd321 --quick

NETWORK is ssd300, mdssd300, ssd321, dssd321, dsod300, ssd512, mdssd512, ssd513 or dssd513; families-300 is the first five
of them, families-512 the last four, and families, the default, all. --quick only shows whether everything works.
USAGE
}

case "${1:-}" in
    -h | -help | --help) usage; exit 0 ;;
    "") usage >&2; exit 1 ;;
esac
. "$root/scripts/lib/find_python.sh"
exec "$python" -P "$root/experiments/small_objects/compare.py" "$@"
