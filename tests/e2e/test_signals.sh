#!/usr/bin/env bash
# A signal, or a limit of time, saves at one agreed step and exits 85; the continuation has the bits of a run never stopped. A second one ends
# the process at once. A signal during the start is not lost.
source "$(dirname "$0")/lib.sh"
tiny+=(--device=cpu)
prepare_data
steps=120
must_train 2 whole --max_iters=$steps

# wait_for FILE LINES: until a running program has written that many lines; 20 seconds at most.
wait_for() {
    local i
    for i in $(seq 400); do
        [ -f "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ] && return
        sleep 0.05
    done
    fail "$1 never had $2 lines"
}

# start NP OUT ARGS...: train in the background, endless unless ARGS say otherwise; $pid is the launcher or the program.
start() {
    local np=$1 out=$2
    shift 2
    local launch=(mpirun --oversubscribe -np "$np")
    [ "$np" = 1 ] && launch=(env --default-signal=HUP,PIPE) # which nohup and some runners ignore
    "${launch[@]}" "$bin/gpt_ddp" "${tiny[@]}" --out_dir="$out" --max_iters=1000000 "$@" >"$out.log" 2>"$out.err" &
    pid=$!
}

# ends_with CODE WHAT: the background program ends so, within 30 seconds.
ends_with() {
    local watcher rc
    (sleep 30; kill -KILL $pid) >/dev/null 2>&1 & # its sleep outlives it, and must not hold our output
    watcher=$!
    wait $pid
    rc=$?
    kill $watcher 2>/dev/null
    wait $watcher 2>/dev/null
    [ $rc = "$1" ] || fail "$2: exit code $rc, not $1"
}

# USR1 through mpirun, and straight to one process; TERM and INT too.
for case in "2 USR1" "1 USR1" "1 TERM" "1 INT" "1 HUP"; do
    read -r np signal <<<"$case"
    out=stopped_${np}_$signal
    start "$np" "$out"
    wait_for "$out/metrics.jsonl" 6
    kill -"$signal" $pid
    ends_with 85 "$case"
    grep -q "stopped by a signal after" "$out.err" || fail "$case: not said: $(cat "$out.err")"
    at=$(ls -d "$out"/step_* | tail -1)
    at=$((10#${at##*step_}))
    [ "$at" -ge 5 ] && [ "$at" -lt $steps ] || fail "$case: saved at step $at"
done

# The stopped run of two ranks goes on to the same bits.
must_train 2 stopped_2_USR1 --max_iters=$steps --init_from=resume
same_bits whole stopped_2_USR1 $steps

# nohup keeps its meaning, and a run outlives the reader of its log.
nohup "$bin/gpt_ddp" "${tiny[@]}" --out_dir=nohup --max_iters=1000000 >nohup.log 2>nohup.err &
pid=$!
wait_for nohup/metrics.jsonl 6
kill -HUP $pid
lines=$(wc -l <nohup/metrics.jsonl)
wait_for nohup/metrics.jsonl $((lines + 50))
kill -TERM $pid
ends_with 85 "TERM under nohup"
env --default-signal=PIPE "$bin/gpt_ddp" "${tiny[@]}" --out_dir=unread --max_iters=$steps 2>unread.err | head -3 >/dev/null
[ $? = 0 ] || fail "nobody reads the log: $(cat unread.err)"

# One rank alone has the signal: all stop at the same step.
start 2 one_rank
wait_for one_rank/metrics.jsonl 6
kill -USR1 "$(pgrep -P $pid | head -1)"
ends_with 85 "USR1 to one rank of two"

# During the start: as soon as the program can take a signal (bit 9 of the blocked ones is SIGUSR1's), before MPI_Init
# is through. What comes earlier still is the launcher's to lose.
takes_usr1() {
    local blocked
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = gpt_ddp ] || return 1
    blocked=$(sed -n 's/^SigBlk:[[:space:]]*//p' "/proc/$1/status")
    [ $((0x${blocked:-0} & 0x200)) != 0 ]
}
for np in 1 2; do
    start $np early_$np
    rank=
    for i in $(seq 2000); do
        if [ $np = 1 ]; then rank=$pid; else rank=$(pgrep -P $pid | head -1); fi
        [ -n "$rank" ] && takes_usr1 "$rank" && break
    done
    kill -USR1 "$rank"
    ends_with 85 "USR1 during the start of $np"
    [ -d early_$np/step_00000000 ] || fail "np $np: stopped before the first step, but not saved: $(ls early_$np)"
done

# Limits of time: the run's own, and the end of the job as Slurm tells it.
start 1 after --stop_after=1s
ends_with 85 "stop_after"
grep -q "stopped by stop_after after" after.err || fail "stop_after: not said: $(cat after.err)"
export SLURM_JOB_END_TIME=$(($(date +%s) + 4))
start 2 before
unset SLURM_JOB_END_TIME
ends_with 85 "the end of the job"
grep -q "stopped by the end of the job's time after" before.err || fail "the end of the job: not said: $(cat before.err)"
ls -d before/step_* >/dev/null || fail "the end of the job: not saved"

# A second TERM does not wait for the step: here one of several seconds.
start 1 slow --n_layer=8 --n_embd=512 --block_size=512 --n_head=8 --batch_size=16 --micro_batch=16
wait_for slow.log 6
kill -TERM $pid
sleep 0.3
kill -TERM $pid
ends_with 143 "two TERMs"
finish
