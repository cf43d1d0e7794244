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

build build -DGPT_CUDA=off
at_once=$((jobs + 2)) # a good part of the tests wait: for limits of time, for other ranks, for Slurm
# What of e2e_zero2 needs no GPU runs with the rest of it, below.
if $quick; then run_tests build; else run_tests build -E '^e2e_zero2$'; fi
if $quick; then
    echo "== all tests passed"
    exit 0
fi

build build-asan -DGPT_CUDA=off -DGPT_SANITIZE=address,undefined \
    -DGPT_PROGRAM_DIR="$PWD/build-asan/bin"
# At most two ranks. Faults are injected, and files fuzzed (with sanitizers of its own), in the build above; what the
# scripts left out here run is in the suites of optim, train, model and config.
GPT_MAX_RANKS=2 run_tests build-asan -LE '^fault$' \
    -E '_np[134]$|^fuzz_|^plan_choose$|^e2e_(zero2|ranks|repeat|resume|numbers|signals|watching|bad_input)$|^launch_sample$|^house_|^slurm_'

# Every kernel and the whole CUDA path on the CPU, one fiber per GPU thread. What does not touch a device ran above. Suites
# run on four ranks, scripts on up to two (--long: four, and more of them).
emulated_ranks=2 emulated_scripts='cuda|machine|nccl|zero2'
$long && emulated_ranks=4 emulated_scripts+='|offload'
build build-emulated -DGPT_CUDA=emulated -DGPT_PROGRAM_DIR="$PWD/build-emulated/bin"
GPT_MAX_RANKS=$emulated_ranks run_tests build-emulated \
    -E '^cuda_registers$|^train_watchdog$|^comm_(abort|control|single)|_np[123]$' \
    -R "^(kernels_|cuda_|gpu_|comm_|optim_|train_|model_|e2e_($emulated_scripts)\$)"

# The op suites there again, in bfloat16 (whose kernels have all that the others have): every access to memory, and with
# --long every pair of accesses that no barrier orders. tests/cuda_on_cpu/README.md says how to run all dtypes.
target=suites build build-emulated-asan -DGPT_CUDA=emulated \
    -DGPT_SANITIZE=address,undefined -DGPT_PROGRAM_DIR="$PWD/build-emulated-asan/bin"
GPT_OP_VARIANT=cuda-bf16 run_tests build-emulated-asan -L '^suites$'
if $long && command -v clang++ >/dev/null; then
    target=suites CC=clang CXX=clang++ build build-emulated-tsan -DGPT_CUDA=emulated -DGPT_SANITIZE=thread \
        -DGPT_WERROR=OFF -DGPT_PROGRAM_DIR="$PWD/build-emulated-tsan/bin" # clang counts what OpenMP would use as unused
    GPT_OP_VARIANT=cuda-bf16 run_tests build-emulated-tsan -L '^suites$' \
        -R '_(attention|layernorm|cross_entropy|embedding|reduce|emulator)$' # those with barriers
else
    echo "skipped: ThreadSanitizer on the emulated GPU (it takes --long, and clang)"
fi

if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    # What ptxas says of registers and spills is looked at (the test cuda_registers compiles once more for that).
    mkdir -p build-cuda
    build build-cuda -DGPT_CUDA=on -DGPT_CUDA_ARCH=80 -DGPT_TESTS=OFF -DGPT_PROGRAM_DIR="$PWD/build-cuda/bin" \
        -DCMAKE_CUDA_FLAGS=-Xptxas=-v >build-cuda/build.log 2>&1 || { cat build-cuda/build.log; exit 1; }
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
