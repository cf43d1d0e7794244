#!/usr/bin/env bash
# What a run shows of itself. HellaSwag at intervals is what gpt_eval says of the checkpoint of that step, samples are what
# gpt_sample writes with it, on any number of ranks; training's bits are the same with and without; a resumed run goes on with
# both files; mistakes end before step 0. On an emulated GPU where this build has one.
source "$(dirname "$0")/lib.sh"
toy=$GPT_SOURCE/tests/golden/bpe
device=cpu tokens=40 items=27 same=4 # so many samples are the same on two ranks
is_emulated && device=cuda tokens=8 items=5 same=1 # slow, and in bfloat16
make_text 900 >text.txt
"$bin/gpt_prepare" --tokenizer="$toy" --split=tail --out=data/text text.txt >prepare.log 2>&1 || fail "$(cat prepare.log)"
make_text 270 | awk -v OFS='\n' '{ l[NR % 9] = $0 } NR % 9 == 0 { i++; print l[1] " " l[2 + i % 6], i % 4, l[3], l[4], l[5] " " l[6], l[7] }' \
    >hella.txt
[ "$(wc -l <hella.txt)" = 180 ] || fail "$(wc -l hella.txt)"

run() { # NP OUT ARGS...
    must_train "$@" --device=$device --block_size=64 --n_layer=2 --n_embd=32 --n_head=2 --batch_size=2 --max_iters=5 --log_interval=1 \
        --eval_interval=3 --eval_iters=2
}
hella=(--eval_hellaswag=hella.txt --hellaswag_items=$items --hellaswag_interval=2 --sample_interval=2 --sample_prompt="this old" --sample_tokens=$tokens)
figures() { sed -n 's/^step \([0-9]*\): HellaSwag \(acc.*\), [0-9]* items$/\1 \2/p' "$1.log"; }
recorded() { sed -n 's/.*"iter":\([0-9]*\),.*"hellaswag_acc":\([0-9.]*\),"hellaswag_acc_norm":\([0-9.]*\),"hellaswag_items":\(.*\)}/\1 \2 \3 \4/p' "$1"; }

# ---- the same training ----
run 1 plain --checkpoint_interval=2 --keep_checkpoints=9
run 1 one --checkpoint_interval=2 --keep_checkpoints=9 "${hella[@]}"
for step in 2 5; do same_bits plain one $step; done
diff <(grep -E '^(iter|step .*train)' plain.log | sed 's/, time.*|//; s/, [0-9.,]* tok.*//') \
    <(grep -E '^(iter|step .*train)' one.log | sed 's/, time.*|//; s/, [0-9.,]* tok.*//') || fail "the losses of training differ"

