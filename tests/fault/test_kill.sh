#!/usr/bin/env bash
# kill -9 of a random rank of 1 to 4 at a random instant of the start, a load, a step or a save, and the same command
# again, until the run is through. After each kill the newest checkpoint has the bits of the undisturbed run, and so has
# the end. The job ends and leaves no process: after two seconds or three, the summary says; a rank that is there after
# a minute is a failure, however busy the machine. Open MPI 4.1's mpirun can stay behind alone, all ranks dead, when one
# is killed while it connects to it (often with "PMIX ERROR: UNREACHABLE"): that is counted apart, and mpirun is ended.
#
#     test_kill.sh [COUNT [SEED]]      COUNT kills, 3 by default (below 4 on one and two ranks)
source "$GPT_SOURCE/tests/fault/lib.sh"
count=${1:-3}
RANDOM=${2:-12}
steps=$((count < 4 ? 60 : 120))
prepare_data 300
kills=0 stuck=0 runs=0 longest=0
begin=$(now_ms)

for np in $(seq $((count < 4 ? 2 : max_ranks))); do
    make_reference "$np" $steps
    span_of[np]=$((start_ms + steps_ms))
done

# kill_a_rank OUT: at an instant from the launch to what the run takes. Fails when the run is over by then; a run from
# the beginning takes no longer than that (the machine may have been busier before).
kill_a_rank() {
    local victim= begun pause
    begun=$(newest_step "$1")
    pause=$(random_below ${span_of[pid_np]})
    pause_ms "$pause"
    while kill -0 $pid 2>/dev/null; do
        victim=$(random_rank)
        [ -n "$victim" ] && kill -KILL "$victim" 2>/dev/null && return
    done
    [ -n "$begun" ] || span_of[pid_np]=$((pause + 1))
    return 1
}

# The same command until it ends by itself.
run_to_the_end() { # OUT NP
    while :; do
        start "$2" "$1" --max_iters=$steps --checkpoint_interval=3 --eval_interval=9 --init_from=auto
        if [ $kills -lt "$count" ] && kill_a_rank "$1"; then
            await 15 60
            [ $rc = 137 ] || [ $rc = 0 ] || fail "$1: exit code $rc after a kill: $(tail -5 "$1.err")"
            if [ $given_up = 0 ]; then
                [ $took -gt $longest ] && longest=$took
            elif [ $live = 0 ]; then
                stuck=$((stuck + 1))
            else
                fail "$1: $live ranks were left a minute after the kill: $(tail -20 "$1.err")"
            fi
            must_be_gone "$1"
            kills=$((kills + 1))
            must_match "$1" "$2"
        else
            await
        fi
        [ $rc = 0 ] && break
        [ $rc = 137 ] || { fail "$1: exit code $rc: $(tail -5 "$1.err")"; return; }
    done
    [ "$(newest_step "$1")" = $steps ] || fail "$1: ended at step $(newest_step "$1")"
    must_match "$1" "$2"
    left=$(ls -A "$1" | grep -v '^step_\|^metrics.jsonl$\|^run.json$\|^events.out.tfevents')
    [ -z "$left" ] || fail "$1: left behind: $left"
    runs=$((runs + 1))
    rm -rf "$1"
}

for ((i = 0; kills < count && failures == 0; i++)); do
    run_to_the_end "run_$i" $((i % ${#span_of[@]} + 1))
done
echo "kills: $kills in $runs runs; $failures violations; at most $longest ms to the job's end;" \
    "$stuck times mpirun stayed without a rank;" \
    "$((($(now_ms) - begin) / 1000)) s"
finish
