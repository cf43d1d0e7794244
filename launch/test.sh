#!/usr/bin/env bash
# Install what is missing, build, and run every test that needs no GPU: plainly, under sanitizers, the CUDA backend
# on an emulated GPU, plainly and under sanitizers, and the real CUDA program as far as a machine without a driver goes.
#
#     ./launch/test.sh             everything that a change should pass: under 20 minutes on two cores
#     ./launch/test.sh --quick     the plain build only
#     ./launch/test.sh --long      with more ranks on the emulated GPU, and its kernels under ThreadSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false long=false
case ${1:-} in
"") ;;
--quick) quick=true ;;
--long) long=true ;;
*) echo "usage: $0 [--quick | --long]" >&2; exit 64 ;;
esac

./launch/install.sh --tests
source launch/mpi_env.sh
jobs=$(nproc)
# Most files are the same in the plain and in the emulated build, and in those under AddressSanitizer.
compilers=()
if command -v ccache >/dev/null; then
    export CCACHE_DIR=${CCACHE_DIR:-$PWD/build/ccache} CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
    compilers=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi

# build FOLDER CMAKE_OPTIONS...: all, or $target. What cmake prints is shown when it fails.
build() {
    local folder=$1
    shift
    echo "== build $folder"
    cmake -S . -B "$folder" -DGPT_WERROR=ON ${compilers[@]+"${compilers[@]}"} "$@" >"$folder.cmake" 2>&1 || { cat "$folder.cmake"; exit 1; }
    rm -f "$folder.cmake"
    cmake --build "$folder" -j "$jobs" --target "${target:-all}" -- --no-print-directory -Otarget
}

run_tests() { # FOLDER CTEST_OPTIONS...: $at_once
    echo "== tests of $1"
    ctest --test-dir "$1" -j "${at_once:-$jobs}" --output-on-failure --no-tests=error "${@:2}"
}

# The other builds are made behind the tests of the ones before, at the lowest priority: tests wait a good part of their
# time. Each leaves what it printed in FOLDER.log, and FOLDER.built.
build_others() {
    build_one build-asan -DGPT_CUDA=off -DGPT_SANITIZE=address,undefined
    build_one build-emulated -DGPT_CUDA=emulated
    target=suites build_one build-emulated-asan -DGPT_CUDA=emulated -DGPT_SANITIZE=address,undefined
    if [ -n "$nvcc" ]; then # what ptxas says of registers and spills is looked at: cuda_registers compiles once more for that
        build_one build-cuda -DGPT_CUDA=on -DGPT_CUDA_ARCH=80 -DGPT_TESTS=OFF -DCMAKE_CUDA_FLAGS=-Xptxas=-v
    fi
}

build_one() { # as build
    build "$@" -DGPT_PROGRAM_DIR="$PWD/$1/bin" >"$1.log" 2>&1
    touch "$1.built"
}

await_build() { # FOLDER
    until [ -e "$1.built" ]; do
        kill -0 "$builder" 2>/dev/null || [ -e "$1.built" ] || { cat "$1.log"; echo "$1 cannot be built"; exit 1; }
        sleep 0.5
    done
    cat "$1.log"
    mv "$1.log" "$1/build.log"
    rm "$1.built"
}

build build -DGPT_CUDA=off
at_once=$((jobs + 2)) # a good part of the tests wait: for limits of time, for other ranks, for Slurm
if $quick; then
    run_tests build
    echo "== all tests passed"
    exit 0
fi

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
rm -f build-*.built
set -m # in a process group of its own, which can be ended as a whole
(renice -n 19 "$BASHPID" >/dev/null 2>&1 || true; build_others) &
builder=$!
set +m
trap 'kill -- "-$builder" 2>/dev/null || true' EXIT

# What of e2e_zero2 needs no GPU runs with the rest of it, below.
run_tests build -E '^e2e_zero2$'

# At most two ranks. Faults are injected, and files fuzzed (with sanitizers of its own), in the build above; what the
# scripts left out here run is in the suites of optim, train, model and config.
await_build build-asan
GPT_MAX_RANKS=2 run_tests build-asan -LE '^fault$' \
    -E '_np[134]$|^fuzz_|^plan_choose$|^e2e_(zero2|ranks|repeat|resume|numbers|signals|watching|bad_input)$|^launch_sample$|^house_|^slurm_'

# Every kernel and the whole CUDA path on the CPU, one fiber per GPU thread. What does not touch a device ran above. Suites
# run on four ranks, scripts on up to two (--long: four, and more of them).
emulated_ranks=2 emulated_scripts='cuda|machine|nccl|zero2'
$long && emulated_ranks=4 emulated_scripts+='|offload'
await_build build-emulated
GPT_MAX_RANKS=$emulated_ranks run_tests build-emulated \
    -E '^cuda_registers$|^train_watchdog$|^comm_(abort|control|single)|_np[123]$' \
    -R "^(kernels_|cuda_|gpu_|comm_|optim_|train_|model_|e2e_($emulated_scripts)\$)"

# The op suites there again, in bfloat16 (whose kernels have all that the others have): every access to memory, and with
# --long every pair of accesses that no barrier orders. tests/cuda_on_cpu/README.md says how to run all dtypes.
await_build build-emulated-asan
GPT_OP_VARIANT=cuda-bf16 run_tests build-emulated-asan -L '^suites$'
if $long && command -v clang++ >/dev/null; then
    target=suites CC=clang CXX=clang++ build build-emulated-tsan -DGPT_CUDA=emulated -DGPT_SANITIZE=thread \
        -DGPT_WERROR=OFF -DGPT_PROGRAM_DIR="$PWD/build-emulated-tsan/bin" # clang counts what OpenMP would use as unused
    GPT_OP_VARIANT=cuda-bf16 run_tests build-emulated-tsan -L '^suites$' \
        -R '_(attention|layernorm|cross_entropy|embedding|reduce|emulator)$' # those with barriers
else
    echo "skipped: ThreadSanitizer on the emulated GPU (it takes --long, and clang)"
fi

if [ -n "$nvcc" ]; then
    await_build build-cuda >/dev/null
    tests/cuda/test_registers.sh --log build-cuda/build.log
    ./build-cuda/bin/gpt_ddp --version
    if command -v nvidia-smi >/dev/null; then
        echo "skipped: this machine has a GPU; tests/gpu/run.sh is for it"
    else
        echo "== device = cuda without a driver"
        status=0
        ./build-cuda/bin/gpt_ddp configs/shakespeare_char.ini --device=cuda || status=$?
        [ $status = 71 ] || { echo "wanted exit code 71, got $status"; exit 1; }
    fi
else
    echo "skipped: the real CUDA build (no nvcc here)"
fi
echo "== all tests passed"
