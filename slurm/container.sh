# shellcheck shell=bash
# Sourced by run.sh when CONTAINER names an image: how ./gpt_ddp is started in it. With srun by pyxis (enroot), which is
# a plugin of srun; by apptainer where CONTAINER ends in .sif, with srun or mpirun.
#
#   CONTAINER_MOUNTS   FOLDER:FOLDER,... beside this one, which is mounted under its own name
# shellcheck disable=SC2034 # run.sh uses what is set here
mounts=$PWD:$PWD${CONTAINER_MOUNTS:+,$CONTAINER_MOUNTS}
case ${LAUNCHER:-srun}:$CONTAINER in
*.sif)
    gpus=()
    [ -n "${SLURM_JOB_GPUS:-${SLURM_GPUS_ON_NODE:-}}" ] && gpus=(--nv)
    program=(apptainer exec ${gpus[@]+"${gpus[@]}"} --bind "$mounts" --pwd "$PWD" "$CONTAINER" ./gpt_ddp)
    ;;
srun:*)
    container_options=(--container-image="$CONTAINER" --container-mounts="$mounts" --container-workdir="$PWD")
    one_task=(srun --mpi=none --nodes=1 --ntasks=1 "${container_options[@]}")
    ;;
*)
    echo "CONTAINER=$CONTAINER: mpirun runs an image of apptainer (.sif); another needs LAUNCHER=srun and pyxis" >&2
    return 1
    ;;
esac
