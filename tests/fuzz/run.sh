#!/usr/bin/env bash
# Feed the readers of files from outside with damaged files: libFuzzer, AddressSanitizer, UBSan.
#
#     tests/fuzz/run.sh [SECONDS] [TARGET...]              so long per target (default 3)
#     tests/fuzz/run.sh --executions=50000000 [TARGET...]  so many per target; an hour or so each
#
# Prints executions, lines of the reader reached, and the result. What fails stays in build-fuzz/found/.
# Ends with 77, skipped, without clang and its libFuzzer.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${GPT_FUZZ_BUILD:-build-fuzz}
limit=(-max_total_time=3)
case ${1:-} in
--executions=*) limit=(-runs="${1#*=}"); shift ;;
[0-9]*) limit=(-max_total_time="$1"); shift ;;
esac

mkdir -p "$build/found"
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 99; }' >"$build/probe.c"
if ! clang -fsanitize=fuzzer,address "$build/probe.c" -o "$build/probe" 2>/dev/null; then
    echo "skipped: fuzzing needs clang with libFuzzer (Debian: clang and libclang-rt-dev)"
    exit 77
fi
{ cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DGPT_FUZZ=ON -DGPT_TESTS=OFF -DGPT_CUDA=off &&
    cmake --build "$build/tests/fuzz"; } >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }

# The files that a target reads with.
declare -A READER=([config]="src/config/config.c src/config/ini.c src/config/value.c" [shards]=src/data/shards.c
    [meta]=src/data/tokenizer.c [safetensors]="src/checkpoint/safetensors.c src/checkpoint/hf.c"
    [record]="src/checkpoint/record.c src/checkpoint/doc.c" [hf_config]="src/checkpoint/hf.c src/checkpoint/doc.c"
    [manifest]="src/checkpoint/manifest.c" [bpe]=src/text/bpe_load.c)

# "file covered/all lines" per file, when llvm-cov is there.
coverage() { # target
    command -v llvm-profdata llvm-cov >/dev/null || { echo "(no llvm-cov)"; return; }
    llvm-profdata merge -sparse "$build/$1.profraw" -o "$build/$1.profdata" &&
        llvm-cov report "$build/tests/fuzz/fuzz_$1" -instr-profile="$build/$1.profdata" ${READER[$1]} 2>/dev/null |
        awk '$1 ~ /\.c$/ { n = split($1, part, "/"); printf "  %s %d/%d", part[n], $8 - $9, $8 }'
}

run_target() { # target
    local dict=tests/fuzz/json.dict log=$build/$1.log work=$build/corpus/$1 status=0
    [ "$1" = config ] && dict=tests/fuzz/ini.dict
    mkdir -p "$work"
    LLVM_PROFILE_FILE="$build/$1.profraw" UBSAN_OPTIONS=print_stacktrace=1 "$build/tests/fuzz/fuzz_$1" \
        "${limit[@]}" -dict=$dict -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" "$work" "tests/fuzz/corpus/$1" >"$log" 2>&1 || status=$?
    printf '%-12s %10s executions, %s' "$1" "$(sed -n 's/.*number_of_executed_units: *//p' "$log")" \
        "$([ $status = 0 ] && echo "no fault;" || echo "FAULT;")"
    coverage "$1"
    echo
    [ $status = 0 ] || { tail -40 "$log"; return 1; }
}

targets=("$@")
[ $# -gt 0 ] || targets=(config shards meta bpe safetensors record hf_config manifest)
faults=0
for target in "${targets[@]}"; do
    run_target "$target" || faults=$((faults + 1))
done
[ $faults = 0 ] && echo "all ${#targets[@]} targets without a fault"
