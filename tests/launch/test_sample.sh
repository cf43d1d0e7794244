#!/usr/bin/env bash
# gpt_sample: texts from a checkpoint, and one clear line and the right exit code when something is wrong.
set -uo pipefail
bin=$GPT_BIN failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

for i in $(seq 200); do echo "line $i: the cat sat on the mat, and the mat was flat."; done >text.txt
"$bin/gpt_prepare" text.txt --out=data/cat >/dev/null || fail "gpt_prepare"
"$bin/gpt_ddp" --dataset=cat --out_dir=out --device=cpu --n_layer=2 --n_head=2 --n_embd=16 --block_size=16 \
    --batch_size=4 --gradient_accumulation_steps=1 --max_iters=20 --eval_interval=10 --eval_iters=1 \
    --warmup_iters=2 >train.log 2>&1 || fail "gpt_ddp: $(tail -n 3 train.log)"

# sample NAME ARGS...: run gpt_sample into the file NAME
sample() { local name=$1; shift; "$bin/gpt_sample" "$@" >"$name" 2>"$name.err" || fail "$name: $(cat "$name.err")"; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
differ() { ! cmp -s "$1" "$2" || fail "$1 and $2 are the same"; }
short="--num_samples=2 --max_new_tokens=40" # past block_size: the window moves

# shellcheck disable=SC2086
{
    sample first out $short --prompt="the cat"
    sample again out $short --prompt="the cat"
    sample threads out $short --prompt="the cat" --threads=2
    sample newest out/step_00000020 $short --prompt="the cat"
    sample seed out $short --prompt="the cat" --seed=1
    printf 'the cat' >prompt.txt
    sample file out $short --prompt=FILE:prompt.txt
    sample default out $short
    sample greedy out $short --prompt="the cat" --temperature=0
}
same first again
same first threads
same first newest
same first file
differ first seed
[ "$(grep -c '^---------------$' first)" = 2 ] || fail "first: not two samples"
[ "$(head -c 7 first)" = "the cat" ] || fail "first: does not begin with the prompt"
[ "$(head -c 1 default | od -An -tx1 | tr -d ' ')" = 0a ] || fail "default: does not begin with a newline"
[ "$(wc -c <first)" = $((2 * (7 + 40 + 17))) ] || fail "first: $(wc -c <first) bytes"
[ "$(head -c 47 greedy)" = "$(tail -c 64 greedy | head -c 47)" ] || fail "greedy: samples differ"

# refuse CODE WORD ARGS...: gpt_sample ends with CODE after one line that has WORD, and says nothing else
refuse() {
    local want=$1 word=$2 code
    shift 2
    "$bin/gpt_sample" "$@" >refused.out 2>refused.err
    code=$?
    [ $code = "$want" ] || fail "$*: exit $code, wanted $want"
    [ "$(wc -l <refused.err)" = 1 ] || fail "$*: not one line: $(cat refused.err)"
    grep -qF -- "$word" refused.err || fail "$*: no \"$word\" in: $(cat refused.err)"
    [ ! -s refused.out ] || fail "$*: wrote to standard output"
}
refuse 64 "gpt_sample DIR"
refuse 64 "--bogus" out --bogus=1
refuse 64 "two" out two
refuse 64 "--temperature" out --temperature=-1
refuse 64 "--temperature" out --temperature=nan
refuse 64 "--top_k" out --top_k=-1
refuse 64 "--num_samples" out --num_samples=0
refuse 64 "--prompt" out --prompt=
refuse 65 "@" out --prompt=@
refuse 66 "nowhere" nowhere
refuse 66 "data" data
refuse 66 "missing.txt" out --prompt=FILE:missing.txt

# A vocabulary of BPE goes along with the checkpoint, and text comes out in whole characters.
toy=$GPT_SOURCE/tests/golden/bpe
"$bin/gpt_prepare" --tokenizer="$toy" --split=tail --out=data/bpe text.txt >/dev/null || fail "gpt_prepare --tokenizer"
"$bin/gpt_ddp" --dataset=bpe --out_dir=out-bpe --device=cpu --n_layer=1 --n_head=2 --n_embd=16 --block_size=16 --batch_size=4 \
    --gradient_accumulation_steps=1 --max_iters=4 --eval_interval=4 --eval_iters=1 --warmup_iters=2 >train.log 2>&1 ||
    fail "gpt_ddp on BPE: $(tail -n 3 train.log)"
grep -q '457' out-bpe/step_00000004/config.json || fail "BPE: the vocabulary is not of 457 tokens"
for name in vocab.json merges.txt; do same "out-bpe/step_00000004/$name" "$toy/$name"; done
same out-bpe/step_00000004/tokenizer_config.json data/bpe/tokenizer_config.json
sample bpe out-bpe --num_samples=1 --max_new_tokens=60 --prompt="it was <|endoftext|>über 东京"
[ "$(head -c 32 bpe)" = "it was <|endoftext|>über 东京" ] || fail "bpe: begins with $(head -c 32 bpe)"
cp -r out-bpe/step_00000004 hugging && rm hugging/meta.json hugging/MANIFEST.json
sample foreign hugging --num_samples=1 --max_new_tokens=60 --prompt="it was <|endoftext|>über 东京"
same bpe foreign
rm hugging/merges.txt
refuse 66 "vocab.json and merges.txt" hugging

# nanoGPT's own folder: its meta.pkl goes along, too.
for i in $(seq 100); do printf 'abba'; done >ab.txt
"$bin/gpt_prepare" ab.txt >/dev/null && rm data/ab/meta.json
python3 -c 'import pickle; pickle.dump({"vocab_size": 2, "itos": {0: "a", 1: "b"}, "stoi": {"a": 0, "b": 1}}, open("data/ab/meta.pkl", "wb"))'
"$bin/gpt_ddp" --dataset=ab --out_dir=out-ab --device=cpu --n_layer=1 --n_head=1 --n_embd=8 --block_size=8 --batch_size=2 \
    --gradient_accumulation_steps=1 --max_iters=1 --eval_interval=1 --eval_iters=1 >train.log 2>&1 ||
    fail "gpt_ddp on meta.pkl: $(tail -n 3 train.log)"
same out-ab/step_00000001/meta.pkl data/ab/meta.pkl
sample ab out-ab --num_samples=1 --max_new_tokens=20 --prompt=ba
grep -qx 'ba[ab]*' ab || fail "ab: $(cat ab)"

cp -r out/step_00000020 bare && rm bare/meta.json bare/MANIFEST.json
refuse 66 "meta.json" bare
cp -r out/step_00000020 other && rm other/MANIFEST.json
printf '{"format":"gpt_ddp.tokenizer","version":1,"kind":"byte","vocab_size":256}' >other/meta.json
refuse 65 "256" other
cp -r out/step_00000020 damaged
printf '\377' | dd of=damaged/model.safetensors bs=1 seek=3000 conv=notrunc 2>/dev/null
refuse 65 "model.safetensors" damaged

# Each thing it is built with is named once.
[ -z "$("$bin/gpt_sample" --version | sed 's/:.*//' | sort | uniq -d)" ] || fail "--version names something twice"

# A damaged newest checkpoint of an out_dir is named, and the one before it serves.
printf '\377' | dd of=out/step_00000020/model.safetensors bs=1 seek=3000 conv=notrunc 2>/dev/null
sample older out --num_samples=1 --max_new_tokens=5 --prompt=a
grep -q "step_00000020" older.err || fail "older: does not name the damaged one"
if [ -w /dev/full ]; then
    "$bin/gpt_sample" out/step_00000010 >/dev/full 2>full.err
    [ $? = 74 ] || fail "a full disk is not noticed: $(cat full.err)"
fi
exit $((failures > 0))
