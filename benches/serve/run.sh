#!/usr/bin/env bash
# Measures oo-serve against the floor, interleaved in one run: CPU a request from /proc, the rest from wrk.
# Usage: benches/serve/run.sh [SECONDS] [REPEATS]     needs wrk (apt-get install wrk); OO_BENCH_DIR is the disk under test
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-4} repeats=${2:-3}
bin=${CARGO_TARGET_DIR:-target}/release
[ -n "${OO_BENCH_BUILT:-}" ] || cargo build --release --quiet -p oo-serve --bins --examples
state=$(mktemp -d "${OO_BENCH_DIR:-/var/tmp}/oo-bench.XXXXXX")
"$bin/examples/echo" 127.0.0.1:8109 & echo_pid=$!
"$bin/oo-serve" --listen 127.0.0.1:8108 --state "$state/s" --candidate 12 --policy "${OO_BENCH_POLICY:-lin-ts}" --log error & serve_pid=$!
trap 'kill $echo_pid $serve_pid 2>/dev/null; wait 2>/dev/null; rm -rf "$state"' EXIT
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
echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores, policy ${OO_BENCH_POLICY:-lin-ts}"
for _ in $(seq "$repeats"); do
  for c in 1 16 64; do
    one echo-raw $echo_pid $c body.lua http://127.0.0.1:8109/raw
    one echo-json $echo_pid $c body.lua http://127.0.0.1:8109/json
    one recommend $serve_pid $c body.lua http://127.0.0.1:8108/recommend
  done
done | tee "$state/rows"
one feedback $serve_pid 64 feedback.lua http://127.0.0.1:8108 | tee -a "$state/rows"
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
