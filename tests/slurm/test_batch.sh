#!/usr/bin/env bash
# The batch scripts without Slurm: its commands and mpirun are stand-ins that write down how they were called.
set -uo pipefail
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$GPT_SOURCE/slurm" "$work" && mkdir "$work/bin" "$work/launch" && cd "$work" || exit 1
cp "$GPT_SOURCE/launch/start_guard.sh" launch
fail() {
    echo "FAIL: $*"
    sed 's/^/    /' out calls 2>/dev/null
    failures=$((failures + 1))
}

cat >bin/srun <<'END'
#!/bin/bash
# Runs the program, as one rank.
{ basename "$0" | tr '\n' ' ' && printf '%q ' "$@" && echo; } >>calls
while [ $# -gt 0 ] && [ "$1" != ./gpt_ddp ]; do shift; done
[ $# = 0 ] || exec "$@"
END
cp bin/srun bin/mpirun
for name in scontrol scancel sbatch; do
    printf '#!/bin/bash\necho "%s $*" >>calls\n' $name >bin/$name
done
echo '[ "$(wc -l <calls)" -gt "${BUSY:-0}" ]' >>bin/scontrol # the first BUSY calls of all fail
cat >bin/squeue <<'END'
#!/bin/bash
case "$*" in
*%e*) [ "${SLURM_TIME_FORMAT:-standard}" = standard ] && echo "2030-01-01T00:00:00" || echo "1 Jan 00:00" ;;
*%T*) echo "${STATE:-RUNNING None}" ;;
esac
END
cat >gpt_ddp <<'END'
#!/bin/bash
# Ends with $CODE; with CODE=signal runs until USR1, then takes a while to save. SAVES=1: a checkpoint of one update more.
[ "${!#}" = --print-config ] && { [ -z "${BATCH:-}" ] || kill -USR1 "$BATCH"; echo "out_dir = \"$OUT\""; exit "${SETTINGS:-0}"; }
[ "$1" = --check ] && { [ -z "${DURING_CHECK:-}" ] || kill -USR1 "$DURING_CHECK"; exit "${CHECK:-0}"; }
echo "ends at ${SLURM_JOB_END_TIME:-?}" >>calls
[ "${SAVES:-0}" = 1 ] && ./checkpoint "$OUT/step_$(printf %08d "$(ls -d "$OUT"/step_* 2>/dev/null | wc -l)")"
[ "$CODE" = signal ] || exit "$CODE"
trap 'sleep 0.5; exit 85' USR1
touch started
while :; do sleep 0.05; done
END
cat >checkpoint <<'END'
#!/bin/bash
# Directories that look like whole checkpoints.
for dir; do
    mkdir -p "$dir"
    echo '{}' >"$dir/config.json"
    printf '{\n  "files": [\n    {"name": "config.json", "bytes": 3, "xxh3_64": ["0"]}\n  ]}\n' >"$dir/MANIFEST.json"
