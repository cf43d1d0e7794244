#!/usr/bin/env bash
# gpt_eval as a user meets it: the loss of a file is what training said of it; mistakes end in one line and the right code.
source "$(dirname "$0")/../e2e/lib.sh"
prepare_data 200
must_train 1 out --device=cpu --max_iters=2 --eval_interval=2 --eval_iters=100000
bytes=$(stat -c %s data/text/val.bin)

"$bin/gpt_eval" out --device=cpu --data=data/text/val.bin >eval.log 2>&1 || fail "rc $?: $(cat eval.log)"
grep -q ": $((bytes / 2 - 1)) tokens, loss" eval.log || fail "not every token: $(cat eval.log)"
ours=$(sed -n 's/.*loss \([0-9.]*\),.*/\1/p' eval.log)
theirs=$(sed -n 's/.*val loss \([0-9.]*\).*/\1/p' out.log | tail -1) # of windows without the remainder
awk -v a="$ours" -v b="$theirs" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 4e-4) }' || fail "loss $ours, in training $theirs"

"$bin/gpt_eval" out --device=cpu --data=data/text >folder.log 2>&1 || fail "a folder: rc $?: $(cat folder.log)"
diff <(grep tokens, eval.log) <(grep tokens, folder.log) || fail "of a folder val.bin measures"
# A person sees how far it is, and in the end only the figures.
script -qec "$bin/gpt_eval out --device=cpu --data=data/text/val.bin" /dev/null >terminal.log || fail "on a terminal: rc $?"
grep -Eq '[0-9,]+ of [0-9,]+ windows, [0-9]+%' terminal.log || fail "no progress: $(cat -v terminal.log)"
[ "$(tr '\r' '\n' <terminal.log | sed 's/\x1b\[K//' | grep tokens,)" = "$(cat eval.log)" ] || fail "figures: $(cat -v terminal.log)"

refuse() { # CODE PATTERN ARGS...
    local wanted=$1 pattern=$2 code
    shift 2
    "$bin/gpt_eval" "$@" >refused.log 2>&1
    code=$?
    [ $code = "$wanted" ] || fail "rc $code, wanted $wanted: $* ($(cat refused.log))"
    grep -Eq -- "$pattern" refused.log || fail "$*: no '$pattern' in: $(cat refused.log)"
    [ "$(wc -l <refused.log)" = 1 ] || fail "$*: not one line: $(cat refused.log)"
}
printf '{"text": "a b"}\n' >l.jsonl
printf '\xff\xff\x01\x00' >far.bin
refuse 64 'which model' --data=x.bin
refuse 64 'nothing to do' out
refuse 64 'unknown|no-such' out --no-such=1
refuse 64 'unknown argument two: one directory is taken, here out' out two --data=x.bin
refuse 64 'stride is for --data' out --lambada=l.jsonl --stride=3
refuse 64 'max_items is for --hellaswag and --lambada' out --data=data/text/val.bin --max_items=3
refuse 64 'items is for --hellaswag and --lambada' out --data=data/text/val.bin --items=items
refuse 64 'items=: is empty' out --lambada=l.jsonl --items=
refuse 64 'at most the model.s block_size of 12' out --data=data/text/val.bin --stride=13
refuse 64 'device' out --data=data/text/val.bin --device=tpu
refuse 66 'no such directory' nowhere --data=data/text/val.bin
refuse 66 'neither a model directory' data --data=data/text/val.bin
refuse 66 'nowhere.bin' out --data=nowhere.bin --device=cpu
refuse 66 'vocab.json' out --lambada=l.jsonl --device=cpu
refuse 66 'nowhere.jsonl' out --lambada=nowhere.jsonl --device=cpu --tokenizer="$GPT_SOURCE/tests/golden/bpe"
refuse 65 'token [0-9]*, but the model.s vocabulary' out --data=far.bin --device=cpu
refuse 65 'l.jsonl:1: "ctx" is missing' out --hellaswag=l.jsonl --device=cpu --tokenizer="$GPT_SOURCE/tests/golden/bpe"
printf '{"context": "a", "continuation": "it was the best of times, it was the worst of times, it was the age of wisdom"}\n' >wide.jsonl
printf '{"text": "a b"}\n{"text": 1e}\n' >nonsense.jsonl
toy=--tokenizer=$GPT_SOURCE/tests/golden/bpe
echo older >items
refuse 65 'another tokenizer' out --lambada=wide.jsonl --device=cpu "$toy" --items=items
refuse 65 'nonsense.jsonl:2: not a JSON object: ' out --lambada=nonsense.jsonl --device=cpu "$toy"
refuse 74 'nowhere/x: cannot create' out --lambada=l.jsonl --device=cpu --items=nowhere/x
refuse 74 'items=data: is a directory' out --lambada=l.jsonl --device=cpu --items=data
[ "$(cat items)" = older ] && [ "$(ls -A | grep -c tmp)" = 0 ] || fail "an evaluation that failed wrote: $(ls -A) $(cat items)"
if [ -w /dev/full ]; then # figures that cannot be written are no success
    "$bin/gpt_eval" out --device=cpu --data=data/text/val.bin >/dev/full 2>full.log
    [ $? = 74 ] && grep -q 'standard output' full.log || fail "a full disk: $(cat full.log)"
fi
"$bin/gpt_eval" --help | grep -q -- '--hellaswag' || fail "--help"
finish
