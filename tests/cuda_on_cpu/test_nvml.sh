#!/usr/bin/env bash
# When a run does not fit on a GPU, the message names the other processes there and what they hold, if NVML knows them;
# without NVML, or with one that fails, the message is the same without these words.
source "$GPT_SOURCE/tests/e2e/lib.sh"
prepare_data 50
export GPT_EMU_MEMORY=$((256 << 20))
others='pid 4242 holds 9.1 GiB, pid 77 holds an unknown amount'

# refuse CODE PATTERN ARGS...: a run on the GPU ends with one line.
refuse() {
    local code=$1 pattern=$2 rc
    shift 2
    "$bin/gpt_ddp" "${tiny[@]}" --out_dir=out --device=cuda "$@" >log 2>err
    rc=$?
    [ $rc = "$code" ] && [ "$(wc -l <err)" = 1 ] && grep -Eq -- "$pattern" err ||
        fail "$*: rc $rc, wanted $code and '$pattern': $(cat err)"
}

large=(--n_embd=2048 --n_head=16 --n_layer=4 --micro_batch=1 --batch_size=1)
with_nvml() { LD_LIBRARY_PATH=$GPT_TOOLS/fake_nvml${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"; }
with_nvml refuse 64 "the run needs .*; on this GPU $others\$" "${large[@]}"
with_nvml refuse 71 "not enough memory on GPU 0 .* free; $others\$" "${large[@]}" --memory_limit=100GiB
FAKE_NVML=off with_nvml refuse 64 'the run needs .*' "${large[@]}"
grep -q 'pid' err && fail "an NVML that does not start: $(cat err)"
refuse 64 'the run needs .*' "${large[@]}"
grep -q 'pid' err && fail "without NVML: $(cat err)"
finish