# ---- the same figures ----
[ "$(figures one | cut -d' ' -f1 | xargs)" = "0 2 4 5" ] || fail "steps: $(figures one)"
for step in 2 5; do
    "$bin/gpt_eval" "one/step_0000000$step" --device=$device --hellaswag=hella.txt --max_items=$items >eval.log 2>&1 || fail "$(cat eval.log)"
    [ "$(figures one | sed -n "s/^$step //p")" = "$(sed -n 's/.*items, //p' eval.log)" ] || fail "step $step: $(figures one); $(cat eval.log)"
done
[ "$(recorded one/metrics.jsonl | awk '{ printf "%d acc %.4f, acc_norm %.4f\n", $1, $2, $3 }')" = "$(figures one)" ] ||
    fail "metrics.jsonl: $(recorded one/metrics.jsonl); $(figures one)"
[ "$(recorded one/metrics.jsonl | cut -d' ' -f4 | sort -u)" = $items ] || fail "items: $(recorded one/metrics.jsonl)"
if [ "$max_ranks" -ge 2 ]; then
    run 2 two "${hella[@]}" --micro_batch=1
    [ "$(figures two | head -n $same)" = "$(figures one | head -n $same)" ] || fail "two ranks: $(figures two); one: $(figures one)"
    cmp <(head -n $same one/samples.jsonl) <(head -n $same two/samples.jsonl) || fail "two ranks write another text"
fi

# ---- the same texts ----
lines() { sed -n 's/^{"iter":\([0-9]*\),"text":"\(.*\)"}$/\1 \2/p' "$1/samples.jsonl"; }
[ "$(lines one | cut -d' ' -f1 | xargs)" = "0 2 4 5" ] || fail "samples: $(cat one/samples.jsonl)"
for step in 2 5; do
    "$bin/gpt_sample" "one/step_0000000$step" --device=$device --prompt="this old" --num_samples=1 --max_new_tokens=$tokens 2>/dev/null |
        sed '$d' | iconv -c -f utf-8 -t utf-8 >text # bytes that are no UTF-8 are U+FFFD in JSON
    printf '%b\n' "$(lines one | sed -n "s/^$step //p" | sed 's/\\u00\(..\)/\\x\1/g; s/\xef\xbf\xbd//g')" | cmp - text ||
        fail "step $step: $(lines one); gpt_sample: $(cat text)"
done
[ "$(grep -c '^step [0245]: sample "' one.log)" = 4 ] || fail "$(grep sample one.log)"

# ---- going on, and only looking ----
run 1 resumed --checkpoint_interval=2 "${hella[@]}" --max_iters=4 --lr_decay_iters=50
run 1 resumed --checkpoint_interval=2 "${hella[@]}" --init_from=resume
same_bits plain resumed 5
[ "$(recorded resumed/metrics.jsonl)" = "$(recorded one/metrics.jsonl)" ] || fail "resumed: $(recorded resumed/metrics.jsonl)"
cmp one/samples.jsonl resumed/samples.jsonl || fail "resumed: $(cat resumed/samples.jsonl)"
run 1 resumed --init_from=resume --eval_only=true "${hella[@]}"
[ "$(figures resumed)" = "$(figures one | tail -1)" ] || fail "eval_only: $(cat resumed.log)"

# ---- what is looked at first ----
ranks=$((max_ranks < 2 ? max_ranks : 2)) # of the next refusal
refuse() { # CODE PATTERN ARGS...
    local wanted=$1 pattern=$2
    shift 2
    train $ranks never --device=cpu --block_size=64 "${hella[@]}" "$@"
    local rc=$?
    [ $rc = "$wanted" ] || fail "rc $rc, wanted $wanted: $*"
    grep -Eq -- "$pattern" never.err never.log || fail "$*: no '$pattern' in: $(cat never.err never.log)"
    [ ! -e never ] || fail "$*: something was written"
    ranks=1
}
make_text 300 >chars.txt
"$bin/gpt_prepare" --kind=char --out=data/chars chars.txt >prepare.log 2>&1 || fail "$(cat prepare.log)"
mkdir data/bare
cp data/text/*.bin data/bare/
sed 's/^1$/7/' hella.txt >wrong.txt
refuse 64 'eval_hellaswag: dataset chars has a vocabulary of its own' --dataset=chars
refuse 66 'eval_hellaswag: .*has no meta.json' --dataset=bare --vocab_size=457
refuse 66 'eval_hellaswag: .*none.txt' --eval_hellaswag=none.txt
refuse 65 'wrong.txt:2: the label' --eval_hellaswag=wrong.txt
refuse 65 'eval_hellaswag: item 0: a continuation of' --block_size=4
refuse 65 '^hellaswag +FAILED.*wrong.txt:2' --eval_hellaswag=wrong.txt --check
train 1 never --device=cpu --block_size=64 "${hella[@]}" --check || fail "$(cat never.log)"
grep -Eq '^samples +ok +a tokenizer of 457' never.log || fail "$(cat never.log)"
grep -Eq '^hellaswag +ok +hella.txt: '$items' items' never.log || fail "$(cat never.log)"
train 1 never --device=cpu --block_size=64 "${hella[@]}" --plan || fail "$(cat never.log)"
for region in 'row losses' 'sample cache.k' 'text ids'; do grep -q "$region" never.log || fail "$region: $(cat never.log)"; done

# ---- characters: what JSON has a way to write for ----
train 1 chars --device=cpu --dataset=chars --max_iters=2 --sample_interval=1 --sample_tokens=30 || fail "$(cat chars.err)"
[ "$(lines chars | cut -d' ' -f2 | cut -c1-6 | xargs -d'\n')" = '\u000a \u000a \u000a' ] || fail "$(cat chars/samples.jsonl)"
refuse 65 'sample_prompt: .*in the vocabulary' --dataset=chars --eval_hellaswag= --sample_prompt=Ä
refuse 66 'sample_interval: .*has no meta.json' --dataset=bare --vocab_size=457 --eval_hellaswag=

# ---- a limit of time ends a text that would take minutes (characters: nothing else ends it) ----
train 1 stopped --device=cpu --dataset=chars --sample_interval=1 --sample_tokens=1000000 --stop_after=1s
rc=$?
[ $rc = 85 ] || fail "stopped: rc $rc: $(cat stopped.err)"
[ ! -s stopped/samples.jsonl ] || fail "stopped: a part of a text was written"
finish
