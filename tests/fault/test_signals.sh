#!/usr/bin/env bash
# Signals at random instants: SIGUSR1, SIGTERM or SIGINT to one rank or to all of 1 to 4, some as soon as a process is
# there. All ranks save at one step and the job exits with 85; what is saved has the bits of the undisturbed run there,
# and (every eighth) so has the end of the continuation.
#
#     test_signals.sh [COUNT [SEED]]      COUNT signals, 3 by default (below 4 on one and two ranks)
#
# Until the program's first instruction, a few milliseconds after it is executed, a signal does what it does to any
# program: it ends it, with 128 + its number, before anything was written. Those are counted apart.
source "$GPT_SOURCE/tests/fault/lib.sh"
count=${1:-3}
RANDOM=${2:-11}
steps=150
prepare_data 300
signals=(USR1 TERM INT)
declare -A number=([USR1]=10 [TERM]=15 [INT]=2)
saved=0 early=0 late=0 resumed=0
begin=$(now_ms)

for np in $(seq $((count < 4 ? 2 : max_ranks))); do
    make_reference "$np" $steps
    start_of[np]=$start_ms
    steps_of[np]=$steps_ms
done

# To all ranks, or to one: as soon as there is one, during the start, or during the steps.
send() { # SIGNAL ALL PHASE OUT
    local target=
    case $3 in
    0) [ $pid_np = 1 ] && pause_ms "$(random_below 8)" ;;
    1) pause_ms "$(random_below ${start_of[pid_np]})" ;;
    2) until_true has_lines "$4.log" '^iter' 1 && pause_ms "$(random_below $((steps_of[pid_np] / 2 + 1)))" ;;
    esac
    while [ -z "$target" ] && kill -0 $pid 2>/dev/null; do
        if [ "$2" = 1 ]; then target=$(ranks); else target=$(random_rank); fi
    done
    [ -n "$target" ] && kill -"$1" $target 2>/dev/null
}

# One signal; sets outcome.
signal_a_run() { # OUT NP SIGNAL ALL PHASE
    start "$2" "$1" --max_iters=$steps --checkpoint_interval=1000000
    send "$3" "$4" "$5" "$1"
    await
    must_be_gone "$1"
    outcome=wrong
    if [ $rc = 85 ]; then
        outcome=saved
        [ "$(ls -d "$1"/step_* | wc -l)" = 1 ] || fail "$1: not one checkpoint: $(ls -A "$1")"
        grep -q "stopped by a signal after" "$1.err" || fail "$1: not said: $(cat "$1.err")"
        must_match "$1" "$2"
    elif [ $rc = $((128 + number[$3])) ] && [ ! -e "$1" ]; then
        outcome=early
    elif [ $rc = 0 ]; then
        outcome=late
    fi
}

resume_a_run() { # OUT NP
    start "$2" "$1" --max_iters=$steps --checkpoint_interval=1000000 --init_from=resume
    await
    [ $rc = 0 ] && [ "$(newest_step "$1")" = $steps ] || fail "$1: its continuation: rc $rc: $(cat "$1.err")"
    must_match "$1" "$2"
    resumed=$((resumed + 1))
}

for ((i = 0; saved < count && i < 3 * count + 10; i++)); do
    np=$((i % ${#start_of[@]} + 1))
    signal=${signals[RANDOM % 3]}
    signal_a_run "run_$i" $np $signal $((RANDOM % 2)) $((RANDOM % 3))
    case $outcome in
    saved)
        [ $((saved % 8)) = 0 ] && resume_a_run "run_$i" $np
        saved=$((saved + 1))
        ;;
    early) early=$((early + 1)) ;;
    late) late=$((late + 1)) ;;
    *) fail "run_$i: np $np, $signal: exit code $rc: $(cat "run_$i.err")" ;;
    esac
    rm -rf "run_$i"
done
[ $saved = "$count" ] || fail "only $saved of $count signals led to a save"
echo "signals: $saved saves agreed, $resumed continued; $early came before the program, $late after its end;" \
    "$failures violations; $((($(now_ms) - begin) / 1000)) s"
finish
