#!/usr/bin/env bash
# A rank that stops (SIGSTOP) in any phase ends the job with 86 within the limit and 5 seconds; every rank that runs says
# where it waits, and the one that does not is named. A rank that dies ends the job, too. No process is left.
#
#     test_watchdog.sh [COUNT [SEED]]    COUNT random cases; without it one for each phase
source "$(dirname "$0")/lib.sh"
count=${1:-4}
RANDOM=${2:-7}
tiny+=(--device=cpu)
prepare_data
step_limit=8 save_limit=8 init_timeout=4 # room for a busy machine
limits=(--step_timeout=${step_limit}s --save_timeout=${save_limit}s --init_timeout=${init_timeout}s)
phases=(start step eval save)
longest=0

now_ms() { echo $(($(date +%s%N) / 1000000)); }
ranks_of() { pgrep -P "$1" -x gpt_ddp; } # process ids of mpirun's ranks
rank_of() { tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | sed -n 's/^OMPI_COMM_WORLD_RANK=//p'; }
left_over() { pgrep -f -- "--out_dir=$work/$1( |\$)"; }

# start NP OUT ARGS...: an endless run in the background; $pid is mpirun.
start() {
    local np=$1 out=$2
    shift 2
    mpirun --oversubscribe -np "$np" "$bin/gpt_ddp" "${tiny[@]}" --out_dir="$work/$out" --max_iters=1000000 "${limits[@]}" \
        "$@" >"$out.log" 2>"$out.err" &
    pid=$!
}

# until COMMAND...: it succeeds; 30 seconds at most.
until_true() {
    local i
    for i in $(seq 600); do
        "$@" && return
        sleep 0.05
    done
    fail "never: $*"
}
has_ranks() { [ "$(ranks_of $pid | wc -l)" = "$1" ]; }
has_lines() { [ "$(grep -c "$2" "$1" 2>/dev/null)" -ge "$3" ]; }
pause() { sleep "0.$(printf %03d $((RANDOM % 1000)))"; } # up to a second

# To where the phase is under way; sets limit and args.
begin_phase() { # PHASE NP OUT
    limit=$step_limit
    case $1 in
    start)
        limit=$((2 * init_timeout))
        start "$2" "$3"
        until_true has_ranks "$2"
        ;;
    step)
        start "$2" "$3"
        until_true has_lines "$3.log" '^iter' 1
        ;;
    eval)
        start "$2" "$3" --eval_interval=1 --eval_iters=200 --checkpoint_interval=1000000
        until_true has_lines "$3.log" '^step' 1
        ;;
    save)
        limit=$save_limit
        start "$2" "$3" --eval_iters=1 --checkpoint_interval=1
        until_true has_lines "$3.log" '^saving' 1
        ;;
    esac
    pause
}

# The job of OUT has ended with CODE, SINCE (ms) at most LIMIT seconds ago, and nothing is left of it.
check_end() { # OUT CODE WANTED SINCE LIMIT
    local took=$(($(now_ms) - $4))
    [ "$2" = "$3" ] || fail "$1: exit code $2, not $3: $(cat "$1.err")"
    [ $took -le $(($5 * 1000)) ] || fail "$1: took $took ms, wanted $5 s"
    sleep 0.2
    [ -z "$(left_over "$1")" ] || fail "$1: processes are left: $(left_over "$1")"
}

# The line of every rank but the victim's, and in a run that had begun one that names the victim.
check_lines() { # OUT PHASE NP VICTIM
    local r
    for r in $(seq 0 $(($3 - 1))); do
        [ "$r" = "$4" ] && continue
        [ "$(grep -c "^gpt_ddp: watchdog: rank $r of $3 on .* has been [0-9.]* s in [a-z]*[ :]" "$1.err")" = 1 ] ||
            fail "$1: not one line of rank $r: $(cat "$1.err")"
    done
    [ "$2" = start ] || grep -q "^gpt_ddp: watchdog: rank $4 of $3 on .* does not answer: .*; last seen in [a-z]* " "$1.err" ||
        fail "$1: rank $4 is not named: $(cat "$1.err")"
}

stop_a_rank() { # CASE PHASE NP
    local out=stop_$1_$2_$3 victim rank since rc took
    begin_phase "$2" "$3" "$out"
    victim=$(ranks_of $pid | sed -n $((RANDOM % $3 + 1))p)
    rank=$(rank_of "$victim")
    since=$(now_ms)
    kill -STOP "$victim"
    wait $pid
    rc=$?
    check_end "$out" $rc 86 "$since" $((limit + 5))
    check_lines "$out" "$2" "$3" "$rank"
    took=$(($(now_ms) - since - 200 - 1000 * limit))
    [ $took -gt $longest ] && longest=$took
}

for ((i = 0; i < count; i++)); do
    stop_a_rank "$i" "${phases[i % 4]}" $((2 + (i + i / 4) % 2))
done
echo "$count ranks stopped, $failures failed; at most $longest ms after the limit"

# A rank that dies.
start 3 killed
until_true has_lines killed.log '^iter' 1
since=$(now_ms)
kill -KILL "$(ranks_of $pid | tail -1)"
wait $pid
rc=$?
echo "a killed rank ended the job after $(($(now_ms) - since)) ms"
check_end killed $rc 137 "$since" 15
finish
