#!/usr/bin/env bash
# 20 steps = 10 steps, resume, 10 steps, bit for bit, weights and optimizer; on other numbers of ranks to 1e-5; a damaged
# checkpoint is named and passed over.
source "$(dirname "$0")/lib.sh"
tiny+=(--device=cpu)
prepare_data
run=(--dropout=0.1 --sampling=shuffled --lr_decay_iters=20 --eval_interval=5) # where parts end, the whole evaluates, too

for np in 1 2; do
    must_train $np "whole_$np" "${run[@]}" --max_iters=20
    must_train $np "parts_$np" "${run[@]}" --max_iters=10
    must_train $np "parts_$np" "${run[@]}" --max_iters=20 --init_from=resume
    same_bits "whole_$np" "parts_$np" 20
    grep -q "resuming from parts_$np/step_00000010" "parts_$np.log" || fail "np $np: it did not say what it resumed"
    "$tools/tool_compare_metrics" "parts_$np/metrics.jsonl" "whole_$np/metrics.jsonl" 0 >diff ||
        fail "np $np: $(cat diff)"
done

# 4 -> 2 -> 1 -> 3 ranks, five steps each.
if [ "$max_ranks" -ge 4 ]; then
    must_train 4 whole_4 "${run[@]}" --max_iters=20
    at=0
    for np in 4 2 1 3; do
        at=$((at + 5))
        must_train $np hops "${run[@]}" --max_iters=$at --init_from=auto
    done
    "$tools/tool_compare_metrics" hops/metrics.jsonl whole_4/metrics.jsonl 1e-5 >diff || fail "4, 2, 1, 3 ranks: $(cat diff)"
    "$tools/tool_compare_weights" {hops,whole_4}/step_00000020/model.safetensors 1e-4 >diff ||
        fail "4, 2, 1, 3 ranks: $(cat diff)"
fi

# One flipped byte in the newest: it is named, and the next older leads to the same end.
must_train 2 damaged "${run[@]}" --max_iters=15 --checkpoint_interval=5
model=damaged/step_00000015/model.safetensors
printf '\x5a' | dd of=$model bs=1 seek=$(($(stat -c %s $model) / 2)) conv=notrunc status=none
must_train 2 damaged "${run[@]}" --max_iters=20 --init_from=resume
grep -q "resuming from damaged/step_00000010" damaged.log || fail "it did not fall back to step 10"
grep -q "step_00000015/model.safetensors" damaged.err || fail "the damaged file was not named: $(cat damaged.err)"
same_bits whole_2 damaged 20

# Other batch settings are allowed, and said.
must_train 1 parts_1 "${run[@]}" --max_iters=22 --init_from=resume --gradient_accumulation_steps=1
grep -q "notice: the checkpoint used 240 sequences in 20 steps" parts_1.log || fail "no notice of the other batch"
finish
