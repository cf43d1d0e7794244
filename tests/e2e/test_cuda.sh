#!/usr/bin/env bash
# Training on emulated GPUs: it is the CPU's training (float32 1e-5, 16 bits 1e-2) in every dtype and on 1, 2, 3 and 4
# ranks; it repeats and resumes bit for bit; many small micro-batches add up to one large one. Which GPU a run takes is
# test_machine.sh's, what NCCL does test_nccl.sh's.
source "$(dirname "$0")/lib.sh"
is_emulated || { echo "skipped: this build has no emulated GPUs" && exit 77; }
prepare_data 300
export OMPI_MCA_odls_base_sigkill_timeout=0 # else mpirun waits a second after each refusal
# 12 sequences of 32 tokens a step: any number of ranks up to 4. Attention of heads of 32 has tensor cores.
tiny=(--dataset=text --n_layer=2 --n_head=2 --n_embd=64 --block_size=32 --vocab_size=65 --bias=true --bucket_mb=1
    --batch_size=4 --gradient_accumulation_steps=3 --learning_rate=1e-3 --warmup_iters=5 --lr_decay_iters=20 --eps=1e-6
    --eval_iters=2 --eval_interval=1000 --log_interval=10)

# close_losses A B TOLERANCE: of two runs, all lines. close_file A B TOLERANCE: tensors of two files.
close_losses() {
    "$tools/tool_compare_metrics" "$1/metrics.jsonl" "$2/metrics.jsonl" "$3" >diff || fail "$1 and $2: $(cat diff)"
}
close_steps() { # A B TOLERANCE: the first 6 steps only
    local run
    for run in "$1" "$2"; do
        grep '"loss":' "$run/metrics.jsonl" | head -n 6 >"$run/steps.jsonl"
    done
    "$tools/tool_compare_metrics" "$1/steps.jsonl" "$2/steps.jsonl" "$3" >diff || fail "$1 and $2: $(cat diff)"
}
close_file() {
    "$tools/tool_compare_weights" "$1" "$2" "$3" >diff || fail "$1 and $2: $(cat diff)"
}

# ---- the CPU's training, on any number of ranks, in any dtype ----
# Each number of ranks has its own way to share and to reduce. At two ranks a batch goes up in six parts.
share=([2]="--micro_batch=1 --comm=mpi" [3]="--zero_stage=0" [4]="--grad_reduce=all_reduce")
must_train 1 cpu --device=cpu --max_iters=20
for dtype in float32 bfloat16 float16; do
    tolerance=1e-2
    [ $dtype = float32 ] && tolerance=1e-5
    must_train 1 ${dtype}_1 --device=cuda --dtype=$dtype --max_iters=20
    grep -q "cuda (CUDA on the CPU.*), $dtype" ${dtype}_1.log || fail "$dtype: not said: $(grep cuda ${dtype}_1.log)"
    close_losses ${dtype}_1 cpu $tolerance
    for np in 2 3 4; do
        [ $np -le "$max_ranks" ] || continue
        # shellcheck disable=SC2086 # words
        must_train $np ${dtype}_$np --device=cuda --dtype=$dtype --max_iters=6 ${share[$np]}
        close_steps ${dtype}_$np ${dtype}_1 $tolerance
    done
done
grep -q 'float16: the loss is scaled by 65536' float16_1.log || fail "no loss scale was announced"

# ---- the same bits again, with a stop half way ----
again() { # DTYPE NP
    local run=(--device=cuda --dtype="$1") out=again_$1 whole=${1}_$2 record=step_00000006/trainer.json
    # shellcheck disable=SC2206 # words
    run+=(${share[$2]})
    must_train "$2" "$out" "${run[@]}" --max_iters=3
    must_train "$2" "$out" "${run[@]}" --max_iters=6 --init_from=resume
    same_bits "$out" "$whole" 6
    # What float16 goes on with: the scale, and for how long it has been good.
    cmp -s <(grep loss_scale "$out/$record") <(grep loss_scale "$whole/$record") ||
        fail "$out: the loss scale is not what it would have been: $(grep loss_scale "$out/$record")"
    cmp -s "$out"/step_0000000{3,6}/tuning.txt || fail "$out: the algorithms were not those of the checkpoint"
}
if [ "$max_ranks" -ge 3 ]; then
    again bfloat16 2
    again float16 3
fi
grep -q '"loss_scale_good_steps": 20' float16_1/step_00000020/trainer.json || fail "20 good steps were not counted"

# ---- accumulation: after one update exp_avg is a tenth of the gradient, bias gradients and all ----
one=(--device=cuda --batch_size=32 --gradient_accumulation_steps=1 --max_iters=1 --grad_clip=0 --eval_iters=1)
for dtype in float32 bfloat16; do
    tolerance=1e-2
    [ $dtype = float32 ] && tolerance=1e-5
    must_train 1 ${dtype}_whole "${one[@]}" --dtype=$dtype --micro_batch=32
    for micro in 4 1; do
        must_train 1 ${dtype}_by_$micro "${one[@]}" --dtype=$dtype --micro_batch=$micro
        close_file {${dtype}_by_$micro,${dtype}_whole}/step_00000001/optimizer.safetensors $tolerance
    done
done
must_train 1 cpu_whole "${one[@]}" --device=cpu --micro_batch=32
close_file {float32_whole,cpu_whole}/step_00000001/optimizer.safetensors 1e-5
close_file {bfloat16_whole,cpu_whole}/step_00000001/optimizer.safetensors 5e-2

# ---- weights of a directory keep all their bits, whatever the dtype they are used in ----
must_train 1 from_weights --device=cuda --dtype=bfloat16 --init_from=cpu/step_00000020 --max_iters=1 --learning_rate=0 \
    --min_lr=0 --warmup_iters=0
cmp -s {from_weights/step_00000001,cpu/step_00000020}/model.safetensors || fail "masters were rounded"

# ---- what cannot be ----
refused() { # CODE PATTERN ARGS...
    local code=$1 pattern=$2 rc
    shift 2
    train 1 refused --device=cuda "$@"
    rc=$?
    [ $rc = "$code" ] && grep -Eq -- "$pattern" refused.err || fail "$*: rc $rc, wanted $code: $(cat refused.err)"
    [ ! -e refused ] || fail "$*: wrote to out_dir"
}
refused 64 'n_embd / n_head = 320: on a GPU a head has at most 256 channels' --n_embd=320 --n_head=1
refused 65 'block_size is 32 in the checkpoint, 64 in this run' --init_from=cpu/step_00000020 --block_size=64
finish
