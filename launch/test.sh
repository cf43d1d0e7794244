#!/usr/bin/env bash
# Install what is missing, build, and run every test that needs no GPU: plainly, then under sanitizers.
#
#     ./launch/test.sh             everything
#     ./launch/test.sh --quick     no sanitizer build
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
case ${1:-} in
"") ;;
--quick) quick=true ;;
*) echo "usage: $0 [--quick]" >&2; exit 64 ;;
esac

./launch/install.sh --tests
source launch/mpi_env.sh
jobs=$(nproc)

echo "== build"
cmake -S . -B build -DGPT_WERROR=ON >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
rm -f build-configure.log
cmake --build build -j "$jobs" -- --no-print-directory
echo "== tests"
ctest --test-dir build -j "$jobs" --output-on-failure --no-tests=error

if ! $quick; then
    echo "== build with address and undefined-behaviour sanitizers"
    cmake -S . -B build-asan -DGPT_WERROR=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DGPT_SANITIZE=address,undefined -DGPT_PROGRAM_DIR="$PWD/build-asan/bin" >/dev/null
    cmake --build build-asan -j "$jobs" -- --no-print-directory
    echo "== tests at np 1 and 2 under sanitizers"
    GPT_MAX_RANKS=2 ctest --test-dir build-asan -j "$jobs" --output-on-failure --no-tests=error -E '_np[34]$'
fi
echo "== all tests passed"
