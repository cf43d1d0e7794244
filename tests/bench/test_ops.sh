#!/usr/bin/env bash
# bench_ops times every op and adds them up; a mistake on its command line is one line and exit code 64.
set -uo pipefail
bench=$GPT_TOOLS/bench_ops
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

refused() { # WORD ARGS...: one line on stderr that names the word, nothing on stdout
    local word=$1 status=0
    shift
    "$bench" "$@" >"$work/out" 2>"$work/err" || status=$?
    [ $status = 64 ] || fail "$*: exit code $status, wanted 64"
    [ "$(wc -l <"$work/err")" = 1 ] && grep -q -- "$word" "$work/err" || fail "$*: $(cat "$work/err")"
    [ ! -s "$work/out" ] || fail "$*: printed $(head -1 "$work/out")"
}
refused shape=huge --shape=huge
refused dtype=int8 --dtype=int8
refused device=gpu --device=gpu
refused batch=0 --batch=0
refused seconds=soon --seconds=soon
refused --speed --speed
refused small small

"$bench" --help >"$work/help" || fail "--help: exit code $?"
grep -q -- --shape=NAME "$work/help" || fail "--help says nothing of --shape"

"$bench" --shape=small --batch=1 --threads=1 --seconds=0 --square=64 >"$work/table" || fail "small: exit code $?"
grep -q 'small: L4 H4 C128 T64 V65 B1, float32, head chunk 64' "$work/table" || fail "$(sed -n 3p "$work/table")"
for op in embedding 'layernorm backward' 'qkv weight' 'attention backward' 'head backward' adamw; do
    grep -Eq "^$op +[0-9.]+ " "$work/table" || fail "no line for $op"
done
# Times in a step: all lines with one, against the last.
awk '/^all /{ total = $2 } /%/{ sum += $NF } END { exit !(total > 0 && sum > 0.95 * total - 0.2 && sum < 1.05 * total + 0.2) }' \
    "$work/table" || fail "the lines do not add up: $(tail -1 "$work/table")"
exit $((failures > 0))
