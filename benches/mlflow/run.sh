#!/usr/bin/env bash
# What logging costs: compare with and without MLflow, in turn, against a real server.
#   benches/mlflow/run.sh [REPEATS] [OO_SIM]
#   USERS=300 DAYS=300 benches/mlflow/run.sh 1      runs of a minute
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

repeats="${1:-5}"
oo_sim="${2:-${CARGO_TARGET_DIR:-target}/release/oo-sim}"
port="${PORT:-5155}"
work="$(mktemp -d)"
url="http://127.0.0.1:$port"
unset MLFLOW_TRACKING_URI MLFLOW_EXPERIMENT_NAME
# The server in a session of its own, so that it and its workers end together.
setsid scripts/mlflow serve "$work/server" "$port" >"$work/log" 2>&1 &
server=$!
trap 'kill -- -$server 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do
    curl -sf "$url/health" >/dev/null && break
    sleep 0.5
done
curl -sf "$url/health" >/dev/null

# 5 policies × 4 seeds, about 6 s on an idle core.
args=(compare --users "${USERS:-60}" --days "${DAYS:-120}" --seeds 4 --threads "${THREADS:-1}"
    --policies "uniform,egreedy-v1,lin-ucb,lin-ts,hierarchical{features=v3}")

# Prints wall and CPU seconds of a command.
timed() {
    local TIMEFORMAT='%R %U %S'
    { time "$@" >/dev/null 2>"$work/err"; } 2>&1 | awk '{printf "%.2f %.2f\n", $1, $2 + $3}'
}
echo "repeat without_wall without_cpu with_wall with_cpu"
for i in $(seq "$repeats"); do
    # Which comes first changes.
    for way in $([ $((i % 2)) = 0 ] && echo with without || echo without with); do
        rm -rf "$work/run"
        if [ "$way" = with ]; then
            with="$(timed "$oo_sim" "${args[@]}" --out "$work/run" --mlflow "$url")"
            grep -q "MLflow: http" "$work/err" # all of it was sent
        else
            without="$(timed "$oo_sim" "${args[@]}" --out "$work/run")"
        fi
    done
    echo "$i $without $with"
done
