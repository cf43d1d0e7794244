#!/usr/bin/env bash
# comm_abort ends every rank, also those that wait for the one that calls it, with the exit code asked for.
set -uo pipefail
failures=0
for np in 1 2 4; do
    timeout 60 mpirun --oversubscribe -np $np "$GPT_TOOLS/tool_comm_abort" 86 >/dev/null 2>&1
    code=$?
    if [ $code -ne 86 ]; then
        echo "FAIL: $np ranks: exit code $code, wanted 86"
        failures=$((failures + 1))
    fi
done
exit $((failures > 0))
