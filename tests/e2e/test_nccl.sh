#!/usr/bin/env bash
# Training over NCCL, on emulated GPUs: it is MPI's training, in every form of reduction; all ranks hold the same
# parameters to the bit; and when NCCL fails, all ranks end with one line.
source "$(dirname "$0")/lib.sh"
"$bin/gpt_ddp" --version | grep -q '^NCCL: 2' || { echo "skipped: no NCCL" && exit 77; }
[ "$(GPT_EMU_DEVICES=-1 "$bin/gpt_ddp" --version)" = "$(GPT_EMU_DEVICES=1 "$bin/gpt_ddp" --version)" ] &&
    echo "skipped: this build has no emulated GPUs" && exit 77
prepare_data 300
export OMPI_MCA_odls_base_sigkill_timeout=0 # else mpirun waits a second after each refusal
small=(--n_layer=1 --n_head=1 --n_embd=32 --batch_size=1 --gradient_accumulation_steps=4 --max_iters=4 --eval_iters=1
    --device=cuda --dtype=float32 --eval_interval=2 --checkpoint_interval=4)

same_weights() { cmp -s "$1/step_00000004/model.safetensors" "$2/step_00000004/model.safetensors"; }
close_losses() { # OUT OUT TOLERANCE
    "$tools/tool_compare_metrics" "$1/metrics.jsonl" "$2/metrics.jsonl" "$3" >/dev/null || fail "$1 and $2 differ by more than $3"
}

# ---- the same training ----
must_train 2 mpi "${small[@]}" --comm=mpi
must_train 2 nccl "${small[@]}" --comm=nccl
must_train 2 auto "${small[@]}"
must_train 2 all "${small[@]}" --zero_stage=0
must_train 2 half "${small[@]}" --comm_dtype=bfloat16
must_train 1 one "${small[@]}" --comm=nccl
for out in mpi auto all; do
    same_weights nccl $out || fail "nccl and $out: sums of two ranks have one order, but the weights differ"
done
same_weights nccl half && fail "comm_dtype = bfloat16 rounds nothing"
close_losses nccl half 1e-3
close_losses nccl one 1e-5

# Streams of the fake GPU run as late or as early as events allow, or mixed.
for order in early alternate; do
    GPT_EMU_STREAMS=$order must_train 2 $order "${small[@]}"
    same_weights nccl $order || fail "the order of streams ($order) changes the weights"
done

# ---- failures: one line, 71 ----
# refused PATTERN ENV... -- ARGS...: mpirun with two ranks; every rank ends so.
refused() {
    local pattern=$1 env=()
    shift
    while [ "$1" != -- ]; do
        env+=("$1")
        shift
    done
    shift
    env "${env[@]}" timeout 100 mpirun --oversubscribe -np 2 "$bin/gpt_ddp" "${tiny[@]}" "${small[@]}" --out_dir=bad \
        "$@" >out 2>err
    local rc=$?
    [ $rc = 71 ] && [ "$(grep -c '^gpt_ddp: ' err)" = 1 ] && grep -q "^gpt_ddp: $pattern" err && return
    fail "rc $rc, wanted 71 and \"$pattern\": $(cat out err)"
}

# Whichever rank gives up first tells the other.
refused '.*NCCL did not start .*ncclCommInitRankConfig: not done after 5 s' GPT_FAKE_NCCL_INIT=never -- --init_timeout=5s
refused 'NCCL gives wrong sums' GPT_FAKE_NCCL_WRONG_AT=1 --
refused '.*NCCL gives wrong sums' GPT_FAKE_NCCL_WRONG_SEND=1 -- --comm_dtype=bfloat16
# In a step, and in the evaluation after two of them; also where a copy to the host waits without looking at NCCL.
for at in 6 15; do
    refused '.*NCCL: remote process exited' GPT_FAKE_NCCL_FAIL_AT=$at --
    refused '.*NCCL: remote process exited' GPT_FAKE_NCCL_FAIL_AT=$at GPT_EMU_STREAMS=early --
done

# One rank alone fails: at the start, in the gradients, in the parameters after an update. The other waits for it in the
# same collective, hears of it and ends alike.
for at in 2 5 7 8 9; do
    timeout 100 mpirun --oversubscribe -np 1 "$bin/gpt_ddp" "${tiny[@]}" "${small[@]}" --out_dir=bad : \
        -np 1 -x GPT_FAKE_NCCL_FAIL_AT=$at "$bin/gpt_ddp" "${tiny[@]}" "${small[@]}" --out_dir=bad >out 2>err
    rc=$?
    [ $rc = 71 ] && [ "$(grep -c '^gpt_ddp: ' err)" = 1 ] &&
        grep -q '^gpt_ddp: rank 0 on .*: told by a peer: rank 1 on .*: NCCL: remote process exited' err ||
        fail "rank 1 alone fails at $at: rc $rc, $(cat out err)"
done
mpirun --oversubscribe -np 1 "$bin/gpt_ddp" "${tiny[@]}" "${small[@]}" --out_dir=bad : \
    -np 1 -x GPT_FAKE_NCCL_VERSION=22703 "$bin/gpt_ddp" "${tiny[@]}" "${small[@]}" --out_dir=bad >out 2>err
[ $? = 71 ] && grep -q '^gpt_ddp: NCCL is 2.28.9 on rank 0 .*, but 2.27.3 on rank 1 .*: use one version' err ||
    fail "two versions of NCCL: $(cat out err)"
finish
