#!/usr/bin/env bash
# Every config that users copy parses, prints back to itself, and plans on both devices.
set -uo pipefail
bin=$GPT_BIN source=$GPT_SOURCE failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

count=0
for config in "$source"/configs/*.ini; do
    count=$((count + 1))
    from=() # a model folder is not here
    grep -Eq '^init_from = (auto|resume|scratch)' "$config" || ! grep -q '^init_from' "$config" || from=(--init_from=scratch)
    "$bin/gpt_ddp" "$config" "${from[@]}" --print-config >"$work/once.ini" 2>"$work/err" || fail "$config: $(cat "$work/err")"
    "$bin/gpt_ddp" "$work/once.ini" --print-config >"$work/twice.ini" || fail "$config: its print does not parse"
    cmp -s "$work/once.ini" "$work/twice.ini" || fail "$config: print of the print differs"
    for device in cpu cuda; do
        "$bin/gpt_ddp" "$config" "${from[@]}" --plan --device=$device --vocab_size=50257 --memory_limit=400GiB \
            >"$work/plan" 2>"$work/err" || fail "$config on $device: $(cat "$work/err")"
        grep -q 'total' "$work/plan" || fail "$config on $device: the plan has no total"
    done
done
[ $count -ge 8 ] || fail "only $count configs found"
exit $((failures > 0))
