#!/usr/bin/env bash
# README's table "What fits on my card" is what the plans say.
set -uo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$GPT_SOURCE/launch/card_table.sh" "$GPT_BIN" >"$work/planned" || exit 1
sed -n '/^| model | rtx3060/,/^$/p' "$GPT_SOURCE/README.md" | sed '/^$/d' >"$work/written"
if ! diff "$work/written" "$work/planned"; then
    echo "FAIL: README.md's table is not what launch/card_table.sh prints"
    exit 1
fi
[ "$(grep -c '^| [0-9]*M' "$work/planned")" = 4 ] || { echo "FAIL: not four models"; exit 1; }
grep -q 'does not fit\|||' "$work/planned" && { echo "FAIL: a model does not fit"; exit 1; }
exit 0
