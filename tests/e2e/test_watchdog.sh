#!/usr/bin/env bash
# A rank that stops (SIGSTOP) in any phase ends the job with 86 within the limit and 5 seconds; every rank that runs says
# where it waits, and the one that does not is named. A rank that loses its sockets, or dies, ends the job, too. No
# process is left.
#
#     test_watchdog.sh [COUNT [SEED]]    COUNT ranks stopped; without it one in each phase. At their end some runs are over
#                                        before their rank can be stopped: others take their place
#
# On a busy machine limits are longer, by what a short run takes.
source "$GPT_SOURCE/tests/fault/lib.sh"
count=${1:-6}
RANDOM=${2:-7}
prepare_data 300
phases=(start load step eval save end)
longest=0 again=0
begin=$(now_ms)

# A run of three ranks, for its checkpoint and for the time it takes.
start 3 short --max_iters=3
await 300
[ $rc = 0 ] || { cat short.err; fail "rc $rc of a short run"; finish; }
limit=$((8 + took / 1000)) slack=$((took < 3000 ? 0 : took / 1000 - 3))
limits=(--step_timeout=${limit}s --save_timeout=${limit}s --init_timeout=$((limit / 2))s --max_iters=1000000)

pause() { pause_ms "$(random_below "$1")"; }
# The run gets so far, or has ended.
gets_to() { # PATTERN OUT
    local i
    for ((i = 0; i < 1200; i++)); do
        has_lines "$2.log" "$1" 1 && return
        kill -0 $pid 2>/dev/null || return
        sleep 0.05
    done
    fail "$2: never: $1"
}
has_ranks() { [ "$(ranks | wc -l)" = "$pid_np" ]; }

# To where the phase is under way.
begin_phase() { # PHASE NP OUT
    case $1 in
    start)
        start "$2" "$3" "${limits[@]}"
        until_true has_ranks
        pause $((took_short + 1))
        ;;
    load)
        cp -r short "$3"
        start "$2" "$3" "${limits[@]}" --init_from=resume
        gets_to . "$3" # the program's first words, when all ranks have met
        pause 300
        ;;
    step)
        start "$2" "$3" "${limits[@]}"
        gets_to '^iter' "$3"
        pause 1000
        ;;
    eval)
        start "$2" "$3" "${limits[@]}" --eval_interval=1 --eval_iters=200 --checkpoint_interval=1000000
        gets_to '^step' "$3"
        pause 1000
        ;;
    save)
        start "$2" "$3" "${limits[@]}" --eval_iters=1 --checkpoint_interval=1 --keep_checkpoints=2
        gets_to '^saving' "$3"
        pause 1000
        ;;
    end)
        start "$2" "$3" "${limits[@]}" --max_iters=20
        gets_to '^saving' "$3"
        pause 100
        ;;
    esac
}

# The job of OUT has ended with a code among CODES, SINCE (ms) at most SECONDS ago, and nothing is left of it.
check_end() { # OUT CODES SINCE SECONDS
    local took=$(($(now_ms) - $3))
    [[ " $2 " == *" $rc "* ]] || fail "$1: exit code $rc, not $2: $(cat "$1.err")"
    [ $took -le $(($4 * 1000)) ] || fail "$1: took $took ms, wanted $4 s"
    must_be_gone "$1"
}

# The line of every rank but the victim's; and, once the ranks have met, one that names the victim.
check_lines() { # OUT NP VICTIM
    local r
    for r in $(seq 0 $(($2 - 1))); do
        [ "$r" = "$3" ] && continue
        [ "$(grep -c "^gpt_ddp: watchdog: rank $r of $2 on .* has been [0-9.]* s in [a-z]*[ :]" "$1.err")" = 1 ] ||
            fail "$1: not one line of rank $r: $(cat "$1.err")"
    done
    grep -q "in start: start MPI\|in start: meet the other ranks\|in end: leave MPI" "$1.err" ||
        grep -q "^gpt_ddp: watchdog: rank $3 of $2 on .* does not answer: .*; last seen in [a-z]*[ :]" "$1.err" ||
        fail "$1: rank $3 is not named: $(cat "$1.err")"
}

# Fails when the run was over before its rank could be stopped.
stop_a_rank() { # CASE PHASE NP
    local out=stop_$1_$2_$3 victim rank since late
    begin_phase "$2" "$3" "$out"
    victim=$(random_rank)
    rank=$([ -n "$victim" ] && rank_of "$victim")
    since=$(now_ms)
    if [ -z "$rank" ] || ! kill -STOP "$victim" 2>/dev/null; then
        await 30
        return 1
    fi
    await $((limit + slack + 30))
    late=$(($(now_ms) - since - 1000 * limit))
    # Whoever stops after its last word to the others is seen by none of them: they have ended well.
    if [ "$2" = end ] && { [ $rc = 0 ] || { [ $rc = 137 ] && [ $live = 1 ]; }; }; then
        rm -rf "$out"
        return 1
    fi
    check_end "$out" 86 "$since" $((limit + slack + 5))
    check_lines "$out" "$3" "$rank"
    [ $late -gt $longest ] && longest=$late
    rm -rf "$out"
    return 0
}

took_short=$took
stopped=0
most=$count # cases
[ $# = 0 ] || most=$((2 * count))
for ((i = 0; i < most && stopped < count; i++)); do
    for ((try = 0; try < 4; try++)); do
        stop_a_rank "$i.$try" "${phases[i % 6]}" $((2 + (i + i / 6) % (max_ranks - 1))) && break
        again=$((again + 1))
    done
    [ $try -lt 4 ] && stopped=$((stopped + 1))
    [ $try -lt 4 ] || [ "${phases[i % 6]}" = end ] || fail "case $i: the run was always over before its rank stopped"
done
stops=$failures

# A rank that loses all its connections: to the others by TCP, and to mpirun.
lose_sockets() { # NP
    start "$1" lost "${limits[@]}"
    gets_to '^iter' lost
    kill -USR2 "$(random_rank)"
    since=$(now_ms)
    await $((limit + slack + 30))
    [ $rc != 0 ] || fail "a rank lost its sockets, and the exit code is 0"
    check_end lost $rc "$since" $((limit + slack + 5))
    echo "a rank without sockets: exit code $rc after $took ms"
}
preload=$tools/libgpt_sockets.so
OMPI_MCA_btl=tcp,self LD_PRELOAD=$preload lose_sockets 3

# A rank that dies.
start 3 killed "${limits[@]}"
gets_to '^iter' killed
since=$(now_ms)
kill -KILL "$(random_rank)"
await 60
echo "a killed rank ended the job after $took ms"
check_end killed 137 "$since" $((15 + slack))
echo "hangs: $stopped ranks stopped, $stops violations; at most $longest ms after the limit of $limit s; $again tries were" \
    "over before; $((($(now_ms) - begin) / 1000)) s"
finish
