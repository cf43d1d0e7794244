#!/usr/bin/env bash
# The batch scripts in a Slurm of two nodes (cluster.sh), on CPU ranks: whatever ends a job, the run goes on by itself, or
# stays ended where it should, and its last weights are those of a run never disturbed.
#
#     test_slurm.sh                    two scenarios, side by side (ctest)
#     test_slurm.sh --all              every scenario with srun and with mpirun, and a table of seconds
#     test_slurm.sh SCENARIO...        those: test_slurm.sh lost_node_srun guard_mpirun
# shellcheck disable=SC2317,SC2086 # scenarios are called by their names
if [ -z "${CLUSTER_DIR:-}" ]; then
    exec "$(dirname "$0")/cluster.sh" "$(realpath "$0")" "$@"
fi
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/e2e/lib.sh disable=SC2154
source "$here/../e2e/lib.sh"

ln -s "$bin/gpt_ddp" gpt_ddp
cp -r "$GPT_SOURCE/slurm" .
mkdir launch
cp "$GPT_SOURCE/launch/start_guard.sh" launch
prepare_data 1500
# Both nodes are this machine.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
export GPT_TRACE=1
steps=150
run=("${tiny[@]}" --device=cpu "--max_iters=$steps" "--lr_decay_iters=$steps" --checkpoint_interval=25)
ranks=(--ntasks-per-node=2 --gpus-per-node=2 --cpus-per-task=1)

# ---- jobs ----------------------------------------------------------------------------------------------------------

# submit OUT SBATCH_OPTIONS... -- SETTINGS...: $job runs into OUT, with OUT.log as its log.
submit() {
    local out=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    job=$(sbatch --parsable --output="$out.log" "${ranks[@]}" --time=20 ${options[@]+"${options[@]}"} \
        slurm/multi_node.sbatch "${run[@]}" --out_dir="$out" "$@") || fail "$out: sbatch"
}

job_field() { scontrol show job "$1" 2>/dev/null | grep -o "\b$2=[^ ]*" | head -1 | cut -d= -f2; }

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then
            fail "waited in vain until $what"
            return 1
        fi
        sleep 0.2
    done
}

