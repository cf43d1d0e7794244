#!/usr/bin/env bash
# Hugging Face in and out: models that transformers saved (one file or several, float32 or half, positions cut) have the
# same loss here and go on training; their checkpoints open with transformers without a word about tensors, and have the
# same loss there. And the same model writes the same text by the likeliest token. A checkpoint with its vocabulary loads
# by its path alone, as in lm-evaluation-harness: the same ids, the same scores.
#
#     GPT_PYTHON   a python3 with torch, transformers and safetensors (default python3; skipped without them)
source "$(dirname "$0")/lib.sh"
python=${GPT_PYTHON:-python3}
"$python" -c 'import importlib.util as u; [u.find_spec(m).name for m in ("torch", "transformers", "safetensors")]' 2>/dev/null || {
    echo "skipped: no torch, transformers and safetensors for $python (GPT_PYTHON names another)"
    exit 0
}
export HF_HUB_OFFLINE=1
models=(single shards half float16 cropped)

hugging_face() { "$python" "$GPT_SOURCE/tests/e2e/hugging_face.py" "$@" 2>hf.err || { cat hf.err; fail "hugging_face.py $1"; }; }

run() { # OUT ARGS...: its console in OUT.log
    local out=$1
    shift
    "$bin/gpt_ddp" --device=cpu --batch_size=2 --gradient_accumulation_steps=1 --eval_iters=1 --warmup_iters=0 \
        --learning_rate=1e-3 --decay_lr=false --out_dir="$out" "$@" >"$out.log" 2>"$out.err" ||
        fail "rc $? of $out $*: $(cat "$out.err")"
}

last_val() { sed -n 's/.*val loss \([0-9.]*\).*/\1/p' "$1.log" | tail -1; }
loss_of() { awk -v name="$1" '$1 == name { print $2 }' losses; } # as transformers computes it

close() { # WHAT A B
    awk -v a="$2" -v b="$3" 'BEGIN { exit !(a > 0 && b > 0 && (a - b) ^ 2 <= 1e-8) }' || fail "$1: $2 here, $3 there"
}

hugging_face make >losses
[ -e shards/model.safetensors.index.json ] && [ -e float16/model.safetensors.index.json ] || fail "nothing was split"
back=()
for name in "${models[@]}"; do
    cut=()
    [ "$name" = cropped ] && cut=(--block_size=10)
    run "$name-eval" --init_from="$name" --dataset="$name" --eval_only=true "${cut[@]}"
    run "$name-out" --init_from="$name" --dataset="$name" --max_iters=3 --eval_interval=3 "${cut[@]}"
    close "$name loads" "$(last_val "$name-eval")" "$(loss_of "$name")"
    back+=("$name-out/step_00000003" "data/$name/val.bin")
done
hugging_face look "${back[@]}" >>losses
for name in "${models[@]}"; do
    close "$name goes back" "$(last_val "$name-out")" "$(loss_of "$name-out/step_00000003")"
    [ "$(last_val "$name-out")" != "$(last_val "$name-eval")" ] || fail "$name has learned nothing"
done

run old-eval --init_from=old --dataset=single --eval_only=true
[ "$(last_val old-eval)" = "$(last_val single-eval)" ] || fail "an old file: $(last_val old-eval)"

# A checkpoint with its vocabulary, loaded by nothing but its path, as evaluation harnesses do.
for i in $(seq 150); do echo "it was the best of times $((i % 7)), über 东京 🙂, and the cat sat on the  mat."; done >times.txt
for i in $(seq 8); do
    echo "{\"context\": \"it was the best of times $i, über 东京 🙂, and the\", \"continuation\": \"cat\"}"
    echo "{\"context\": \"the cat sat on the mat, it was the worst and the best of $i\", \"continuation\": \"worst times\"}"
done >questions.jsonl
"$bin/gpt_prepare" --tokenizer="$GPT_SOURCE/tests/golden/bpe" --split=tail --out=data/times times.txt >times.log 2>&1 || fail "$(cat times.log)"
run times-out --dataset=times --n_layer=2 --n_head=2 --n_embd=32 --block_size=48 --max_iters=150 --eval_interval=150 --learning_rate=1e-2
step=times-out/step_00000150
"$bin/gpt_eval" $step --device=cpu --lambada=questions.jsonl --items=items.jsonl >times.log 2>&1 || fail "$(cat times.log)"
hugging_face path $step times.txt data/times questions.jsonl items.jsonl

hugging_face write writer "$GPT_SOURCE/tests/golden/bpe"
for wanted in writer/WANTED*.txt; do
    "$bin/gpt_sample" writer --prompt="FILE:${wanted/WANTED/PROMPT}" --temperature=0 --max_new_tokens=40 --num_samples=1 --stop_at_eot=false \
        --device=cpu >text 2>text.err || fail "gpt_sample: $(cat text.err)"
    cmp "$wanted" text || fail "$wanted is another text here"
done

mkdir data/zeros
head -c 400 /dev/zero | tee data/zeros/train.bin >data/zeros/val.bin
"$bin/gpt_ddp" --device=cpu --init_from=single --dataset=zeros --block_size=25 --out_dir=long >long.log 2>&1
[ $? = 65 ] && grep -q 'block_size is 24 in the checkpoint, 25 in this run' long.log || fail "block_size 25: $(cat long.log)"
finish
