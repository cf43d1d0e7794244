#!/usr/bin/env bash
# gpt_prepare as a user runs it: what it prints and writes, from a file and from standard input, and how it ends.
set -euo pipefail
prepare=$GPT_BIN/gpt_prepare
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0

# expect NAME WANTED GOT
expect() {
    if [ "$2" != "$3" ]; then
        printf 'FAILED %s\n--- wanted\n%s\n--- got\n%s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}

# [input=FILE] refused CODE MESSAGE ARGUMENTS...: that exit code, nothing on stdout, one line on stderr that contains MESSAGE.
refused() {
    local code=$1 message=$2 got=0 line
    shift 2
    "$prepare" "$@" >out.log 2>err.log <"${input:-/dev/null}" || got=$?
    expect "exit code of: $*" "$code" "$got"
    expect "stdout of: $*" "" "$(cat out.log)"
    expect "lines on stderr of: $*" 1 "$(wc -l <err.log)"
    line=$(cat err.log)
    [[ $line == "gpt_prepare: "*"$message"* ]] || expect "message of: $*" "gpt_prepare: ...$message..." "$line"
}

hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }

# ---- what it prints and writes ----------------------------------------------------------------------
printf 'hello, wor' >hello.txt
expect "output" "length of dataset in characters: 10
vocab size: 8
train has 9 tokens
val has 1 tokens
wrote train.bin, val.bin and meta.json in data/hello" "$("$prepare" hello.txt 2>err.log)"
expect "nothing on stderr when it is not a terminal" "" "$(cat err.log)"
expect "files" "meta.json train.bin val.bin" "$(ls -A data/hello | xargs)"
expect "tokens of characters" "030002000400040005000100000007000500 0600" \
    "$(hex data/hello/train.bin) $(hex data/hello/val.bin)"

"$prepare" --out=by-flag hello.txt >/dev/null
cmp by-flag/train.bin data/hello/train.bin
"$prepare" --out piped - <hello.txt >/dev/null
for name in train.bin val.bin meta.json; do cmp "piped/$name" "data/hello/$name"; done
cat hello.txt | "$prepare" --out=piped - >/dev/null
expect "files after standard input" "meta.json train.bin val.bin" "$(ls -A piped | xargs)"

printf '\377\000A' >bytes
expect "output for bytes" "length of dataset in bytes: 3
vocab size: 256
train has 2 tokens
val has 1 tokens
wrote train.bin, val.bin and meta.json in b" "$("$prepare" --kind=byte --val-fraction 0.3 --out=b bytes)"
expect "tokens of bytes" "ff000000 4100" "$(hex b/train.bin) $(hex b/val.bin)"

echo '{"text": "hello"}' >lines.jsonl
expect "note on JSON lines as a text" "gpt_prepare: lines.jsonl was taken as one plain text, braces and all: --tokenizer=DIR reads JSON lines" \
    "$("$prepare" --out=lines lines.jsonl 2>&1 >/dev/null)"

"$prepare" --help | grep 'usage: gpt_prepare' >/dev/null || expect "--help" "usage" "none"
"$prepare" --version | grep '^gpt_prepare [0-9]' >/dev/null || expect "--version" "gpt_prepare X.Y.Z" "$("$prepare" --version)"

# ---- nanoGPT's own files ----------------------------------------------------------------------------
if [ -e "${GPT_SHARED_DATA:-}/tinyshakespeare_input.txt" ]; then
    "$prepare" --out=char - <"$GPT_SHARED_DATA/tinyshakespeare_input.txt" >/dev/null
    cmp char/train.bin "$GPT_SHARED_DATA/shakespeare_char_train.bin"
    cmp char/val.bin "$GPT_SHARED_DATA/shakespeare_char_val.bin"
else
    echo "skipped: the comparison with nanoGPT's files (GPT_SHARED_DATA is not there)"
fi

# ---- killed in the middle ---------------------------------------------------------------------------
mkfifo pipe
"$prepare" --out=by-flag - <pipe >/dev/null 2>&1 &
pid=$!
exec 3>pipe
printf 'other text' >&3
for _ in $(seq 100); do
    ls by-flag/gpt_prepare-*.tmp >/dev/null 2>&1 && break
    sleep 0.05
done
kill -9 $pid
wait $pid 2>/dev/null || true
exec 3>&-
expect "names after a kill" 4 "$(ls -A by-flag | wc -l)"
for name in train.bin val.bin meta.json; do cmp "by-flag/$name" "data/hello/$name"; done
"$prepare" --out=by-flag hello.txt >/dev/null
expect "names after the next run" "meta.json train.bin val.bin" "$(ls -A by-flag | xargs)"

# ---- how it ends when something is wrong ------------------------------------------------------------
printf 'caf\351 au lait' >latin1.txt
: >empty.txt
rm -rf data
refused 64 "no text given"
refused 64 "take GPT-2's tokens: --tokenizer=DIR" hello.txt more.txt
refused 64 "unknown argument --kin=char" --kin=char hello.txt
refused 64 "--tokenizer=DIR" --kind=bpe hello.txt
refused 64 "--kind=word" --kind=word hello.txt
refused 64 "--kind needs a value" hello.txt --kind
refused 64 "--out was given twice" --out=a --out=b hello.txt
refused 64 "not a number" --val_fraction=some hello.txt
refused 64 "--val_fraction=2: must be above 0 and below 1" --val_fraction=2 hello.txt
refused 64 "above 0 and below 1" --val_fraction=0 hello.txt
refused 64 "--out=DIR" -
refused 65 "empty.txt is empty" empty.txt
refused 65 "standard input is empty" --out=nothing -
refused 65 "latin1.txt: byte 3 (0xE9) is not valid UTF-8" latin1.txt
gzip -c hello.txt >hello.txt.gz
refused 65 "hello.txt.gz: begins as a gzip archive, not as UTF-8 text: unpack it first; only --tokenizer does" hello.txt.gz
input=hello.txt.gz refused 65 "standard input: begins as a gzip archive" --out=nothing -
refused 66 "none.txt" none.txt
refused 64 "one text" "$work"
refused 74 "hello.txt" --out=hello.txt/sub hello.txt
expect "nothing written by all of these" "" "$(ls -d data nothing 2>/dev/null)"

# A text on a mapping of which the system says SIGBUS: its disk fails, or somebody cuts it off.
"$prepare" --out=bus - <pipe >/dev/null 2>err.log &
pid=$!
exec 3>pipe
for _ in $(seq 100); do
    [ -e bus ] && break
    sleep 0.05
done
code=0
kill -BUS $pid
wait $pid 2>/dev/null || code=$?
exec 3>&-
expect "SIGBUS" "66 gpt_prepare: a file became shorter while it was read, or its disk cannot be read" "$code $(cat err.log)"

expect "--help has no exit codes of training" "0 64 65 66 71 74" "$("$prepare" --help | awk '/^exit codes/ {on = 1} on && $1 ~ /^[0-9]+$/ {printf "%s%s", n++ ? " " : "", $1}')"

code=0
"$prepare" --out=full hello.txt >/dev/full 2>err.log || code=$?
expect "exit code when standard output is full" 74 "$code"
grep -q 'the files are in full' err.log || expect "message" "the files are in full" "$(cat err.log)"

exit $((failures > 0))
