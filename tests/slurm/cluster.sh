#!/usr/bin/env bash
# A throw-away Slurm of two nodes on this machine, for one command:
#
#     tests/slurm/cluster.sh COMMAND [ARGUMENTS...]      its exit code; 77 where there can be no such cluster
#     tests/slurm/cluster.sh bash                        a shell in it: sinfo, sbatch, srun, ...
#
# and, for the command:
#
#     tests/slurm/cluster.sh --kill-node n1       power failure: every process of the node is gone at once
#     tests/slurm/cluster.sh --start-node n1      it boots again
#     tests/slurm/cluster.sh --on-node n1 NAME    the process ids of the programs NAME there
#
# Needs root and Debian's slurm-wlm. Everything is in one temporary folder ($CLUSTER_DIR), and in namespaces of its own
# for processes and mounts: when this script ends, by whatever signal, the kernel ends every daemon and job with it.
# Jobs find their temporary files in $TMPDIR, there.
# A node is a slurmd with a host name of its own, so that MPI and the program see two hosts. Its CPUs are made up, and
# its GPUs are /dev/null by another name: jobs get CUDA_VISIBLE_DEVICES as on a real node, with nothing behind it.
set -uo pipefail
nodes=(n0 n1)
cpus=4
gpus=4
self=$(realpath "$0")

skip() {
    echo "skipped: $1"
    exit 77
}

# ---- of a running cluster ---------------------------------------------------------------------------------------

host_name_of() { nsenter --target "$1" --uts hostname 2>/dev/null; }

