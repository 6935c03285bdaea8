#!/usr/bin/env bash
# Tests the driver on a cluster of this machine. The first argument is the program oo-sim.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 PATH-OF-OO-SIM" >&2; exit 2; }
OO_SIM="$(realpath "$1")"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${OO_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oo-ci}"
# A folder a list of packages: another list makes another, and one that is only half made is not taken.
venv="$cache/python/dask-$(sha256sum "$here/requirements.txt" | cut -c1-16)"
if [ ! -f "$venv/made" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --no-deps --only-binary :all: --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/made"
fi
export OO_SIM PATH="$venv/bin:$PATH" PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
cd "$here"
exec python3 -W error::SyntaxWarning -m unittest discover -s tests -v
