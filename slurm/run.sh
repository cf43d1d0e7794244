# Sourced by the .sbatch files here, in the directory sbatch was called in: starts the ranks, passes USR1 on
# to them, and puts the job back into the queue when they say that they have saved.
#
#   LAUNCHER          srun (Slurm with PMIx; `srun --mpi=list` shows it) or mpirun (Open MPI with Slurm support)
#   MIN_RUN_SECONDS   a job stopped sooner than this is not requeued: it could go on so for ever (60)
#
# Exit codes of the program: 0 done; 85 saved, wants to be requeued; anything else is a fault, and stays one.
set -u

if [ ! -x ./gpt_ddp ]; then
    echo "no ./gpt_ddp in $PWD: build it, and call sbatch in the repository root" >&2
    exit 66
fi

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS # since Slurm 22.05 srun no longer takes it from sbatch
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}

arguments=("${@:-configs/owt.ini}")
# A restarted job goes on from the newest checkpoint, whatever the config says about a first start. (Where
# that is a model directory, `resume` in place of `auto` also minds a node lost before the first checkpoint.)
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && arguments+=(--init_from=auto)

# No --gpu-bind: each rank is to see all GPUs of the job on its node (NCCL copies between them), and only those
# (--gpu-bind=none would leave CUDA_VISIBLE_DEVICES unset). Rank i of a node takes the i-th.
case ${LAUNCHER:-srun} in
srun) launch=(srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores) ;;
mpirun) launch=(mpirun --bind-to none -x OMP_NUM_THREADS -x NCCL_DEBUG) ;;
*)
    echo "LAUNCHER=$LAUNCHER: known are srun and mpirun" >&2
    exit 64
    ;;
esac

echo "$(date '+%F %T') job $SLURM_JOB_ID on ${SLURM_JOB_NODELIST:-?}: ${launch[*]} ./gpt_ddp ${arguments[*]}"
"${launch[@]}" ./gpt_ddp "${arguments[@]}" &
ranks=$!

# `wait` returns early when a signal arrives; then the ranks are still saving, and it waits again.
trap 'signalled=1; kill -USR1 $ranks 2>/dev/null' USR1
signalled=1
while [ $signalled = 1 ]; do
    signalled=0
    wait $ranks
    code=$?
done
echo "$(date '+%F %T') job $SLURM_JOB_ID: exit code $code after $SECONDS s"

if [ "$code" = 85 ]; then
    if [ $SECONDS -ge "${MIN_RUN_SECONDS:-60}" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "not requeued: stopped too soon to get anywhere; is --time shorter than --signal?" >&2
    fi
fi
exit "$code"
