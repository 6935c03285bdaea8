#!/usr/bin/env bash
# Measures oo-serve against the floor, interleaved in one run: CPU a request from /proc, the rest from wrk.
# Usage: benches/serve/run.sh [SECONDS] [REPEATS]     needs wrk (apt-get install wrk) and cc; OO_BENCH_DIR is the disk
# under test, OO_BENCH_POLICIES what is served: specs over 12 features, or `default`, the server's own over tasks.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-4} repeats=${2:-3}
policies=${OO_BENCH_POLICIES:-lin-ts hierarchical default}
bin=${CARGO_TARGET_DIR:-target}/release
[ -n "${OO_BENCH_BUILT:-}" ] || cargo build --release --quiet -p oo-serve --bins --examples
state=$(mktemp -d "${OO_BENCH_DIR:-/var/tmp}/oo-bench.XXXXXX")
cc -O2 -shared -fPIC -o "$state/slow_flush.so" benches/serve/slow_flush.c
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$state"' EXIT
"$bin/examples/echo" 127.0.0.1:8109 & echo_pid=$!
pids+=($echo_pid)
body() { [ "$1" = default ] && echo tasks || echo features; }
start() { # policy port; sets pid
  local options=(--candidate 12 --policy "$1")
  [ "$1" != default ] || options=()
  "$bin/oo-serve" --listen "127.0.0.1:$2" --state "$state/$2" --log error "${options[@]}" >&2 & pid=$!
  pids+=($pid)
}
port=8110
declare -A port_of pid_of
for p in $policies; do
  start "$p" $port
  port_of[$p]=$port pid_of[$p]=$pid port=$((port + 1))
done
first=${policies%% *}
LD_PRELOAD="$state/slow_flush.so" start "$first" 8108
slow_pid=$pid
sleep 1
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
hz=$(getconf CLK_TCK)
one() { # name pid connections script url
  local before after line threads=2
  [ "$3" -ge 2 ] || threads=1
  before=$(ticks "$2")
  line=$(wrk -t $threads -c "$3" -d "${seconds}s" --latency -s "benches/serve/$4" "$5" | grep ^RESULT)
  after=$(ticks "$2")
  echo "$line" | awk -v n="$1" -v c="$3" -v t=$((after - before)) -v hz="$hz" \
    '{printf "%s %d %.0f %.3f %.3f %.1f %d\n", n, c, $3, $4, $5, t / hz * 1e6 / $2, $6}'
}
echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores"
read -r median p99 < <("$bin/examples/flush" "$state")
echo "one fdatasync of the disk under test: median $median ms, p99 $p99 ms"
# Everybody has learned before anything is measured.
for p in $policies; do
  OO_BENCH_BODY=$(body "$p") wrk -t 2 -c 16 -d 2s -s benches/serve/feedback.lua "http://127.0.0.1:${port_of[$p]}" > /dev/null
done
for _ in $(seq "$repeats"); do
  for c in 1 16 64; do
    one echo-raw $echo_pid $c body.lua http://127.0.0.1:8109/raw
    one echo-json $echo_pid $c body.lua http://127.0.0.1:8109/json
    OO_BENCH_BODY=tasks one echo-json-tasks $echo_pid $c body.lua http://127.0.0.1:8109/tasks
    for p in $policies; do
      OO_BENCH_BODY=$(body "$p") one "recommend:$p" "${pid_of[$p]}" $c body.lua "http://127.0.0.1:${port_of[$p]}/recommend"
    done
  done
  for p in $policies; do
    OO_BENCH_BODY=$(body "$p") one "feedback:$p" "${pid_of[$p]}" 64 feedback.lua "http://127.0.0.1:${port_of[$p]}"
  done
  OO_BENCH_BODY=$(body "$first") one "feedback:$first,flush=4ms" $slow_pid 64 feedback.lua http://127.0.0.1:8108
done | tee "$state/rows"
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
echo
echo "| what | connections | requests/s | p50 ms | p99 ms | CPU µs a request | bad |"
echo "|---|---:|---:|---:|---:|---:|---:|"
# The median of each column over the repeats.
sort -k1,1 -k2,2n "$state/rows" | awk '
  function flush(  i, k, m) { if (key == "") return; split(key, k, " "); printf "| %s | %s |", k[1], k[2]
    for (i = 3; i <= 7; i++) { m = asort_(i); printf " %s |", m } print ""; n = 0 }
  function asort_(i,  a, j, l, t) { for (j = 1; j <= n; j++) a[j] = v[j, i]
    for (j = 2; j <= n; j++) for (l = j; l > 1 && a[l] + 0 < a[l - 1] + 0; l--) { t = a[l]; a[l] = a[l - 1]; a[l - 1] = t }
    return a[int((n + 1) / 2)] }
  { k = $1 " " $2; if (k != key) { flush(); key = k } n++; for (i = 3; i <= 7; i++) v[n, i] = $i } END { flush() }'
