#!/usr/bin/env bash
# Add to tests/fuzz/corpus what run.sh found (build-fuzz/corpus): the inputs that reach something the corpus does not.
#
#     tests/fuzz/merge.sh [TARGET...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${GPT_FUZZ_BUILD:-build-fuzz}
targets=("$@")
[ $# -gt 0 ] || targets=($(ls "$build/corpus"))
for target in "${targets[@]}"; do
    "$build/tests/fuzz/fuzz_$target" -merge=1 -max_len=2048 "tests/fuzz/corpus/$target" "$build/corpus/$target" 2>&1 |
        grep -E "MERGE-OUTER: [0-9]+ new files" | sed "s/^/$target /" || true
done
