#!/usr/bin/env bash
# Starts a server that speaks S3 on the loopback, which checks signatures, and runs the tests of object storage.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${OO_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oo-ci}"
venv="$cache/python/s3-$(sha256sum "$here/s3.txt" | cut -c1-16)"
if [ ! -f "$venv/made" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --no-deps --only-binary :all: --disable-pip-version-check -r "$here/s3.txt"
    touch "$venv/made"
fi

work="$(mktemp -d)"
server=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
# The first four requests make a user and a bucket; from then on signatures and rights are checked.
INITIAL_NO_AUTH_ACTION_COUNT=4 "$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >"$work/log" 2>&1 &
server=$!
export AWS_ENDPOINT_URL="http://127.0.0.1:$port" AWS_REGION=us-east-1 OO_TEST_S3_BUCKET=oo-test
unset AWS_SESSION_TOKEN AWS_PROFILE AWS_CA_BUNDLE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
eval "$("$venv/bin/python3" - <<'PYTHON'
import json, os, socket, time, boto3
from urllib.parse import urlsplit
place = urlsplit(os.environ["AWS_ENDPOINT_URL"])
for _ in range(600):
    try:
        socket.create_connection((place.hostname, place.port), 1).close()
        break
    except OSError:
        time.sleep(0.1)
first = dict(endpoint_url=place.geturl(), region_name="us-east-1", aws_access_key_id="first", aws_secret_access_key="first")
iam = boto3.client("iam", **first)
iam.create_user(UserName="oo")
rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="oo", PolicyName="all", PolicyDocument=json.dumps(rights))
key = iam.create_access_key(UserName="oo")["AccessKey"]
boto3.client("s3", **first).create_bucket(Bucket=os.environ["OO_TEST_S3_BUCKET"])
print(f"export AWS_ACCESS_KEY_ID='{key['AccessKeyId']}' AWS_SECRET_ACCESS_KEY='{key['SecretAccessKey']}'")
PYTHON
)"
if [ $# -gt 0 ]; then "$@"; else
    cd "$here/../.."
    # The features of .ci/run, whose builds can be used then.
    cargo test --locked --release --workspace --features oo-serve/otlp,oo-sim/s3 --test object_storage -- --ignored
fi
