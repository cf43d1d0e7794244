#!/usr/bin/env bash
# Feed the readers of files from outside with damaged files: libFuzzer, AddressSanitizer, UBSan.
#
#     tests/fuzz/run.sh [--fast] [SECONDS] [TARGET...]              so long per target (default 3)
#     tests/fuzz/run.sh [--fast] --executions=50000000 [TARGET...]  so many per target
#
# --fast: UBSan alone, and comparisons are not traced: 3 to 20 times as many a second, for tens of millions. What it
# reaches is then in the corpus of a run with AddressSanitizer: all runs share one.
#
# Prints executions, how many per second, and the result. What fails stays in build-fuzz/found/, what is found to be
# interesting in build-fuzz/corpus/: merge.sh adds it to the corpus. coverage.sh prints how much the corpus reaches.
# Ends with 77, skipped, without clang and its libFuzzer.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${GPT_FUZZ_BUILD:-build-fuzz}
programs=$build kind=ON limit=(-max_total_time=3)
[ "${1:-}" = --fast ] && { programs=$build/fast kind=fast; shift; }
case ${1:-} in
--executions=*) limit=(-runs="${1#*=}"); shift ;;
[0-9]*) limit=(-max_total_time="$1"); shift ;;
esac

mkdir -p "$build/found" "$programs"
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 99; }' >"$build/probe.c"
if ! clang -fsanitize=fuzzer,address "$build/probe.c" -o "$build/probe" 2>/dev/null; then
    echo "skipped: fuzzing needs clang with libFuzzer (Debian: clang and libclang-rt-dev)"
    exit 77
fi
{ cmake -S . -B "$programs" -DCMAKE_C_COMPILER=clang -DGPT_FUZZ=$kind -DGPT_TESTS=OFF -DGPT_CUDA=off &&
    cmake --build "$programs/tests/fuzz"; } >"$programs/build.log" 2>&1 || { cat "$programs/build.log"; exit 1; }

run_target() { # target
    local dict=tests/fuzz/json.dict log=$programs/$1.log work=$build/corpus/$1 status=0 longest=2048
    [ "$1" = config ] && dict=tests/fuzz/ini.dict
    [ "$1" = python ] && dict=tests/fuzz/python.dict
    [ "$1" = bpe ] && longest=8192 # a vocabulary has 256 tokens at least
    mkdir -p "$work"
    # Short stacks of allocations: half of the time would go into walking them.
    ASAN_OPTIONS=malloc_context_size=2:quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1 \
        "$programs/tests/fuzz/fuzz_$1" "${limit[@]}" -dict=$dict -max_len=$longest -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" "$work" "tests/fuzz/corpus/$1" >"$log" 2>&1 || status=$?
    printf '%-12s %10s executions, %6s/s, %s\n' "$1" "$(sed -n 's/.*number_of_executed_units: *//p' "$log")" \
        "$(sed -n 's/.*average_exec_per_sec: *//p' "$log")" "$([ $status = 0 ] && echo "no fault" || echo FAULT)"
    [ $status = 0 ] || { tail -40 "$log"; return 1; }
}

targets=("$@")
[ $# -gt 0 ] || targets=(config python dataset shards meta pickle bpe safetensors index record hf_config manifest folder)
faults=0
for target in "${targets[@]}"; do
    run_target "$target" || faults=$((faults + 1))
done
[ $faults = 0 ] && echo "all ${#targets[@]} targets without a fault"
