#!/usr/bin/env bash
# What must not matter, and what must give the same bits: how a step is cut into micro-batches, how nanoGPT's two batch
# settings share the product, whether one rank uses MPI, and running it again.
source "$(dirname "$0")/lib.sh"
tiny+=(--device=cpu)
prepare_data
steps=(--max_iters=30 --dropout=0.1 --bias=true)

# 8 x 1 = 4 x 2 = 1 x 8: the same sequences, another order of summing. An evaluation takes eval_iters x batch_size.
must_train 1 acc_8x1 "${steps[@]}" --gradient_accumulation_steps=8 --batch_size=1 --micro_batch=1 --eval_iters=8
must_train 1 acc_4x2 "${steps[@]}" --gradient_accumulation_steps=4 --batch_size=2 --micro_batch=2 --eval_iters=4
must_train 2 acc_1x8 "${steps[@]}" --gradient_accumulation_steps=1 --batch_size=8 --micro_batch=4 --eval_iters=1
for out in acc_8x1 acc_4x2; do
    "$tools/tool_compare_metrics" $out/metrics.jsonl acc_1x8/metrics.jsonl 1e-5 >diff || fail "$out: $(cat diff)"
    "$tools/tool_compare_weights" {$out,acc_1x8}/step_00000030/model.safetensors 1e-4 >diff ||
        fail "$out: $(cat diff)"
done

# One step of 64 sequences, cut in four ways: the first gradient's norm to 1e-5, 20 losses to 1e-4.
first_norm() { sed -n 's/.*"grad_norm":\([^,]*\),.*/\1/p' "$1/metrics.jsonl" | head -n 1; }
cuts=(64 32 16 1)
[ "$max_ranks" -ge 4 ] || cuts=(64 16) # slow builds
for micro in "${cuts[@]}"; do
    must_train 1 cut_$micro --batch_size=64 --gradient_accumulation_steps=1 --micro_batch=$micro --max_iters=20 \
        --eval_iters=1 --log_interval=1
    "$tools/tool_compare_metrics" cut_$micro/metrics.jsonl cut_64/metrics.jsonl 1e-4 >diff || fail "cut_$micro: $(cat diff)"
    awk -v a="$(first_norm cut_$micro)" -v b="$(first_norm cut_64)" \
        'BEGIN { d = a / b - 1; exit !(a > 0 && d < 1e-5 && d > -1e-5) }' ||
        fail "64 in parts of $micro: norm $(first_norm cut_$micro), of one part $(first_norm cut_64)"
done

# With the same micro_batch the two settings are one and the same.
must_train 1 product_8x1 "${steps[@]}" --gradient_accumulation_steps=8 --batch_size=1 --micro_batch=2 --eval_iters=8
must_train 1 product_2x4 "${steps[@]}" --gradient_accumulation_steps=2 --batch_size=4 --micro_batch=2 --eval_iters=2
same_bits product_8x1 product_2x4 30

# Recomputing gives the bits that keeping gives.
must_train 1 keep "${steps[@]}" --recompute=none
levels=(gelu_ln ffn qkv block)
[ "$max_ranks" -ge 4 ] || levels=(block) # what it does includes the others
for level in "${levels[@]}"; do
    must_train 1 "recompute_$level" "${steps[@]}" --recompute=$level
    same_bits keep "recompute_$level" 30
done

# Again, and again: one rank, two ranks, two threads.
must_train 1 again "${steps[@]}"
same_bits keep again 30
must_train 2 two_a "${steps[@]}"
must_train 2 two_b "${steps[@]}"
same_bits two_a two_b 30
OMP_NUM_THREADS=2 must_train 1 threads_a "${steps[@]}"
OMP_NUM_THREADS=2 must_train 1 threads_b "${steps[@]}"
same_bits threads_a threads_b 30

# A launcher for one process changes nothing.
mpirun -np 1 "$bin/gpt_ddp" "${tiny[@]}" "${steps[@]}" --out_dir=launched >launched.log 2>launched.err ||
    fail "mpirun -np 1: $(cat launched.err)"
same_bits keep launched 30

# Another seed is another run.
must_train 1 other "${steps[@]}" --seed=1
cmp -s {keep,other}/step_00000030/model.safetensors && fail "seed 1 and seed 1337 gave the same weights"
finish
