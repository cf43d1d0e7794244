#!/usr/bin/env bash
# Submit a run as a chain of jobs, for sites where a job may not requeue itself: each goes on where the one before it
# stopped, whatever stopped it. When the run is done, or fails for good, the jobs that still wait are cancelled.
#
#     slurm/chain.sh 5 slurm/multi_node.sbatch configs/gpt2_xl.ini --max_iters=200000
#     SBATCH_PARTITION=gpu SBATCH_ACCOUNT=mine slurm/chain.sh 5 slurm/one_node.sbatch configs/owt.ini
#
# The jobs have one name, which no others have, and --dependency=singleton: Slurm runs one of them at a time.
set -euo pipefail
if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi
n_jobs=$1
shift
GPT_CHAIN=gpt_ddp-$(date +%Y%m%d-%H%M%S)-$$
export GPT_CHAIN
for ((i = 1; i <= n_jobs; i++)); do
    sbatch --job-name="$GPT_CHAIN" --dependency=singleton --no-requeue --export=ALL "$@"
done
echo "cancel them all: scancel --name=$GPT_CHAIN"
