#!/usr/bin/env bash
# gpt_sample: texts from a checkpoint, and one clear line and the right exit code when something is wrong.
set -uo pipefail
bin=$GPT_BIN toy=$GPT_SOURCE/tests/golden/bpe failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

for i in $(seq 200); do echo "line $i: the cat sat on the mat, and the mat was flat."; done >text.txt
"$bin/gpt_prepare" text.txt --out=data/cat >/dev/null || fail "gpt_prepare"
"$bin/gpt_ddp" --dataset=cat --out_dir=out --device=cpu --n_layer=2 --n_head=2 --n_embd=16 --block_size=16 \
    --batch_size=4 --gradient_accumulation_steps=1 --max_iters=20 --eval_interval=10 --eval_iters=1 \
    --warmup_iters=2 >train.log 2>&1 || fail "gpt_ddp: $(tail -n 3 train.log)"

# sample NAME ARGS...: run gpt_sample on the CPU into the file NAME
sample() { local name=$1; shift; "$bin/gpt_sample" --device=cpu "$@" >"$name" 2>"$name.err" || fail "$name: $(cat "$name.err")"; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
differ() { ! cmp -s "$1" "$2" || fail "$1 and $2 are the same"; }
short="--num_samples=2 --max_new_tokens=20" # past block_size: the window moves

# shellcheck disable=SC2086
{
    sample first out $short --prompt="the cat"
    sample again out $short --prompt="the cat"
    sample threads out $short --prompt="the cat" --threads=2
    sample newest out/step_00000020 $short --prompt="the cat"
    sample seed out $short --prompt="the cat" --seed=1
    printf 'the cat' >prompt.txt
    sample file out $short --prompt=FILE:prompt.txt
    sample stdin out $short --prompt=- <prompt.txt
    sample whole out $short --prompt="the cat" --no_cache
    sample defaults out $short --prompt="the cat" --dtype=float32 --top_p=1 --stop_at_eot=true
    sample top_p out $short --prompt="the cat" --temperature=3 --top_p=0.3
    sample wide out $short --prompt="the cat" --temperature=3
    sample default out $short
    sample greedy out $short --prompt="the cat" --temperature=0
}
same first again
same first threads
same first newest
same first file
same first stdin
same first whole # with and without kept keys
same first defaults
differ first seed
differ wide top_p
grep -qE '^gpt_sample: 40 tokens in [0-9.]+ s, [0-9.]+ tokens/s \(cpu, float32\)$' first.err ||
    fail "first: $(cat first.err)"
[ "$(grep -c '^---------------$' first)" = 2 ] || fail "first: not two samples"
[ "$(head -c 7 first)" = "the cat" ] || fail "first: does not begin with the prompt"
[ "$(head -c 1 default | od -An -tx1 | tr -d ' ')" = 0a ] || fail "default: does not begin with a newline"
[ "$(wc -c <first)" = $((2 * (7 + 20 + 17))) ] || fail "first: $(wc -c <first) bytes"
[ "$(head -c 27 greedy)" = "$(tail -c 44 greedy | head -c 27)" ] || fail "greedy: samples differ"

# A GPU writes what the CPU does, where there is one, and says so where there is none.
"$bin/gpt_sample" out --num_samples=2 --max_new_tokens=20 --prompt="the cat" --temperature=0 --device=cuda --dtype=float32 >cuda 2>cuda.err
case $? in
0)
    same cuda greedy
    grep -q '(cuda, float32)$' cuda.err || fail "cuda: $(cat cuda.err)"
    ;;
71) grep -q '^gpt_sample: no cuda device: ' cuda.err || fail "cuda: $(cat cuda.err)" ;;
*) fail "cuda: $(cat cuda.err)" ;;
esac

# A prompt longer than the context: said, and only its end counts.
{ seq 50; printf 'the mat was flat'; } >long.txt
printf 'the mat was flat' >end.txt
sample long out --num_samples=1 --max_new_tokens=10 --prompt=FILE:long.txt
sample end out --num_samples=1 --max_new_tokens=10 --prompt=FILE:end.txt
[ "$(tail -c +$(($(wc -c <long.txt) + 1)) long)" = "$(tail -c +17 end)" ] || fail "long: $(cat long)"
grep -q 'the prompt has 157 tokens; the model sees the last 16 of them' long.err || fail "long: $(cat long.err)"
grep -q 'the prompt' end.err && fail "end: $(cat end.err)"

# ---- characters of several tokens -----------------------------------------------------------------
yes 'é東🙂' | head -n 400 >wide.txt
train() { # OUT DATASET ARGS...
    "$bin/gpt_ddp" --dataset="$2" --out_dir="$1" --device=cpu --n_layer=1 --n_head=2 --n_embd=32 --block_size=24 \
        --batch_size=8 --gradient_accumulation_steps=1 --learning_rate=1e-2 --warmup_iters=2 --eval_iters=1 \
        --max_iters="$3" --lr_decay_iters="$3" --eval_interval=100 >"$1.log" 2>&1 || fail "gpt_ddp: $(tail -n 3 "$1.log")"
}
"$bin/gpt_prepare" --kind=byte wide.txt --out=data/wide >/dev/null && train out-wide wide 40
# write_pieces FILE COMMAND...: its output into FILE, each write() checked to be of whole characters
write_pieces() {
    python3 -c '
import os, subprocess, sys
end, begin = os.pipe2(os.O_DIRECT)  # a read gives what one write put there
pieces = []
with subprocess.Popen(sys.argv[2:], stdout=begin):
    os.close(begin)
    while piece := os.read(end, 1 << 16):
        pieces.append(piece)
open(sys.argv[1], "wb").write(b"".join(pieces))
for piece in pieces:
    piece.decode()' "$@"
}
write_pieces wide "$bin/gpt_sample" out-wide --device=cpu --num_samples=2 --max_new_tokens=20 --prompt='é東' --temperature=0.01 2>wide.err ||
    fail "a piece of a character was written: $(cat wide.err)"
