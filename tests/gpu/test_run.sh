#!/usr/bin/env bash
# run.sh, where there is no GPU: some of its parts, on the emulated one of this build. Without one they fail, each by
# itself; without mpirun the parts of several ranks are skipped, and say so.
set -uo pipefail
build=$(dirname "$GPT_TOOLS")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }
grep -q '^GPT_CUDA:STRING=emulated$' "$build/CMakeCache.txt" || { echo "skipped: no emulated GPU in this build"; exit 77; }

run() { # NAME ARGS...: status, and what it wrote under work/NAME
    OUT=$work/$1 "$GPT_SOURCE/tests/gpu/run.sh" --emulated --build="$build" "${@:2}" >"$work/$1.out" 2>&1
    status=$?
}
line() { # NAME PART PATTERN: the line of a part in the table
    grep -Eq "^$2 +$3" "$work/$1/table.txt" || fail "$1: no line \"$2 $3\" in $(cat "$work/$1.out")"
}

run good --skip-bench --only='^(primitives|data|train_cpu|train_float32|gradients|ranks_2_mpi)$'
[ $status = 0 ] || fail "good: exit status $status: $(cat "$work/good.out")"
line good primitives 'ok .* 1 suites'
line good train_float32 'ok .* 22 lines, largest relative difference'
line good gradients 'ok .* smallest cosine 0.999'
line good ranks_2_mpi 'ok '
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys
parts = json.load(open(sys.argv[1]))["parts"]
sys.exit(len(parts) != 6 or any(part["status"] != "ok" for part in parts))' "$work/good/results.json" ||
        fail "results.json: $(cat "$work/good/results.json")"
fi

# No GPU at all, and no mpirun. Each part says so; the CPU's still ends well.
mkdir "$work/path"
# shellcheck disable=SC2046 # folders
find -L $(tr : ' ' <<<"$PATH") -maxdepth 1 -type f ! -name 'mpirun*' ! -name 'mpiexec*' ! -name orterun \
    ! -name prterun -exec ln -s -t "$work/path" {} + 2>/dev/null
PATH=$work/path GPT_EMU_DEVICES=0 run none --skip-bench --only='^(primitives|data|train_cpu|train_float32|ranks_2_mpi)$'
[ $status = 1 ] || fail "none: exit status $status"
line none primitives 'FAILED .*skipped: '
line none train_cpu 'ok '
line none train_float32 'FAILED .*device = cuda'
line none ranks_2_mpi 'skipped .* no mpirun here'
grep -q '^5 parts, 2 failed' "$work/none/table.txt" || fail "none: $(tail -1 "$work/none/table.txt")"
exit $((failures > 0))
