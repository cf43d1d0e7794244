#!/usr/bin/env bash
# Make tests/fuzz/corpus from what our own programs write (and one header of llm.c's by hand).
#
#     GPT_BIN=folder/of/programs tests/fuzz/make_corpus.sh
set -euo pipefail
bin=$(cd "${GPT_BIN:-.}" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMP_NUM_THREADS=1

corpus=$here/corpus
rm -rf "$corpus"
mkdir -p "$corpus"/{config,shards,meta,bpe,safetensors,record,hf_config,manifest}

for ((i = 0; i < 200; i++)); do echo ab; done >text.txt
"$bin/gpt_prepare" --kind=char --out=chars text.txt >/dev/null
"$bin/gpt_prepare" --kind=byte --out=bytes text.txt >/dev/null
for bias in true false; do
    "$bin/gpt_ddp" --device=cpu --dataset=./chars --out_dir="out_$bias" --n_layer=1 --n_head=1 --n_embd=2 \
        --block_size=2 --batch_size=1 --gradient_accumulation_steps=1 --max_iters=1 --eval_interval=1 \
        --eval_iters=1 --bias=$bias >run.log 2>&1 || { cat run.log; exit 1; }
    step=out_$bias/step_00000001
    cp "$step/model.safetensors" "$corpus/safetensors/model_$bias"
    cp "$step/trainer.json" "$corpus/record/$bias"
    cp "$step/config.json" "$corpus/hf_config/$bias"
    cp "$step/MANIFEST.json" "$corpus/manifest/$bias"
done
cp out_true/step_00000001/optimizer.safetensors "$corpus/safetensors/optimizer"
cp chars/meta.json "$corpus/meta/char"
cp bytes/meta.json "$corpus/meta/byte"
{
    cat "$here/../golden/bpe/vocab.json"
    printf '\0'
    cat "$here/../golden/bpe/merges.txt"
} >"$corpus/bpe/both"
printf '#version: 0.2\na a\na b\naa a\naa b\naaa a\nab ab\n\xc4\xa0 a\n' >"$corpus/bpe/merges"
"$bin/gpt_ddp" --print-config >"$corpus/config/printed"
printf "; quotes, comments\n[run]\nout_dir = 'a #b' # c\n[model]\r\nn_layer=3\nbias = off\n" >"$corpus/config/quotes"
head -c 64 chars/val.bin >"$corpus/shards/nanogpt"
{
    printf '\x88\xd8\x34\x01\x01\x00\x00\x00\x20\x00\x00\x00'
    head -c 1012 /dev/zero
    head -c 64 chars/val.bin
} >"$corpus/shards/llmc"