grep -q '^é東🙂$' wide || fail "wide: $(cat wide)"
# Without a character that is whole, what there is of it comes at the end.
sample cut out-wide --num_samples=1 --max_new_tokens=2 --prompt='é' --temperature=0.01
[ "$(head -c 4 cut | od -An -tx1)" = " c3 a9 e6 9d" ] || fail "cut: $(od -An -tx1 cut)"

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
refuse 64 "unknown argument two: one directory is taken, here out" out two
refuse 64 "unknown argument --start: it is --prompt=TEXT here" out --start=x
refuse 64 "unknown argument --out_dir: the folder stands alone: gpt_sample DIR" --out-dir=out
refuse 64 "unknown argument --init_from: the folder stands alone" --init_from=gpt2 --prompt=x
refuse 64 "--temperature" out --temperature=-1
refuse 64 "--temperature" out --temperature=nan
refuse 64 "--top_k" out --top_k=-1
refuse 64 "--top_p" out --top_p=0
refuse 64 "--top_p" out --top_p=1.5
refuse 64 "--num_samples" out --num_samples=0
refuse 64 "auto, cuda or cpu" out --device=gpu
refuse 64 "float32 only" out --device=cpu --dtype=bfloat16
refuse 64 "false or true" out --stop_at_eot=maybe
refuse 64 "--prompt" out --prompt=
refuse 64 "--prompt" out --prompt=- </dev/null
refuse 66 "--tokenizer" out --tokenizer=nowhere
refuse 65 "457" out --tokenizer="$toy"
refuse 65 "@" out --prompt=@
refuse 66 "nowhere" nowhere
refuse 66 "data" data
refuse 66 "missing.txt" out --prompt=FILE:missing.txt

# A vocabulary of BPE goes along with the checkpoint, and text comes out in whole characters.
"$bin/gpt_prepare" --tokenizer="$toy" --split=tail --out=data/bpe text.txt >/dev/null || fail "gpt_prepare --tokenizer"
"$bin/gpt_ddp" --dataset=bpe --out_dir=out-bpe --device=cpu --n_layer=1 --n_head=2 --n_embd=16 --block_size=16 --batch_size=4 \
    --gradient_accumulation_steps=1 --max_iters=4 --eval_interval=4 --eval_iters=1 --warmup_iters=2 >train.log 2>&1 ||
    fail "gpt_ddp on BPE: $(tail -n 3 train.log)"
grep -q '457' out-bpe/step_00000004/config.json || fail "BPE: the vocabulary is not of 457 tokens"
for name in vocab.json merges.txt; do same "out-bpe/step_00000004/$name" "$toy/$name"; done
same out-bpe/step_00000004/tokenizer_config.json data/bpe/tokenizer_config.json
sample bpe out-bpe --num_samples=1 --max_new_tokens=20 --prompt="it was <|endoftext|>über 东京"
[ "$(head -c 32 bpe)" = "it was <|endoftext|>über 东京" ] || fail "bpe: begins with $(head -c 32 bpe)"
cp -r out-bpe/step_00000004 hugging && rm hugging/meta.json hugging/MANIFEST.json
sample foreign hugging --num_samples=1 --max_new_tokens=20 --prompt="it was <|endoftext|>über 东京"
same bpe foreign
rm hugging/merges.txt
refuse 66 "vocab.json and merges.txt" hugging
mkdir openai && cp "$toy/vocab.json" openai/encoder.json && cp "$toy/merges.txt" openai/vocab.bpe
sample elsewhere hugging --num_samples=1 --max_new_tokens=20 --prompt="it was <|endoftext|>über 东京" --tokenizer=openai
same bpe elsewhere

# A text ends where the model says so.
for i in $(seq 300); do echo "{\"text\": \"it was the best of times $((i % 40))\"}"; done >times.jsonl
"$bin/gpt_prepare" --tokenizer="$toy" --val_fraction=0.3 --out=data/times times.jsonl >/dev/null && train out-times times 70
sample stops out-times --num_samples=2 --max_new_tokens=100 --prompt='<|endoftext|>it was' --temperature=0.01
grep -v -e '^---' stops | grep -qvE '^<\|endoftext\|>it was the best of times [0-9]+$' && fail "stops: $(cat stops)"
[ "$(wc -l <stops)" = 4 ] || fail "stops: $(cat stops)"
sample goes_on out-times --num_samples=1 --max_new_tokens=30 --prompt='it was' --temperature=0.01 --stop_at_eot=false
grep -qE 'times [0-9]+<\|endoftext\|>it was' goes_on || fail "goes_on: $(cat goes_on)"

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
: >bare/tokenizer.json
refuse 66 "(its tokenizer.json is not read)" bare
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