done
END
chmod +x bin/* gpt_ddp checkpoint
export PATH=$work/bin:$PATH SLURM_JOB_ID=17 SLURM_CPUS_PER_TASK=3 OUT="an out dir"
unset SLURM_RESTART_COUNT LAUNCHER OMP_NUM_THREADS SLURM_JOB_END_TIME CONTAINER GPT_CHAIN PREFLIGHT MAX_STARTS

# run CODE SCRIPT ARGUMENTS...: the exit code of the batch script, in an out_dir without starts
run() {
    rm -rf "$OUT"
    again "$@"
}

# The same job another time.
again() {
    rm -f calls out started && touch calls
    CODE=$1 bash "${@:2}" >out 2>&1
}

for script in slurm/one_node.sbatch slurm/multi_node.sbatch; do
    run 0 $script || fail "$script: a run that ends well does not end with 0"
    grep -q '^srun .*--mpi=pmix.* ./gpt_ddp configs/owt.ini $' calls || fail "$script: default config"
    grep -q "^ends at $(date -d 2030-01-01T00:00:00 +%s)$" calls || fail "$script: the program does not know the end"
    grep -qE 'scontrol|scancel' calls && fail "$script: requeued a finished run"

    run 0 $script configs/my.ini '--dataset=two words'
    grep -q ' ./gpt_ddp configs/my.ini --dataset=two\\ words $' calls || fail "$script: arguments"

    LAUNCHER=mpirun run 0 $script
    grep -q '^mpirun .* ./gpt_ddp configs/owt.ini $' calls || fail "$script: LAUNCHER=mpirun"

    LAUNCHER=other run 0 $script
    [ $? = 64 ] || fail "$script: an unknown launcher is not 64"
done
script=slurm/one_node.sbatch

SETTINGS=64 run 0 $script
[ $? = 64 ] || fail "a mistake in the settings is not 64"
grep -q srun calls && fail "ranks were started with a mistake in the settings"

# ---- going on -----------------------------------------------------------------------------------------------------

for code in 85 71 86 137 1; do
    run $code $script
    [ $? = $code ] || fail "$code is not passed on"
    grep -qx 'scontrol requeue 17' calls || fail "$code is not requeued"
done
for code in 64 65 66 74 87 88; do
    run $code $script
    [ $? = $code ] || fail "$code is not passed on"
    grep -q scontrol calls && fail "requeued after $code"
done
BUSY=3 run 85 $script # two lines are of srun and the program
[ "$(grep -cx 'scontrol requeue 17' calls)" = 2 ] || fail "a controller that fails to answer is not asked again"
STATE="COMPLETING None" run 85 $script
grep -q scontrol calls && fail "requeued a cancelled job"
STATE="COMPLETING TimeLimit" run 85 $script
grep -q 'scontrol requeue' calls || fail "did not requeue a job whose time was up"

# A restart goes on where there is a checkpoint, and otherwise begins as the config says.
SLURM_RESTART_COUNT=1 run 0 $script configs/my.ini
grep -q 'configs/my.ini $' calls || fail "a restart without a checkpoint does not begin anew"
./checkpoint "$OUT/step_00000100" "$OUT/step_00000020" "$OUT/.tmp_step_00000200" "$OUT/step_00000300" "$OUT/step_00000400"
echo >>"$OUT/step_00000300/config.json" # one has another size
rm "$OUT/step_00000400/MANIFEST.json"
SLURM_RESTART_COUNT=2 again 0 $script configs/my.ini
grep -q 'configs/my.ini --init_from=resume $' calls || fail "a restart does not continue"
[ "$(grep -c '^srun .* true $' calls)" = 2 ] || fail "a second restart does not use up two step numbers"
grep -q 'from update 100:' out || fail "it does not say where it starts: $(cat out)"
again 0 $script configs/my.ini
grep -q 'configs/my.ini $' calls || fail "a first start does not do what the config says"
mv "$OUT" elsewhere && ln -s elsewhere "$OUT"
SLURM_RESTART_COUNT=3 again 0 $script configs/my.ini
grep -q 'configs/my.ini --init_from=resume $' calls || fail "a restart does not continue where out_dir is a link"
rm -rf "$OUT" elsewhere
SLURM_TIME_FORMAT=relative run 0 $script
grep -q "^ends at $(date -d 2030-01-01T00:00:00 +%s)$" calls || fail "SLURM_TIME_FORMAT hides the end of the job"

# ---- the guard ----------------------------------------------------------------------------------------------------

run 85 $script
for start in 2 3; do
    again 85 $script
    [ $? = 85 ] || fail "start $start is refused"
done
again 85 $script
[ $? = 71 ] || fail "start 4 without a checkpoint is not refused"
grep -q 'started 3 times and has saved nothing since update -1' out || fail "not said: $(cat out)"
grep -qE 'srun|scontrol' calls && fail "started or requeued all the same"
SLURM_JOB_ID=18 again 85 $script
[ $? = 85 ] || fail "another job is refused"
SAVES=1 run 85 $script
for start in 2 3 4 5; do
    SAVES=1 again 85 $script
    [ $? = 85 ] || fail "start $start is refused though each saved"
done
MAX_STARTS=1 run 85 $script
MAX_STARTS=1 again 85 $script
[ $? = 71 ] || fail "MAX_STARTS=1 is not minded"

# ---- a chain ------------------------------------------------------------------------------------------------------

: >calls
slurm/chain.sh 3 slurm/multi_node.sbatch configs/my.ini >out
[ "$(grep -c '^sbatch --job-name=gpt_ddp-.* --dependency=singleton .*slurm/multi_node.sbatch configs/my.ini$' calls)" = 3 ] ||
    fail "a chain of 3"
slurm/chain.sh two slurm/multi_node.sbatch >out 2>&1 && fail "a chain of two"

export GPT_CHAIN=gpt_ddp-1
for code in 85 71; do
    run $code $script
    grep -qE 'scontrol|scancel' calls && fail "chain: requeued or cancelled after $code"
done
SLURM_JOB_ID=18 SAVES=1 again 85 $script
SLURM_JOB_ID=19 again 0 $script
grep -q 'init_from=resume $' calls || fail "chain: the next job does not continue"
for code in 0 65 88; do
    run $code $script
    grep -q '^scancel .*--name=gpt_ddp-1 --state=PENDING$' calls || fail "chain: others still wait after $code"
done
run 85 $script
for start in 2 3 4; do again 85 $script; done
grep -q scancel calls || fail "chain: others still wait after the guard"
unset GPT_CHAIN

# ---- preflight, container -----------------------------------------------------------------------------------------

PREFLIGHT=1 run 0 $script configs/my.ini
grep -q './gpt_ddp --check configs/my.ini $' calls || fail "no preflight"
grep -q './gpt_ddp configs/my.ini $' calls || fail "no run after the preflight"
PREFLIGHT=1 CHECK=66 run 0 $script configs/my.ini
[ $? = 66 ] || fail "a failed preflight is not passed on"
grep -q './gpt_ddp configs/my.ini $' calls && fail "a run after a failed preflight"

CONTAINER=/images/a.sqsh run 0 slurm/container.sbatch configs/my.ini
grep -q '^srun --mpi=pmix .*--container-image=/images/a.sqsh .* ./gpt_ddp configs/my.ini $' calls || fail "pyxis"
CONTAINER=/images/a.sqsh LAUNCHER=mpirun run 0 slurm/container.sbatch
[ $? = 64 ] || fail "mpirun with pyxis is not refused"
cp bin/srun bin/apptainer
CONTAINER=/images/a.sif LAUNCHER=mpirun run 0 slurm/container.sbatch configs/my.ini
grep -q '^mpirun .* apptainer exec .*/images/a.sif ./gpt_ddp configs/my.ini $' calls || fail "apptainer"
run 0 slurm/container.sbatch && fail "container.sbatch without an image"

