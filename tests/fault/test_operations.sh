#!/usr/bin/env bash
# Whole runs in which one file operation of rank 0 goes wrong: the process is killed there, or the operation fails. What is
# left is verified, and a run that goes on from it ends with the bits of one that was never disturbed.
#
#     test_operations.sh            killed at a few operations, among them the one that gives a checkpoint its name; a full disk
#     test_operations.sh --all [RANKS [FAULTS]]    at every operation, for both ways to save; default: "1 4" "kill enospc eio short eintr"
source "$GPT_SOURCE/tests/e2e/lib.sh"
shim=$tools/libgpt_fault.so
settings=(--n_layer=1 --n_head=2 --n_embd=16 --bucket_mb=1 --max_iters=4 --checkpoint_interval=2 --keep_checkpoints=1)
n_cases=0

# faulty NP KIND AT ARGS...: a run into `out` whose operation AT goes wrong.
faulty() {
    local np=$1 kind=$2 at=$3
    shift 3
    local launch=(mpirun --oversubscribe -np "$np" -x LD_PRELOAD="$shim")
    [ "$np" = 1 ] && launch=(env LD_PRELOAD="$shim")
    GPT_FAULT_DIR=$work/out GPT_FAULT_KIND=$kind GPT_FAULT_AT=$at GPT_FAULT_COUNT=$work/count \
        "${launch[@]}" "$bin/gpt_ddp" "${tiny[@]}" --out_dir="$work/out" "${settings[@]}" "$@" >out.log 2>out.err
} 2>/dev/null

# count_operations NP ARGS...: of an undisturbed run, whose checkpoint becomes the one to compare with.
count_operations() {
    local np=$1
    shift
    rm -rf out "wanted_$np" count
    faulty "$np" none 0 "$@" || fail "rc $? from a run without faults"
    mv out "wanted_$np"
    n_ops=$(cat count)
}

# one NP KIND AT ARGS...: the fault; what is left; the end.
one() {
    local np=$1 kind=$2 at=$3 rc
    rm -rf out
    faulty "$@"
    rc=$?
    n_cases=$((n_cases + 1))
    if [ "$kind" = kill ]; then
        [ $rc -gt 128 ] || fail "$*: rc $rc, but it was killed"
    else
        [ $rc = 0 ] || [ $rc = 74 ] || fail "$*: rc $rc"
    fi
    "$bin/gpt_ddp" --verify out >verify.log 2>&1
    rc=$?
    [ $rc = 0 ] || { [ $rc = 66 ] && [ ! -e out/step_00000002 ]; } || { fail "$*: rc $rc from --verify"; cat verify.log; }
    shift 3
    train "$np" out "${settings[@]}" "$@" --init_from=auto || { fail "$np $kind $at: rc $? when it goes on"; cat out.err; }
    same_bits out "wanted_$np" 4
    grep -q 'saving checkpoint' out.log && ls -A out | grep -q '^\.' && fail "$np $kind $at: left behind: $(ls -A out)"
}

# How a run saves, as arguments.
both=(--async_save=false --async_save=true)

everything() {
    local np how kind at
    for np in ${1:-1 4}; do
        for how in "${both[@]}"; do
            count_operations "$np" "$how"
            for kind in ${2:-kill enospc eio short eintr}; do
                for ((at = 1; at <= n_ops; at++)); do one "$np" $kind $at "$how"; done
            done
            echo "np $np $how: $n_ops operations x (${2:-all}): $n_cases cases so far, $failures violations"
        done
    done
}

# Operation numbers of a first save: the directories (1 to 5), two files of tensors, the small ones, the manifest, the name.
selection() {
    count_operations "$max_ranks" --async_save=true
    one "$max_ranks" kill 9 --async_save=true
    one "$max_ranks" enospc 7 --async_save=true
    one "$max_ranks" kill $((n_ops / 2 - 4)) --async_save=true
    count_operations 1 --async_save=false
    one 1 kill $((n_ops / 2)) --async_save=false
}

prepare_data 300
if [ "${1:-}" = --all ]; then everything "${@:2}"; else selection; fi
echo "$n_cases cases, $failures violations"
finish
