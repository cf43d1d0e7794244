#!/usr/bin/env bash
# The batch scripts without Slurm: srun, mpirun and scontrol are stand-ins that write down how they were called.
set -uo pipefail
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$GPT_SOURCE/slurm" "$work" && mkdir "$work/bin" && cd "$work" || exit 1
fail() {
    echo "FAIL: $*"
    sed 's/^/    /' out calls 2>/dev/null
    failures=$((failures + 1))
}

cat >bin/launcher <<'END'
#!/bin/bash
# Runs the program, as one rank.
{ basename "$0" | tr '\n' ' ' && printf '%q ' "$@" && echo; } >>calls
while [ "$1" != ./gpt_ddp ]; do shift; done
exec "$@"
END
cp bin/launcher bin/srun && mv bin/launcher bin/mpirun
printf '#!/bin/bash\necho "scontrol $*" >>calls\n' >bin/scontrol
cat >gpt_ddp <<'END'
#!/bin/bash
# Ends with $CODE; with CODE=signal runs until USR1, then takes a while to save.
[ "$CODE" = signal ] || exit "$CODE"
trap 'sleep 0.5; exit 85' USR1
touch started
while :; do sleep 0.05; done
END
chmod +x bin/* gpt_ddp
export PATH=$work/bin:$PATH SLURM_JOB_ID=17 SLURM_CPUS_PER_TASK=3 MIN_RUN_SECONDS=0
unset SLURM_RESTART_COUNT LAUNCHER OMP_NUM_THREADS

# run CODE SCRIPT ARGUMENTS...: the exit code of the batch script
run() {
    rm -f calls out started && touch calls
    CODE=$1 bash "${@:2}" >out 2>&1
}

for script in slurm/one_node.sbatch slurm/multi_node.sbatch; do
    bash -n "$script" || fail "$script: syntax"

    run 0 $script
    [ $? = 0 ] || fail "$script: a run that ends well does not end with 0"
    grep -q '^srun .*--mpi=pmix.* ./gpt_ddp configs/owt.ini $' calls || fail "$script: default config"
    grep -q scontrol calls && fail "$script: requeued a finished run"

    run 0 $script configs/my.ini '--dataset=two words'
    grep -q ' ./gpt_ddp configs/my.ini --dataset=two\\ words $' calls || fail "$script: arguments"

    LAUNCHER=mpirun run 0 $script
    grep -q '^mpirun .* ./gpt_ddp configs/owt.ini $' calls || fail "$script: LAUNCHER=mpirun"

    LAUNCHER=other run 0 $script
    [ $? = 64 ] || fail "$script: an unknown launcher is not 64"

    SLURM_RESTART_COUNT=1 run 0 $script configs/my.ini
    grep -q 'configs/my.ini --init_from=auto $' calls || fail "$script: a restart does not continue"

    run 85 $script
    [ $? = 85 ] || fail "$script: 85 is not passed on"
    grep -qx 'scontrol requeue 17' calls || fail "$script: 85 is not requeued"

    MIN_RUN_SECONDS=60 run 85 $script
    grep -q scontrol calls && fail "$script: requeued a job stopped at once"

    for code in 64 71 86; do
        run $code $script
        [ $? = $code ] || fail "$script: exit code $code is not passed on"
        grep -q scontrol calls && fail "$script: requeued after a fault ($code)"
    done

    # USR1 to the batch script, twice: the ranks get it, may finish saving, and their code is the job's.
    rm -f calls out started && touch calls
    CODE=signal bash $script >out 2>&1 &
    job=$!
    for _ in $(seq 200); do [ -e started ] && break; sleep 0.05; done
    kill -USR1 $job && sleep 0.1 && kill -USR1 $job
    wait $job
    [ $? = 85 ] || fail "$script: a signalled run does not end with 85"
    grep -qx 'scontrol requeue 17' calls || fail "$script: a signalled run is not requeued"
done

mv gpt_ddp elsewhere
run 0 slurm/one_node.sbatch
[ $? = 66 ] || fail "a missing program is not 66"
grep -q 'build it' out || fail "a missing program: no advice"
exit $((failures > 0))