# ---- signals ------------------------------------------------------------------------------------------------------

# USR1 before there are ranks, or to those of the preflight: no run begins, and the job goes on later.
for name in BATCH DURING_CHECK; do
    rm -rf calls out "$OUT" && touch calls
    PREFLIGHT=1 CODE=0 bash -c "$name=\$\$ exec bash \"\$0\"" $script >out 2>&1
    [ $? = 85 ] && grep -qx 'scontrol requeue 17' calls || fail "a signal before the run ($name) did not end the job with 85"
    grep -q '^ends at' calls && fail "a run began after a signal ($name)"
done

# USR1 to the batch script, twice: the ranks get it, may finish saving, and their code is the job's.
rm -rf calls out started "$OUT" && touch calls
CODE=signal bash $script >out 2>&1 &
job=$!
for _ in $(seq 400); do [ -e started ] && break; sleep 0.05; done
kill -USR1 $job && sleep 0.1 && kill -USR1 $job
wait $job
[ $? = 85 ] || fail "a signalled run does not end with 85"
grep -qx 'scontrol requeue 17' calls || fail "a signalled run is not requeued"

if command -v shellcheck >/dev/null; then
    shellcheck -x slurm/*.sh slurm/*.sbatch launch/*.sh \
        "$GPT_SOURCE"/tests/slurm/cluster.sh || fail "shellcheck"
else
    for script in slurm/*.sh slurm/*.sbatch; do bash -n "$script" || fail "$script: syntax"; done
fi

mv gpt_ddp elsewhere
run 0 slurm/one_node.sbatch
[ $? = 66 ] || fail "a missing program is not 66"
grep -q 'build it' out || fail "a missing program: no advice"
exit $((failures > 0))
