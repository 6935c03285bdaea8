#!/usr/bin/env bash
# Milliseconds from the start of `oo-serve` without arguments, on an empty state folder, to its first answer to POST /recommend.
# Usage: benches/serve/start.sh OO-SERVE [TIMES]     nothing else may listen on 127.0.0.1:8008
set -euo pipefail
bin=$1 times=${2:-20}
home=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait 2>/dev/null; rm -rf "$home"' EXIT
body='{"user_id":"alice","candidates":[{"id":"a","priority":4},{"id":"b"}]}'
for i in $(seq "$times"); do
  began=${EPOCHREALTIME/[.,]/}
  env -i HOME="$home/$i" "$bin" --log error >/dev/null & pid=$!
  until { exec 3<>/dev/tcp/127.0.0.1/8008; } 2>/dev/null; do
    kill -0 "$pid"
    sleep 0.001
  done
  printf 'POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %s\r\n\r\n%s' \
    "${#body}" "$body" >&3
  read -r answer <&3
  ended=${EPOCHREALTIME/[.,]/}
  [[ $answer == *" 200 "* ]] || { echo "start.sh: $answer" >&2; exit 1; }
  echo "$(((ended - began) / 100))"
  exec 3>&-
  kill "$pid"
  wait "$pid" || true
  pid=
done | sort -n | awk '{ t[NR] = $1 / 10 } END { printf "%d starts: median %.1f ms, slowest %.1f ms\n", NR, t[int((NR + 1) / 2)], t[NR] }'
