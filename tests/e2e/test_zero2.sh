#!/usr/bin/env bash
# zero_stage 2, gradients shared out over ranks and reduced in every micro-step: the training of zero_stage 1 to
# rounding (50 losses to 1e-5, weights to 1e-4) on any number of ranks and in every form of reduction; it repeats bit for
# bit; checkpoints go on under another stage and on another number of ranks; on emulated GPUs over NCCL, too.
source "$(dirname "$0")/lib.sh"
prepare_data
many=(--micro_batch=1 --bias=true --max_iters=50 --checkpoint_interval=20) # 12 to 3 micro-steps a step and rank
few=(--device=cpu "${many[@]}" --max_iters=20)

close_to() { # OUT OUT: losses and weights
    "$tools/tool_compare_metrics" "$1/metrics.jsonl" "$2/metrics.jsonl" 1e-5 >diff || fail "$1 and $2: $(cat diff)"
    "$tools/tool_compare_weights" {"$1","$2"}/step_00000050/model.safetensors 1e-4 >diff || fail "$1 and $2: $(cat diff)"
}

# ---- the same training ----
must_train 1 one --device=cpu "${many[@]}"
must_train 1 alone "${few[@]}" --zero_stage=2
same_bits one alone 20
grep -q 'notice: zero_stage = 2 is zero_stage 1' alone.log || fail "one rank was not told"
for np in 2 3 4; do
    [ $np -le "$max_ranks" ] || continue
    must_train $np "shared_$np" --device=cpu "${many[@]}" --zero_stage=2
    close_to "shared_$np" one
done
grep -q 'zero_stage 2: .* of gradients per rank instead of .*; each of 6 micro-steps sends ' shared_2.log ||
    fail "what sharing costs was not said: $(grep zero_stage shared_2.log)"
must_train 2 all "${few[@]}" --zero_stage=2 --grad_reduce=all_reduce
same_bits shared_2 all 20
must_train 2 again "${few[@]}" --zero_stage=2
same_bits shared_2 again 20
must_train 2 auto "${few[@]}" --zero_stage=auto # where all fits: no reduction but the last
must_train 2 last "${few[@]}"
same_bits auto last 20
must_train 2 half "${few[@]}" --zero_stage=2 --comm_dtype=bfloat16
"$tools/tool_compare_metrics" half/metrics.jsonl alone/metrics.jsonl 1e-2 >diff || fail "bfloat16 on the way: $(cat diff)"

# ---- checkpoints do not know stages ----
if [ "$max_ranks" -ge 3 ]; then
    hops=(--device=cpu --micro_batch=1 --bias=true --init_from=auto)
    must_train 2 hops "${hops[@]}" --max_iters=15 --zero_stage=2
    must_train 3 hops "${hops[@]}" --max_iters=25 --zero_stage=1
    must_train 1 hops "${hops[@]}" --max_iters=40
    must_train 3 hops "${hops[@]}" --max_iters=50 --zero_stage=2
    close_to hops one
fi
must_train 2 parts "${few[@]}" --zero_stage=2 --max_iters=10
must_train 2 parts "${few[@]}" --zero_stage=2 --init_from=resume
same_bits shared_2 parts 20

# ---- on GPUs, whose work goes on behind the host's back ----
is_emulated || finish
gpu=(--device=cuda --n_layer=2 --n_head=2 --n_embd=64 --block_size=8 --micro_batch=2 --max_iters=4 --eval_iters=1
    --eval_interval=4 --bias=true)
must_train 1 gpu_one "${gpu[@]}" --dtype=float32
for way in nccl mpi; do
    must_train 2 gpu_$way "${gpu[@]}" --dtype=float32 --comm=$way --zero_stage=2
    "$tools/tool_compare_metrics" gpu_$way/metrics.jsonl gpu_one/metrics.jsonl 1e-5 >diff || fail "gpu_$way: $(cat diff)"
done
same_bits gpu_nccl gpu_mpi 4
for order in early alternate; do
    GPT_EMU_STREAMS=$order must_train 2 gpu_$order "${gpu[@]}" --dtype=float32 --zero_stage=2
    same_bits gpu_$order gpu_nccl 4
done
must_train 2 gpu_offload "${gpu[@]}" --dtype=float32 --zero_stage=2 --offload=optimizer
same_bits gpu_offload gpu_nccl 4
for dtype in bfloat16 float16; do
    must_train 2 $dtype "${gpu[@]}" --dtype=$dtype --zero_stage=2 --comm_dtype=bfloat16
    "$tools/tool_compare_metrics" $dtype/metrics.jsonl gpu_one/metrics.jsonl 2e-2 >diff || fail "$dtype: $(cat diff)"
done
finish
