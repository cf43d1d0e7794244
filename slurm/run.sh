# shellcheck shell=bash
# Sourced by the .sbatch files here, in the directory sbatch was called in: starts the ranks, passes signals on to
# them, and sees to it that a run which is not finished goes on: it puts the job back into the queue, or leaves that to
# the next job of a chain (slurm/chain.sh).
#
#   LAUNCHER     srun (default; Slurm with PMIx: `srun --mpi=list` shows it) or mpirun (Open MPI with Slurm support)
#   PREFLIGHT    1: `gpt_ddp --check` first, which takes some seconds; a job that cannot run ends there
#   MAX_STARTS   of one run without a new checkpoint, then it stays ended (3)
#   CONTAINER    an image to run in (container.sbatch)
#
# What happens after each exit code of the program:
#
#   0                     done
#   85                    saved before the time was up or after a signal: goes on
#   71 86 and a kill      a node, a network, a device or a process failed: goes on from the last checkpoint
#   64 65 66 74 87 88     would come again, or a person has to look: stays ended
#
# Neither goes on when the job was cancelled, nor when it has started MAX_STARTS times since the last checkpoint; then
# the exit code is 71. The exit code is the program's otherwise, so a site may also requeue by RequeueExit=85.
set -u

# Slurm's warning before the time is up must not end this script while there are no ranks that train: it ends the job
# before they start.
warned=0
trap 'warned=1' USR1

program=(./gpt_ddp)
one_task=()          # before a program that is to run once
container_options=() # of srun
if [ -n "${CONTAINER:-}" ]; then
    . slurm/container.sh || exit 64
elif [ ! -x ./gpt_ddp ]; then
    echo "no ./gpt_ddp in $PWD: build it, and call sbatch in the repository root" >&2
    exit 66
fi

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS # since Slurm 22.05 srun no longer takes it from sbatch
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}

# When the job ends, for the program, which saves before. Newer versions of Slurm set it themselves (22.05 does not).
# (SLURM_TIME_FORMAT: a user's own format of times need not say the day.)
if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(SLURM_TIME_FORMAT=standard squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null); then
    SLURM_JOB_END_TIME=$(date -d "$end" +%s 2>/dev/null) && export SLURM_JOB_END_TIME
fi

arguments=("${@:-configs/owt.ini}")

# No --gpu-bind: each rank is to see all GPUs of the job on its node (NCCL copies between them), and only those
# (--gpu-bind=none would leave CUDA_VISIBLE_DEVICES unset). Rank i of a node takes the i-th.
case ${LAUNCHER:-srun} in
srun)
    export SLURM_MPI_TYPE=${SLURM_MPI_TYPE:-pmix} # a site with several: pmix_v4, say
    launch=(srun --mpi="$SLURM_MPI_TYPE" --kill-on-bad-exit=1 --cpu-bind=cores
        ${container_options[@]+"${container_options[@]}"})
    ;;
mpirun) launch=(mpirun --bind-to none -x OMP_NUM_THREADS -x NCCL_DEBUG) ;;
*)
    echo "LAUNCHER=$LAUNCHER: known are srun and mpirun" >&2
    exit 64
    ;;
esac

say() { echo "$(date '+%F %T') job $SLURM_JOB_ID: $*"; }

job_state() { squeue -h -j "$SLURM_JOB_ID" -o '%T %r' 2>/dev/null; }

# The run is over: a chain's other jobs, which wait, are not needed.
end_chain() {
    [ -n "${GPT_CHAIN:-}" ] || return 0
    scancel --user="$(id -un)" --name="$GPT_CHAIN" --state=PENDING
}

# Cancelled jobs stay cancelled. One that reached its time limit is COMPLETING for that reason.
may_go_on() {
    case $(job_state) in
    RUNNING* | *TimeLimit | "") return 0 ;;
    esac
    say "cancelled: not put back into the queue"
    return 1
}

# A controller that is busy may fail to answer.
requeue() {
    local pause
    for pause in 0 2 5; do
        sleep $pause
        scontrol requeue "$SLURM_JOB_ID" && return
    done
    return 1
}

go_on() {
    may_go_on || { end_chain; return; }
    if [ -n "${GPT_CHAIN:-}" ]; then
        say "the next job of the chain goes on"
    elif ! requeue; then
        say "this site does not requeue: submit it again with init_from=auto, or use slurm/chain.sh" >&2
    fi
}

# Starts the ranks with these arguments and waits for them; $code is how they ended. `wait` returns early when a signal
# arrives; then the ranks are still saving. At the time limit Slurm sends TERM to all, and kills what is left after a
# while: time to save, when there is little, and to requeue.
run_ranks() {
    local signalled=1
    "${launch[@]}" "${program[@]}" "$@" &
    ranks=$!
    trap 'signalled=1 warned=1; kill -USR1 $ranks 2>/dev/null' USR1
    trap 'signalled=1' TERM
    while [ $signalled = 1 ]; do
        signalled=0
        wait $ranks
        code=$?
    done
}

# ---- may it start, and where from? --------------------------------------------------------------------------------

settings=$(${one_task[@]+"${one_task[@]}"} "${program[@]}" "${arguments[@]}" --print-config) || {
    code=$?
    end_chain
    exit $code
}
out_dir=$(sed -n 's/^out_dir = //p' <<<"$settings" | sed "s/^\(['\"]\)\(.*\)\1\$/\2/")
newest=$(launch/start_guard.sh "$out_dir" "${GPT_CHAIN:-$SLURM_JOB_ID}" "${MAX_STARTS:-3}") || {
    code=$?
    end_chain
    exit $code
}
# A first start does what the config says. (`resume`, not `auto`: where a config starts from a model directory, nothing
# else may take its place.)
restarted=${SLURM_RESTART_COUNT:-0}
[ -n "${GPT_CHAIN:-}" ] && restarted=$(($(grep -c " run $GPT_CHAIN " "$out_dir/starts.log") - 1))
[ "$restarted" -gt 0 ] && [ "$newest" -ge 0 ] && arguments+=(--init_from=resume)

# A node that lost its power keeps the socket of Slurm's PMIx plugin, which is named after job and step, and then cannot
# start that step of that job again ("launch failed: Unspecified error"; seen with Slurm 22.05). So a job that starts
# again uses up some step numbers before.
if [ "${LAUNCHER:-srun}" = srun ]; then
    for ((i = ${SLURM_RESTART_COUNT:-0} % 8; i > 0; i--)); do
        srun --mpi=none --nodes=1 --ntasks=1 true
    done
fi

if [ "${PREFLIGHT:-0}" = 1 ]; then
    say "${launch[*]} ${program[*]} --check ${arguments[*]}"
    run_ranks --check "${arguments[@]}"
    if [ "$code" != 0 ] && [ $warned = 0 ]; then
        say "the preflight failed: exit code $code after $SECONDS s"
        end_chain
        exit "$code"
    fi
fi

# ---- the run ------------------------------------------------------------------------------------------------------

if [ $warned = 1 ]; then
    say "a signal came before the run: it is not started"
    go_on
    exit 85
fi
say "on ${SLURM_JOB_NODELIST:-?}, from update $newest: ${launch[*]} ${program[*]} ${arguments[*]}"
run_ranks "${arguments[@]}"
say "exit code $code after $SECONDS s"
case $code in
0) # which srun also says when a node of its was lost: then the job is no longer RUNNING
    case $(job_state) in
    RUNNING* | "") end_chain ;;
    esac
    ;;
64 | 65 | 66 | 74 | 87 | 88) end_chain ;;
*) go_on ;;
esac
exit "$code"
