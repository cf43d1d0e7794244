#!/usr/bin/env bash
# gpt_ddp --verify: whole and damaged checkpoints, and the exit codes.
source "$GPT_SOURCE/tests/e2e/lib.sh"

# verify RC TEXT DIR: the exit code, and a part of what is printed.
verify() {
    "$bin/gpt_ddp" --verify "$3" >verify.log 2>&1
    local rc=$?
    [ $rc = "$1" ] || fail "rc $rc, wanted $1, from --verify $3"
    grep -q "$2" verify.log || { fail "no \"$2\" from --verify $3"; cat verify.log; }
}

prepare_data 300
must_train 1 out --max_iters=3 --checkpoint_interval=1 --n_layer=1 --n_head=1 --n_embd=16
verify 0 'init_from = resume takes out/step_00000003' out
verify 0 'step_00000001 .* KiB  ok' out
verify 0 'step_00000002 .* ok' out/step_00000002
verify 0 'resume takes' out/

printf x | dd of=out/step_00000003/optimizer.safetensors bs=1 seek=5000 conv=notrunc status=none
verify 65 'step_00000003 .* damaged: bytes 0 to' out
verify 65 'init_from = resume takes out/step_00000002' out
verify 65 'damaged: bytes 0 to' out/step_00000003

rm out/step_00000003/optimizer.safetensors out/step_0000000[12]/MANIFEST.json
verify 65 'finds nothing to take' out
verify 65 'MANIFEST.json' out/step_00000001
verify 66 'no checkpoint is there' data
verify 66 'no such directory' nowhere
finish
