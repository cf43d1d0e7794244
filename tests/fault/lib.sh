# Shared by the scripts of this folder: runs of a small model in the background, what the undisturbed run holds at each
# step, random instants. Sets: tiny (settings), and all that e2e/lib.sh sets.
source "$GPT_SOURCE/tests/e2e/lib.sh"

# A few milliseconds per step; sizes that 2, 3 and 4 ranks do not divide.
tiny=(--device=cpu --dataset=text --n_layer=2 --n_head=3 --n_embd=33 --block_size=7 --batch_size=4
    --gradient_accumulation_steps=3 --learning_rate=1e-3 --min_lr=1e-4 --warmup_iters=5 --lr_decay_iters=50 --dropout=0.1
    --sampling=shuffled --eps=1e-6 --eval_iters=2 --eval_interval=1000 --log_interval=10 --keep_checkpoints=1000000)

now_ms() { echo $(($(date +%s%N) / 1000000)); }
# Below N; RANDOM alone has 15 bits.
random_below() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }
pause_ms() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# start NP OUT ARGS...: a run in the background; $pid is mpirun, or the program for one rank.
start() {
    local np=$1 out=$2
    shift 2
    local launch=(mpirun --oversubscribe -np "$np")
    [ "$np" = 1 ] && launch=()
    "${launch[@]}" "$bin/gpt_ddp" "${tiny[@]}" --out_dir="$work/$out" "$@" >>"$out.log" 2>>"$out.err" &
    pid=$!
    pid_np=$np
}

# Process ids of the ranks of $pid.
ranks() {
    if [ $pid_np != 1 ]; then
        pgrep -P $pid -x gpt_ddp
    elif [ "$(cat /proc/$pid/comm 2>/dev/null)" = gpt_ddp ]; then
        echo $pid
    fi
}
random_rank() { ranks | sed -n "$(($(random_below $pid_np) + 1))p"; }
rank_of() { { tr '\0' '\n' <"/proc/$1/environ"; } 2>/dev/null | sed -n 's/^OMPI_COMM_WORLD_RANK=//p'; }

# $rc = how $pid ended; $took = ms. After SECONDS (60) it is killed when no rank is left, after MOST (SECONDS) in any
# case: then given_up=1, and $live = the ranks that were left.
await() { # [SECONDS [MOST]]
    local since limit=$((${1:-60} * 1000)) most=$((${2:-${1:-60}} * 1000))
    since=$(now_ms)
    live=0 given_up=0
    while kill -0 $pid 2>/dev/null; do
        took=$(($(now_ms) - since))
        if [ $took -gt $limit ]; then
            live=$(ps -o stat= -p "$(ranks | paste -sd, | sed 's/^$/0/')" | grep -vc '^Z')
            if [ "$live" = 0 ] || [ $took -gt $most ]; then
                given_up=1
                kill -KILL $pid
                break
            fi
        fi
        sleep 0.05
    done
    wait $pid 2>/dev/null
    rc=$?
    took=$(($(now_ms) - since))
}

# until_true COMMAND...: it succeeds; 60 seconds at most.
until_true() {
    local i
    for ((i = 0; i < 1200; i++)); do
        "$@" && return
        sleep 0.05
    done
    fail "never: $*"
    return 1
}
has_lines() { # FILE PATTERN COUNT
    local n
    n=$(grep -c "$2" "$1" 2>/dev/null)
    [ "${n:-0}" -ge "$3" ]
}

# No process of this run is left.
must_be_gone() { # OUT
    local left i
    for ((i = 0; i < 100; i++)); do
        left=$(pgrep -f -- "--out_dir=$work/$1( |\$)") || return
        sleep 0.1
    done
    fail "$1: processes are left: $left"
}

newest_step() { # OUT: a number; nothing when there is no checkpoint
    local at
    at=$(ls -d "$1"/step_* 2>/dev/null | tail -1)
    [ -z "$at" ] || echo $((10#${at##*step_}))
}

# whole_NP: an undisturbed run of STEPS steps with a checkpoint at each. $start_ms = from its launch to its first steps,
# $steps_ms = from there to the end.
make_reference() { # NP STEPS
    local since
    since=$(now_ms)
    start "$1" "whole_$1" --max_iters="$2" --checkpoint_interval=1
    until_true has_lines "whole_$1.log" '^iter' 1
    start_ms=$(($(now_ms) - since))
    await 300
    steps_ms=$(($(now_ms) - since - start_ms))
    [ $rc = 0 ] || { cat "whole_$1.err"; fail "rc $rc of the undisturbed run of $1 ranks"; finish; }
}

# The newest checkpoint of OUT has the bits of the undisturbed run of NP ranks at that step.
must_match() { # OUT NP
    local at name
    at=$(newest_step "$1")
    [ -n "$at" ] || return 0
    at=$(printf 'step_%08d' "$at")
    [ -d "whole_$2/$at" ] || cp -r "$1/$at" "whole_$2/" # step 0: the first time it is seen
    for name in model.safetensors optimizer.safetensors; do
        cmp -s "$1/$at/$name" "whole_$2/$at/$name" || fail "$1: not the undisturbed run's $name at $at"
    done
}