has_lines() { [ -f "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }
has_ended() {
    case $(job_field "$1" JobState) in
    COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) return 0 ;;
    esac
    return 1
}

# Until the run has made $2 updates.
under_way() { wait_until 300 "$1 has made $2 updates" has_lines "$1/metrics.jsonl" "$2"; }

# ends_as OUT STATE EXIT_CODE RESTARTS (- : any)
ends_as() {
    local out=$1 state restarts
    wait_until 900 "$out has ended" has_ended "$job"
    state=$(job_field "$job" JobState) restarts=$(job_field "$job" Restarts)
    [ "$state" = "$2" ] || fail "$out: the job is $state, not $2"
    [ "$3" = - ] || [ "$(job_field "$job" ExitCode)" = "$3:0" ] ||
        fail "$out: exit code $(job_field "$job" ExitCode), not $3:0"
    [ "$4" = - ] || [ "$restarts" = "$4" ] || fail "$out: $restarts restarts, not $4"
}

# The weights of $1 at the end are those of the undisturbed run.
as_undisturbed() { same_bits "$1" whole $steps; }

# Process ids of a run's ranks on a node.
ranks_on() {
    local id
    for id in $("$here/cluster.sh" --on-node "$2" gpt_ddp); do
        tr '\0' '\n' <"/proc/$id/cmdline" 2>/dev/null | grep -qx -- "--out_dir=$1" && echo "$id"
    done
}

# ---- scenarios: each gets the name of its folder; LAUNCHER is set ----------------------------------------------------

finish() {
    submit "$1" --
    ends_as "$1" COMPLETED 0 0
    as_undisturbed "$1"
}

# The batch script gets USR1, as it does from --signal before the time is up.
signal() {
    submit "$1" --
    under_way "$1" 20
    scancel --batch --signal=USR1 "$job"
    ends_as "$1" COMPLETED 0 1
    grep -q "stopped by a signal after" "$1.log" || fail "$1: not said"
    as_undisturbed "$1"
}

# Cancelled: it ends for good; what was saved goes on by hand.
scancel_job() {
    submit "$1" --
    under_way "$1" 30
    scancel "$job"
    ends_as "$1" CANCELLED - 0
    submit "$1" -- --init_from=auto
    ends_as "$1" COMPLETED 0 0
    as_undisturbed "$1"
}

killed_task() {
    submit "$1" --
    under_way "$1" 30
    kill -KILL "$(ranks_on "$1" n1 | head -1)"
    ends_as "$1" COMPLETED 0 1
    as_undisturbed "$1"
}

# Power failure of the node without the batch script (n1), or with it (n0).
lose() {
    submit "$1" --
    under_way "$1" 30
    "$here/cluster.sh" --kill-node "$2"
    wait_until 180 "$1 is put back into the queue" requeued
    "$here/cluster.sh" --start-node "$2"
    ends_as "$1" COMPLETED 0 -
    as_undisturbed "$1"
}
requeued() { [ "$(job_field "$job" Restarts)" -ge 1 ]; }
lost_node() { lose "$1" n1; }
lost_batch_node() { lose "$1" n0; }

# A minute is too short for the run, which saves before it is over.
time_limit() {
    submit "$1" --time=1 --signal=B:CONT@1 -- "${endless[@]}"
    goes_on_after_limit "$1"
    grep -q "stopped by the end of the job's time" "$1.log" || fail "$1: not said"
}

# The program does not know of the limit: Slurm ends the ranks with TERM. Those of srun save; mpirun's are killed at once
# on other nodes, and go on from the last checkpoint.
hard_limit() {
    submit "$1" --time=1 --signal=B:CONT@1 --export=ALL,SLURM_JOB_END_TIME=0 -- "${endless[@]}"
    goes_on_after_limit "$1"
    grep -q "DUE TO TIME LIMIT" "$1.log" || fail "$1: it was not Slurm's limit"
}

endless=(--max_iters=1000000 --checkpoint_interval=50)
newest_step() { find "$1" -name 'step_*' -printf '%f\n' | sed 's/^step_0*//' | sort -n | tail -1; }
is_past() { [ "$(newest_step "$1")" -gt "$2" ]; }

# The next start of the job has time enough: what it saves is what an undisturbed run has there.
goes_on_after_limit() {
    local stopped_at saved
    wait_until 600 "$1 is stopped by the time limit" requeued
    scontrol update jobid="$job" timelimit=20
    stopped_at=$(newest_step "$1")
    wait_until 300 "$1 goes on" is_past "$1" "$stopped_at"
    scancel "$job"
    ends_as "$1" CANCELLED - -
    saved=$(newest_step "$1")
    must_train 4 "$1-whole" --device=cpu --max_iters="$saved" --lr_decay_iters=$steps
    same_bits "$1" "$1-whole" "$saved"
}

# Stopped on four ranks of two nodes, where jobs are not requeued, it goes on on two of one.
other_nodes() {
    local last
    last=$(printf step_%08d $steps)/model.safetensors
    submit "$1" --no-requeue --
    under_way "$1" 30
    scancel --batch --signal=USR1 "$job"
    ends_as "$1" FAILED 85 0
    grep -q "this site does not requeue" "$1.log" || fail "$1: not said that it is not requeued"
    submit "$1" --nodes=1 -- --init_from=resume
    ends_as "$1" COMPLETED 0 0
    grep -q "^2 ranks on 1 host" "$1.log" || fail "$1: not 2 ranks on one host"
    "$tools/tool_compare_weights" "$1/$last" "whole/$last" 1e-4 >"$1.diff" || fail "$1: $(cat "$1.diff")"
}

# Each start is over before an update: the second start since the checkpoint (of update 0) is refused.
guard() {
    MAX_STARTS=1 submit "$1" -- --stop_after=1ms
    ends_as "$1" FAILED 71 2
    grep -q "started 1 times and has saved nothing since update 0" "$1.log" || fail "$1: not said"
}

# Without PMIx the tasks do not know of each other: the program says so, in one line, and trains not four times.
no_pmix() {
    SLURM_MPI_TYPE=none MAX_STARTS=1 submit "$1" --
    ends_as "$1" FAILED 71 1
    [ "$(grep -c "srun started 4 tasks.*srun --mpi=pmix" "$1.log")" = 1 ] || fail "$1: not said once"
    [ -e "$1/metrics.jsonl" ] && fail "$1: it trained"
}

# The preflight, on the ranks of the job.
preflight() {
    PREFLIGHT=1 submit "$1" --
    ends_as "$1" COMPLETED 0 0
    grep -q "^rank  *ok  *3 on n1:" "$1.log" || fail "$1: rank 3 is not on n1"
    as_undisturbed "$1"
    rm -rf "$1"
    PREFLIGHT=1 submit "$1" -- --dataset=nowhere
    ends_as "$1" FAILED 66 0
    [ -e "$1/metrics.jsonl" ] && fail "$1: it trained"
}

# Three jobs; the first is stopped, the second finishes, the third is not needed.
chain() {
    slurm/chain.sh 3 --output="$1.log" "${ranks[@]}" --time=20 slurm/multi_node.sbatch "${run[@]}" --out_dir="$1" \
        >"$1.jobs"
    mapfile -t chained < <(sed -n 's/^Submitted batch job //p' "$1.jobs")
    under_way "$1" 20
    scancel --batch --signal=USR1 "${chained[0]}"
    job=${chained[0]}
    ends_as "$1" FAILED 85 0
    job=${chained[1]}
    ends_as "$1" COMPLETED 0 0
    job=${chained[2]}
    ends_as "$1" CANCELLED - 0
    as_undisturbed "$1"
}

# ---- what is run -----------------------------------------------------------------------------------------------------

scenarios=(finish signal scancel_job killed_task lost_node lost_batch_node time_limit hard_limit other_nodes guard chain preflight no_pmix)
chosen=("$@")
case ${1:-} in
"") chosen=(signal_srun killed_task_mpirun) ;;
--all)
    chosen=("${scenarios[@]/%/_srun}" "${scenarios[@]/%/_mpirun}")
    unset "chosen[-1]" # mpirun needs no PMIx of Slurm's
    ;;
esac

must_train 4 whole --device=cpu --max_iters=$steps --lr_decay_iters=$steps
# One scenario, its line, and what it left where it failed; the exit code says whether it did.
run_scenario() {
    local name=$1 started=$SECONDS result=passed
    export LAUNCHER=${name##*_}
    failures=0
    "${name%_*}" "$name"
    if [ "$failures" -gt 0 ]; then
        result=FAILED
        sed "s/^/    $name: /" "$name.log" | tail -40
        grep -h error "$CLUSTER_DIR"/log/slurm* | tail -20
    fi
    printf '%-24s %4d s  %s\n' "$name" $((SECONDS - started)) $result
    [ "$failures" = 0 ]
}

# In ctest side by side, for they wait most of the time; else one by one.
failed=0 children=()
for name in "${chosen[@]}"; do
    if [ $# = 0 ]; then
        run_scenario "$name" &
        children+=($!)
    else
        run_scenario "$name" || failed=$((failed + 1))
    fi
done
for child in ${children[@]+"${children[@]}"}; do
    wait "$child" || failed=$((failed + 1))
done
echo "${#chosen[@]} scenarios, $failed failed"
exit $((failed > 0))
