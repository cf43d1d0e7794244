#!/usr/bin/env bash
# The tests notice planted bugs: three of mutate.py's, in the build that is being tested. All of them: run mutate.py.
set -uo pipefail
build=$(dirname "$GPT_TOOLS")
skip() { echo "skipped: $*"; exit 77; }

setting() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
[ "$(setting GPT_CUDA)" = emulated ] || skip "not a build of the CUDA backend for the CPU"
[ -z "$(setting GPT_SANITIZE)" ] || skip "a build with sanitizers: bugs are planted in the plain one"
[ "$(setting CMAKE_GENERATOR)" = "Unix Makefiles" ] || skip "not a build with Unix makefiles"
command -v python3 >/dev/null || skip "no python3"
exec "$GPT_SOURCE/tests/cuda_on_cpu/mutate.py" --quick --kinds plain --build "plain=$build"