# Process ids in the host name's namespace of node $1.
processes_of() {
    local mine entry theirs
    mine=$(readlink /proc/self/ns/uts)
    for entry in /proc/[0-9]*; do
        theirs=$(readlink "$entry/ns/uts" 2>/dev/null) || continue
        [ "$theirs" != "$mine" ] && [ "$(host_name_of "${entry#/proc/}")" = "$1" ] && echo "${entry#/proc/}"
    done
}

# /tmp is empty after a boot. (Slurm's PMIx plugin refuses to start a step whose folder is there.)
start_node() {
    rm -rf "${CLUSTER_DIR:?}/tmp/$1"/*
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --uts sh -c 'hostname "$1"; exec slurmd -f "$SLURM_CONF" -N "$1" -c' - "$1"
}

kill_node() {
    local found
    mapfile -t found < <(processes_of "$1")
    [ ${#found[@]} -gt 0 ] && kill -KILL "${found[@]}" 2>/dev/null
}

case ${1:-} in
--kill-node) kill_node "$2"; exit 0 ;;
--start-node) start_node "$2"; exit ;;
--on-node)
    for id in $(processes_of "$2"); do
        [ "$(cat "/proc/$id/comm" 2>/dev/null)" = "$3" ] && echo "$id"
    done
    exit 0
    ;;
"" | -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac

# ---- outside: a folder, and namespaces ---------------------------------------------------------------------------

if [ -z "${CLUSTER_DIR:-}" ]; then
    [ "$(id -u)" = 0 ] || skip "a Slurm of one's own needs root"
    for program in slurmctld slurmd munged sbatch; do
        command -v $program >/dev/null || skip "no $program here (Debian: slurm-wlm)"
    done
    apart=(unshare --mount --pid --fork --kill-child --mount-proc)
    "${apart[@]}" unshare --uts true 2>/dev/null || skip "namespaces are not allowed here"
    base=${TMPDIR:-/tmp}
    [[ $base/ == /dev/shm/* ]] && base=/tmp # the cluster has a /dev/shm of its own
    CLUSTER_DIR=$(mktemp -d "$base/gpt_slurm_XXXXXX")
    export CLUSTER_DIR
    trap 'kill -KILL "$inside" 2>/dev/null; wait "$inside" 2>/dev/null; rm -rf "$CLUSTER_DIR"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    TMPDIR=$CLUSTER_DIR setpriv --pdeathsig KILL "${apart[@]}" "$self" "$@" <&0 &
    inside=$!
    wait $inside
    exit
fi

# ---- inside: process 1 of its own namespace -----------------------------------------------------------------------

# Munge and Slurm listen on $1 and the next ports: a run of them that nobody has.
choose_port() {
    local base port free
    for _ in $(seq 100); do
        base=$((20000 + RANDOM % 10000)) free=true
        for port in $(seq $base $((base + ${#nodes[@]}))); do
            (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && free=false
        done
        $free && echo $base && return
    done
    return 1
}

write_config() {
    local host port=$1 node
    host=$(hostname -s)
    echo "NodeName=n[0-1] Name=gpu File=$CLUSTER_DIR/dev/gpu[0-$((gpus - 1))]" >"$CLUSTER_DIR/gres.conf"
    # No cgroups; made-up processors; quick to notice what happens. cred_expire: how long a requeued job waits.
    # TmpFS: of each node its own, for Slurm's PMIx plugin keeps files there that are named after the job alone.
    cat >"$SLURM_CONF" <<END
ClusterName=throwaway
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$CLUSTER_DIR/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=3600
SlurmctldTimeout=60
SlurmdTimeout=${SLURMD_TIMEOUT:-15}
StateSaveLocation=$CLUSTER_DIR/state
SlurmdSpoolDir=$CLUSTER_DIR/spool/%n
TmpFS=$CLUSTER_DIR/tmp/%n
SlurmctldPidFile=$CLUSTER_DIR/slurmctld.pid
SlurmdPidFile=$CLUSTER_DIR/slurmd.%n.pid
SlurmctldLogFile=$CLUSTER_DIR/log/slurmctld
SlurmdLogFile=$CLUSTER_DIR/log/slurmd.%n
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
END
    for node in "${nodes[@]}"; do
        port=$((port + 1))
        echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$port CPUs=$cpus RealMemory=2000 Gres=gpu:$gpus"
    done >>"$SLURM_CONF"
    echo "PartitionName=all Nodes=n[0-1] Default=YES MaxTime=60 State=UP" >>"$SLURM_CONF"
}

start_munge() {
    mkdir -m 700 "$CLUSTER_DIR/munge"
    head -c 1024 /dev/urandom >"$CLUSTER_DIR/munge/key"
    chmod 400 "$CLUSTER_DIR/munge/key"
    munged --force --num-threads=2 --key-file="$CLUSTER_DIR/munge/key" --socket="$CLUSTER_DIR/munge.socket" \
        --pid-file="$CLUSTER_DIR/munged.pid" --log-file="$CLUSTER_DIR/log/munged" --seed-file="$CLUSTER_DIR/munge/seed"
}

all_idle() { [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" = ${#nodes[@]} ]; }

mkdir -p "$CLUSTER_DIR"/{state,log,dev}
for node in "${nodes[@]}"; do
    mkdir -p "$CLUSTER_DIR/spool/$node" "$CLUSTER_DIR/tmp/$node"
    chmod 1777 "$CLUSTER_DIR/tmp/$node"
done
for ((i = 0; i < gpus; i++)); do mknod -m 666 "$CLUSTER_DIR/dev/gpu$i" c 1 3; done
# What killed ranks leave in shared memory goes with the namespace.
mount -t tmpfs tmpfs /dev/shm

port=$(choose_port) || skip "no free ports"
export SLURM_CONF=$CLUSTER_DIR/slurm.conf
write_config "$port"
start_munge || exit 1
slurmctld -c -f "$SLURM_CONF" || exit 1
for node in "${nodes[@]}"; do start_node "$node"; done
for _ in $(seq 300); do
    all_idle && break
    sleep 0.1
done
all_idle || {
    echo "the nodes did not come up:"
    tail -n 20 "$CLUSTER_DIR"/log/*
    exit 1
}
"$@"
