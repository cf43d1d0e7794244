#!/usr/bin/env bash
# Runs whose numbers go wrong end with exit codes of their own, say why in one line, and leave checkpoints that are good:
# weights that grow until products overflow (87), a bit that flips in one rank's parameters (88).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
prepare_data
np=$((max_ranks < 3 ? max_ranks : 3))

# Every value of a checkpoint is a number.
check_finite() { # directory
    local header
    header=$(od -An -tu8 -N8 "$1/model.safetensors" | tr -d ' ')
    if od -An -v -tf4 -j$((8 + header)) "$1/model.safetensors" | grep -qiE 'nan|inf'; then
        fail "$1 holds weights that are not finite"
    fi
}

must_train $np out --max_iters=4 --checkpoint_interval=4
# The decay multiplies weights by 1 - 10 * 10 in each step.
train $np out --init_from=resume --max_iters=100 --checkpoint_interval=2 --keep_checkpoints=100 \
    --learning_rate=10 --min_lr=10 --decay_lr=false --weight_decay=10
rc=$?
[ $rc = 87 ] || fail "a run that diverges: rc $rc, wanted 87"
grep -q 'no update (5 in a row, 5 end the run)' out.log || fail "the log does not count: $(tail -n 3 out.log)"
grep -qE '^iter [0-9]+: rank 0: gradient of [a-z_0-9.]+ is not finite \(first of [0-9]+ tensors\), loss ' out.log ||
    fail "no rank and tensor in: $(grep -m1 'no update' out.log)"
[ "$(grep -c 'not finite in 5 steps in a row' out.err)" = 1 ] || fail "not one line: $(cat out.err)"
for checkpoint in out/step_*; do check_finite "$checkpoint"; done
must_train $np out --init_from=resume --eval_only=true

if [ $np = 3 ]; then
    mpirun --oversubscribe -np 3 "$tools/tool_flip_bit" 7 2 "${tiny[@]}" --out_dir=flip --max_iters=30 --zero_stage=0 \
        --checkpoint_interval=4 --replica_check_interval=5 >flip.log 2>flip.err
    rc=$?
    [ $rc = 88 ] || fail "a flipped bit: rc $rc, wanted 88"
    grep -qE '^tool_flip_bit: after 8 steps rank 2 on [^ ]+ holds other bits of wte.weight than the 2 that agree' flip.err ||
        fail "rank and tensor are not named: $(cat flip.err)"
    ls flip | grep -q step_ && fail "something was saved: $(ls flip)"
fi
finish
