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
refuse 64 'stride is for --data' out --lambada=l.jsonl --stride=3
refuse 64 'at most the model.s block_size of 12' out --data=data/text/val.bin --stride=13
refuse 64 'device' out --data=data/text/val.bin --device=tpu
refuse 66 'no such directory' nowhere --data=data/text/val.bin
refuse 66 'neither a model directory' data --data=data/text/val.bin
refuse 66 'nowhere.bin' out --data=nowhere.bin --device=cpu
refuse 66 'vocab.json' out --lambada=l.jsonl --device=cpu
refuse 66 'nowhere.jsonl' out --lambada=nowhere.jsonl --device=cpu --tokenizer="$GPT_SOURCE/tests/golden/bpe"
refuse 65 'token [0-9]*, but the model.s vocabulary' out --data=far.bin --device=cpu
refuse 65 'l.jsonl:1: "ctx" is missing' out --hellaswag=l.jsonl --device=cpu --tokenizer="$GPT_SOURCE/tests/golden/bpe"
refuse 74 'nowhere/x: cannot be written' out --lambada=l.jsonl --device=cpu --items=nowhere/x
"$bin/gpt_eval" --help | grep -q -- '--hellaswag' || fail "--help"
finish
