# Sourced by the scripts here: what mpirun wants in a container or as root, and on few cores.
if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# More ranks than cores may be asked for; and containers often forbid the single-copy path.
# Ranks that wait give way: on a busy machine the others would otherwise wait for them to finish waiting.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
