#!/usr/bin/env bash
# A disk that is full, and has room again: training goes on, the checkpoint before stays whole, the next save works. On a
# small tmpfs (as root), and with a limit on the bytes of a file.
source "$GPT_SOURCE/tests/e2e/lib.sh"
# A checkpoint of about 4 MB every 60 steps; the shell has some hundred milliseconds to make room.
run=(--max_iters=360 --checkpoint_interval=60 --keep_checkpoints=1)

# ends_well DIR: the newest checkpoint in DIR is whole and of the last step.
ends_well() {
    "$bin/gpt_ddp" --verify "$1" >verify.log 2>&1 && grep -q 'resume takes .*step_00000360' verify.log || {
        fail "$1: the last checkpoint is not there or not whole"
        cat verify.log
    }
    ls -A "$1" | grep -q '^\.' && fail "$1: left behind: $(ls -A "$1")"
}

# tmpfs MIB WANTED ARGS...: a run on a disk of MIB, which becomes a large one after the first failed save. WANTED: what the
# disk holds then, a step or "nothing".
tmpfs() {
    local mib=$1 wanted=$2 pid i rc
    shift 2
    mkdir -p small
    mount -t tmpfs -o "size=${mib}m" tmpfs small || { fail "mount"; return; }
    "$bin/gpt_ddp" "${tiny[@]}" "${run[@]}" --out_dir=small/out "$@" >small.log 2>small.err &
    pid=$!
    for ((i = 0; i < 1200; i++)); do
        grep -q 'training goes on' small.log && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -STOP $pid
    grep -q 'iB free, a checkpoint takes .* make room' small.log || fail "$mib MiB: nothing is said of a full disk"
    if [ "$wanted" = nothing ]; then
        ls small/out | grep -q step_ && fail "$mib MiB: a checkpoint where there is no room for one"
    else
        "$bin/gpt_ddp" --verify "small/out/$wanted" >verify.log || fail "$mib MiB: $wanted is not whole any more"
    fi
    mount -o remount,size=64m small
    kill -CONT $pid
    wait $pid
    rc=$?
    [ $rc = 0 ] || { fail "$mib MiB: rc $rc"; tail -3 small.err; }
    ends_well small/out
    umount small
}

prepare_data 300
if [ "$(id -u)" = 0 ] && mkdir probe && mount -t tmpfs -o size=1m tmpfs probe 2>/dev/null; then
    umount probe
    trap 'umount small 2>/dev/null; rm -rf "$work"' EXIT
    tmpfs 1 nothing --async_save=false
    tmpfs 1 nothing --async_save=true
    tmpfs 6 step_00000060 --async_save=true
else
    echo "no tmpfs of a given size without root: skipped"
fi

# A limit on the bytes of a file: every save fails, the third ends the run.
must_train 1 limited --max_iters=60 --checkpoint_interval=60
(ulimit -f 1000 && train 1 limited "${run[@]}" --init_from=resume)
rc=$?
[ $rc = 74 ] || fail "rc $rc when no file may pass 1 MB"
[ "$(grep -c 'cannot write .*File too large' limited.log)" = 2 ] || fail "wanted two failed saves in limited.log"
"$bin/gpt_ddp" --verify limited/step_00000060 >verify.log || fail "limited: the checkpoint before is not whole any more"
must_train 1 limited "${run[@]}" --init_from=resume
ends_well limited

# A disk that hangs while a checkpoint is written (the file operations of the start are fewer): named, and the save after it ends the run.
LD_PRELOAD=$tools/libgpt_fault.so GPT_FAULT_DIR=$work/hung GPT_FAULT_KIND=hold GPT_FAULT_AT=20 "$bin/gpt_ddp" "${tiny[@]}" \
    --out_dir="$work/hung" --max_iters=1000000 --checkpoint_interval=1000000 --checkpoint_time=3s --save_timeout=2s \
    --log_interval=1000 >hung.log 2>hung.err
rc=$?
[ $rc = 86 ] || fail "rc $rc when the disk hangs"
grep -q 'takes longer than save_timeout (2s): save at step [1-9][0-9]*: write' hung.log || fail "the hung disk is not named"
grep -q 'watchdog: rank 0 .* save at step [1-9][0-9]*: wait for the writing of the checkpoint before' hung.err ||
    { fail "the watchdog does not name the wait"; cat hung.err; }
finish
