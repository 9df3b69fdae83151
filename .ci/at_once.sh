#!/bin/sh
# Run commands side by side, each an argument, and show what each has said when it has ended, in their order. Fails if
# one of them does.
set -eu

folder=$(mktemp -d)
pids=
# What runs in the background does not hear Ctrl-C by itself.
trap 'kill $pids 2>/dev/null || true; exit 130' INT TERM
trap 'rm -rf "$folder"' EXIT

number=0
for command; do
    number=$((number + 1))
    sh -c "$command" >"$folder/$number" 2>&1 &
    pids="$pids $!"
done

number=0
failed=0
for pid in $pids; do
    number=$((number + 1))
    wait "$pid" || failed=1
    cat "$folder/$number"
done
exit "$failed"
