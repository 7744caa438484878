#!/usr/bin/env bash
# A cluster by hand, as the getting-started guide describes it, with nothing but curl: three blank servers, one made a
# cluster of itself, the others added as learners and then as voters, a write to one server read from each, a voter taken out,
# and the leader stopped.
#
#   examples/raft-kv-memstore/test-cluster.sh [path of the binary]
#
# It stops at the first answer that is not as it should be, and leaves no process behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

binary="${1:-${CARGO_TARGET_DIR:-target}/release/raftwright}"
if [[ ! -x "$binary" ]]; then
    cargo build --release --quiet --package raftwright-kv
fi

dir="$(mktemp -d "${TMPDIR:-/tmp}/raft-kv-memstore-XXXXXX")"
declare -A pid http peer

stop() { # server
    if [[ -n "${pid[$1]:-}" ]]; then
        kill -TERM "${pid[$1]}" 2>/dev/null || true
        wait "${pid[$1]}" 2>/dev/null || true
        unset "pid[$1]"
    fi
}
clean_up() {
    local status=$?
    for id in "${!pid[@]}"; do stop "$id"; done
    if ((status == 0)); then rm -rf "$dir"; else echo "!! failed; logs are in $dir" >&2; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf '\n-- %s\n' "$*"; }
fail() { echo "!! $*" >&2; exit 1; }

# Waits until a command succeeds, for half a minute at most.
eventually() { # command...
    local i
    for ((i = 0; i < 300; i++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "not within 30 s: $*"
}

# Starts a blank server on ports that the system gives, and learns them from the line that it prints.
start() { # server
    local ready="$dir/ready-$1" line
    # What the server said the last time is not what it says now.
    : >"$ready"
    "$binary" serve --id "$1" --data-dir "$dir/data-$1" --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 \
        --cluster-name "${dir##*/}" >>"$ready" 2>"$dir/server-$1.log" &
    pid[$1]=$!
    eventually grep -q '^ready ' "$ready"
    line="$(grep '^ready ' "$ready")"
    line="${line#*peer=}"
    peer[$1]="${line%% *}"
    http[$1]="${line##*http=}"
    echo "server $1: peer ${peer[$1]}, http ${http[$1]}"
}

# Sends a request, shows it and its answer, and fails unless the status is 200.
rpc() { # server, path, [body]
    local answer status
    local curl=(curl --silent --show-error --max-time 20 --write-out '\n%{http_code}')
    if (($# > 2)); then
        echo "curl -H 'Content-Type: application/json' -d '$3' http://${http[$1]}$2" >&2
        curl+=(--header 'Content-Type: application/json' --data "$3")
    else
        echo "curl http://${http[$1]}$2" >&2
    fi
    answer="$("${curl[@]}" "http://${http[$1]}$2")"
    status="${answer##*$'\n'}"
    answer="${answer%$'\n'*}"
    echo "    $answer" >&2
    [[ "$status" == 200 ]] || fail "status $status"
    printf '%s' "$answer"
}

# Fails unless an answer holds what it should.
holds() { # answer, text
    [[ "$1" == *"$2"* ]] || fail "expected $2 in: $1"
}

knows_a_leader() { curl --silent --fail --max-time 5 "http://${http[$1]}/readyz"; }
voters_are() { # server, list
    [[ "$(curl --silent --max-time 5 "http://${http[$1]}/metrics")" == *"\"configs\":[$2]"* ]]
}
holds_itself() { # server, key, value
    [[ "$(curl --silent --max-time 5 "http://${http[$1]}/kv/$2?consistency=stale")" == *"\"value\":\"$3\""* ]]
}

say "Three blank servers"
for id in 1 2 3; do start "$id"; done
if knows_a_leader 1 >/dev/null; then fail "a blank server must not be ready"; fi

say "Server 1 is made a cluster of itself"
rpc 1 /init '[]' >/dev/null
eventually knows_a_leader 1
holds "$(rpc 1 /metrics)" '"state":"Leader"'

say "Servers 2 and 3 become learners"
holds "$(rpc 1 /add-learner "[2, \"${peer[2]}\"]")" '"log_index"'
holds "$(rpc 1 /add-learner "[3, \"${peer[3]}\"]")" '"log_index"'
holds "$(rpc 1 /metrics)" '"configs":[[1]]'

say "and then voters"
holds "$(rpc 1 /change-membership '[1, 2, 3]')" '"log_index"'
for id in 1 2 3; do
    eventually voters_are "$id" '[1,2,3]'
    eventually knows_a_leader "$id"
done
holds "$(rpc 1 /list-nodes)" "\"2\":{\"addr\":\"${peer[2]}\",\"voter\":true}"

say "A write to server 1 is read from each"
holds "$(rpc 1 /write '{"Set": {"key": "foo", "value": "bar"}}')" '"revision":1'
for id in 1 2 3; do
    [[ "$(rpc "$id" /read '"foo"')" == '"bar"' ]] || fail "server $id answers something else"
done

say "A write to server 3, which does not lead, is forwarded"
holds "$(rpc 3 /write '{"Set": {"key": "foo", "value": "baz"}}')" '"revision":2'
for id in 1 2 3; do
    holds "$(rpc "$id" /kv/foo)" '"value":"baz"'
done

say "Server 2 is taken out"
holds "$(rpc 1 /change-membership '[1, 3]')" '"log_index"'
for id in 1 3; do eventually voters_are "$id" '[1,3]'; done
stop 2

say "and comes back with all that it missed"
holds "$(rpc 1 /write '{"Set": {"key": "missed", "value": "yes"}}')" '"revision":3'
start 2
holds "$(rpc 1 /add-learner "[2, \"${peer[2]}\"]")" '"log_index"'
holds "$(rpc 1 /change-membership '[1, 2, 3]')" '"log_index"'
for id in 1 2 3; do eventually voters_are "$id" '[1,2,3]'; done
eventually holds_itself 2 missed yes

say "Server 1 stops; the others go on"
stop 1
eventually knows_a_leader 2
holds "$(rpc 2 /write '{"Set": {"key": "after", "value": "all"}}')" '"revision":4'
for id in 2 3; do
    [[ "$(rpc "$id" /read '"after"')" == '"all"' ]] || fail "server $id answers something else"
done

say "All is as it should be"
