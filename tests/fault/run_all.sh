#!/usr/bin/env bash
# Every full count of this folder, one after another, and a table of what came out. About four hours on two free cores.
#
#     tests/fault/run_all.sh [BUILD [DIVISOR]]     BUILD: the build folder (build); counts are divided by DIVISOR (1)
#
# Needs the programs and the tests built. What they print in full stays in BUILD/fault/.
set -uo pipefail
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "${1:-build}" && pwd)
divisor=${2:-1}
logs=$build/fault
mkdir -p "$logs"
export GPT_SOURCE=$source_dir GPT_TOOLS=$build/tests OMP_NUM_THREADS=1
export GPT_BIN=${GPT_BIN:-$(sed -n 's/^GPT_PROGRAM_DIR:PATH=//p' "$build/CMakeCache.txt")}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
[ -d /dev/shm ] && export TMPDIR=/dev/shm
count() { echo $((($1 + divisor - 1) / divisor)); }
failures=0

# run NAME COMMAND...: one line of the table, which ends with the last line that the command printed.
run() {
    local name=$1 since=$SECONDS result=FAILED
    shift
    "$@" >"$logs/$name.log" 2>&1
    case $? in
    0) result=passed ;;
    77) result=skipped ;;
    *) failures=$((failures + 1)) ;;
    esac
    printf '%-10s %-7s %6d s   %s\n' "$name" $result $((SECONDS - since)) "$(tail -1 "$logs/$name.log")"
}

run saves "$build/tests/test_fault_save"
[ -x "$build/tests/mpi_test_fault_save" ] &&
    run saves-np4 env GPT_FULL=1 mpirun --oversubscribe -np 4 "$build/tests/mpi_test_fault_save"
run trainer "$build/tests/test_fault_trainer"
run power "$build/tests/test_fault_power"
[ -x "$build/tests/test_fault_memory" ] && run memory "$build/tests/test_fault_memory"
run signals "$source_dir/tests/fault/test_signals.sh" "$(count 200)"
run kills "$source_dir/tests/fault/test_kill.sh" "$(count 200)"
run operations "$source_dir/tests/fault/test_operations.sh" --all
run reshard "$source_dir/tests/fault/test_reshard.sh" 3
run hangs "$source_dir/tests/e2e/test_watchdog.sh" "$(count 50)"
run slurm "$source_dir/tests/slurm/test_slurm.sh" --all
exit $((failures > 0))
