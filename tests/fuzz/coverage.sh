#!/usr/bin/env bash
# How much of the readers tests/fuzz/corpus reaches: lines per file, all targets together.
#
#     tests/fuzz/coverage.sh [--missing] [FOLDER]   --missing prints the lines it does not; FOLDER: another corpus
#
# Ends with 1 below 95 % of the lines, with 77 without clang, its libFuzzer and llvm-cov. The folder holds one folder per
# target. Not reached are, above all, the branches for when jansson's allocations fail.
set -uo pipefail
missing=false
[ "${1:-}" = --missing ] && { missing=true; shift; }
corpus=$(cd "${1:-$(dirname "${BASH_SOURCE[0]}")/corpus}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${GPT_FUZZ_BUILD:-build-fuzz}/coverage
readers=(src/config/{ini,python,value,field,config}.c src/data/{shards,tokenizer}.c
    src/data/meta_pickle.c src/text/bpe_load.c src/checkpoint/{safetensors,weights,doc,record,manifest,hf}.c)
wanted=95

command -v clang llvm-cov llvm-profdata >/dev/null || { echo "skipped: needs clang and llvm"; exit 77; }
mkdir -p "$build"
{ cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DGPT_FUZZ=coverage -DGPT_TESTS=OFF -DGPT_CUDA=off &&
    cmake --build "$build/tests/fuzz"; } >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }

objects=()
rm -f "$build"/*.profraw
for target in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    LLVM_PROFILE_FILE="$build/$name.profraw" "$target" -runs=0 "$corpus/$name" >"$build/$name.log" 2>&1 ||
        { cat "$build/$name.log"; exit 1; }
    objects+=(-object "$target")
done
llvm-profdata merge -sparse "$build"/*.profraw -o "$build/all.profdata" || exit 1

if $missing; then
    llvm-cov show "${objects[@]:1}" -instr-profile="$build/all.profdata" "${readers[@]}" 2>/dev/null |
        grep -E '^/.*:$|^ *[0-9]+\| +0\|'
fi
llvm-cov report "${objects[@]:1}" -instr-profile="$build/all.profdata" "${readers[@]}" 2>/dev/null |
    awk -v wanted=$wanted '
        $1 ~ /\.c$|^TOTAL$/ { printf "%-32s %5d of %5d lines  %6.2f %%\n", $1, $8 - $9, $8, 100 * ($8 - $9) / $8 }
        $1 == "TOTAL" { bad = 100 * ($8 - $9) / $8 < wanted }
        END { exit bad }'
