#!/usr/bin/env bash
# AdamW's state in other forms, on emulated GPUs: master weights in halves and state in host memory give the losses and
# files of float32 masters on the device, on one rank and on two, however the ranks share; a run changes its form when it
# resumes; and a host without the memory refuses with numbers before anything starts.
source "$(dirname "$0")/lib.sh"
is_emulated || { echo "skipped: this build has no emulated GPUs" && exit 77; }
prepare_data 300
export OMPI_MCA_odls_base_sigkill_timeout=0 # else mpirun waits a second after each refusal
small=(--device=cuda --dtype=bfloat16 --n_layer=1 --n_head=1 --n_embd=32 --vocab_size=65 --batch_size=2
    --gradient_accumulation_steps=2 --eval_iters=1)

# same_training A B STEP: the same losses and files.
same_training() {
    "$tools/tool_compare_metrics" "$1/metrics.jsonl" "$2/metrics.jsonl" 0 >diff || fail "$1 and $2: $(cat diff)"
    same_bits "$1" "$2" "$3"
}

# ---- one rank ----
must_train 1 plain "${small[@]}" --max_iters=20 --master=float32
must_train 1 halves "${small[@]}" --max_iters=20 --master=remainder16
must_train 1 host "${small[@]}" --max_iters=20 --offload=optimizer
same_training halves plain 20
same_training host plain 20
grep -q 'AdamW state: .*, in host memory$' host.log || fail "it does not say where the state is: $(grep AdamW host.log)"

# ---- two ranks, with every way to share ----
if [ "$max_ranks" -ge 2 ]; then
    for stage in 0 1 2; do
        must_train 2 plain_$stage "${small[@]}" --max_iters=20 --zero_stage=$stage --master=float32
        must_train 2 host_$stage "${small[@]}" --max_iters=10 --zero_stage=$stage --offload=optimizer
        must_train 2 host_$stage "${small[@]}" --max_iters=20 --zero_stage=$stage --offload=optimizer --init_from=resume
        same_training host_$stage plain_$stage 20
    done
    # Half way from the host's halves to float32 on the device, and the other way round.
    must_train 2 there "${small[@]}" --max_iters=10 --offload=optimizer
    must_train 2 there "${small[@]}" --max_iters=20 --master=float32 --init_from=resume
    must_train 2 back "${small[@]}" --max_iters=10 --master=float32
    must_train 2 back "${small[@]}" --max_iters=20 --offload=optimizer --init_from=resume
    same_training there plain_1 20
    same_training back plain_1 20
fi

# ---- what cannot be ----
refused() { # PATTERN ARGS...
    local pattern=$1 rc
    shift
    train 1 refused "$@"
    rc=$?
    [ $rc = 64 ] && grep -Eq -- "$pattern" refused.err || fail "$*: rc $rc, wanted 64: $(cat refused.err)"
    [ ! -e refused ] || fail "$*: wrote to out_dir"
}
refused 'offload = optimizer with device = cpu: its state is in host memory already' --device=cpu --offload=optimizer
refused 'master = remainder16 with dtype = float16' --device=cuda --dtype=float16 --master=remainder16
# 50 billion parameters: room enough on this GPU, not on this host.
GPT_EMU_MEMORY=$((1 << 42)) refused 'the run needs .* of host memory per rank, .* for the 1 rank of a host, .* can be had' \
    --device=cuda --dtype=bfloat16 --n_layer=4 --n_embd=32768 --n_head=128 --micro_batch=1 --recompute=block --offload=optimizer
finish
