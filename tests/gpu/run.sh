#!/usr/bin/env bash
# Everything that needs a GPU, in one command, offline, under 8 minutes: correctness first, then memory, then speed.
# Prints a table and writes it, with a JSON copy, under OUT (default: out-gpu).
#
#     tests/gpu/run.sh                    build for this GPU and run it all
#     tests/gpu/run.sh --skip-bench       correctness only
#     tests/gpu/run.sh --emulated         try this script on a machine without a GPU (tiny sizes; no speeds)
#
# GPT_DEPS=DIR: where Debian's packages were unpacked (DIR/usr/...), for machines that lack MPI, jansson, xxhash,
# cmocka or oneDNN. Without mpirun the parts of several ranks are skipped, and the table says so.
# Exit status: 0 when no part failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

# ---- options ----------------------------------------------------------------------------------------
cuda=on bench=true
for arg in "$@"; do
    case $arg in
    --emulated) cuda=emulated ;;
    --skip-bench) bench=false ;;
    *) echo "usage: $0 [--emulated] [--skip-bench]" >&2; exit 64 ;;
    esac
done
out=${OUT:-$root/out-gpu}
build=$root/build-gpu
jobs=$(nproc)
mkdir -p "$out"
source launch/mpi_env.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

if [ -n "${GPT_DEPS:-}" ]; then
    lib=$GPT_DEPS/usr/lib/x86_64-linux-gnu
    export PATH=$GPT_DEPS/usr/bin:$PATH LD_LIBRARY_PATH=$lib:$lib/openblas-pthread:${LD_LIBRARY_PATH:-}
    export PKG_CONFIG_SYSROOT_DIR=$GPT_DEPS PKG_CONFIG_PATH=$lib/pkgconfig
    export OPAL_PREFIX=$GPT_DEPS/usr CMAKE_PREFIX_PATH=$GPT_DEPS/usr
    export CPATH=$GPT_DEPS/usr/include LIBRARY_PATH=$lib
fi

# ---- the table --------------------------------------------------------------------------------------
table=$out/table.txt json=$out/results.json
: >"$table"
records=() n_failed=0 started=$SECONDS

say() { echo "$*" | tee -a "$table"; }

# record NAME STATUS TEXT: one line of the table, one object of the JSON.
record() {
    printf '%-44s %-8s %s\n' "$1" "$2" "$3" | tee -a "$table"
    records+=("{\"name\": \"$1\", \"status\": \"$2\", \"text\": \"${3//\"/\'}\", \"second\": $((SECONDS - started))}")
    [ "$2" != FAILED ] || n_failed=$((n_failed + 1))
}

# part NAME COMMAND...: run it; its output in OUT/NAME.log, its last line in the table when it fails.
part() {
    local name=$1 begin=$SECONDS
    shift
    if "$@" >"$out/$name.log" 2>&1; then
        record "$name" ok "$((SECONDS - begin)) s"
    else
        record "$name" FAILED "$(grep -E 'FAIL|ERROR|error|differ' "$out/$name.log" | tail -1 | cut -c1-160)"
    fi
}

write_json() {
    {
        printf '{"gpu": "%s", "commit": "%s", "date": "%s", "parts": [\n' "$gpu" "$commit" "$(date -u +%F)"
        local i
        for i in "${!records[@]}"; do
            printf '  %s%s\n' "${records[$i]}" "$([ "$i" -lt $((${#records[@]} - 1)) ] && echo ,)"
        done
        printf ']}\n'
    } >"$json"
}

# ---- build ------------------------------------------------------------------------------------------
gpu="emulated on a CPU" arch=80
if [ $cuda = on ]; then
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1) || { echo "no GPU here" >&2; exit 71; }
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
fi
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
say "gpt_ddp $commit on $gpu, $(date -u +'%F %H:%M') UTC"

build_all() {
    cmake -S . -B "$build" -DGPT_CUDA=$cuda -DGPT_CUDA_ARCH="$arch" -DGPT_PROGRAM_DIR="$build/bin" &&
        cmake --build "$build" -j "$jobs"
}
part build build_all
[ $n_failed = 0 ] || { tail -40 "$out/build.log"; write_json; exit 1; }
say "$("$build/bin/gpt_ddp" --version | tr '\n' ';')"

# ---- correctness ------------------------------------------------------------------------------------
have_mpirun=false
command -v mpirun >/dev/null && have_mpirun=true

part primitives ctest --test-dir "$build" --output-on-failure --no-tests=error -R '^cuda_on_cpu_primitives'
part ops ctest --test-dir "$build" -j 4 --output-on-failure --no-tests=error -R '^kernels_'
part optimizer ctest --test-dir "$build" --output-on-failure --no-tests=error -R '^(optim_offload|train_forms)$'
if $have_mpirun; then
    part comm ctest --test-dir "$build" --output-on-failure --no-tests=error -R '^comm_data_np[124]$'
    part training ctest --test-dir "$build" --output-on-failure --no-tests=error -R '^e2e_cuda$'
else
    record comm skipped "no mpirun here"
    record training skipped "no mpirun here"
fi

# Small shapes under NVIDIA's checkers: the suites of the kernels that share memory between threads.
sanitize() {
    local tool=$1 suite
    for suite in layernorm cross_entropy embedding attention; do
        GPT_OP_VARIANT=cuda-bf16 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 3 \
            "$build/tests/test_kernels_ops_$suite" || return 1
    done
}
if [ $cuda = on ] && command -v compute-sanitizer >/dev/null; then
    part memcheck timeout 120 bash -c "$(declare -f sanitize); build=$build; sanitize memcheck"
    part racecheck timeout 120 bash -c "$(declare -f sanitize); build=$build; sanitize racecheck"
else
    record memcheck skipped "no compute-sanitizer here"
    record racecheck skipped "no compute-sanitizer here"
fi

# ---- memory and speed through the program -----------------------------------------------------------
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data_for_speed() {
    head -c 8000000 /dev/urandom >"$work/noise" &&
        "$build/bin/gpt_prepare" --kind=byte --out="$work/data" "$work/noise"
}

# Median of the last lines of a metrics file: tokens per second and mfu in percent.
median_of() { # FILE KEY
    sed -n "s/.*\"$2\": *\([0-9.eE+-]*\).*/\1/p" "$1" | tail -n +4 | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# speed NAME LAYERS HEADS CHANNELS MICRO_BATCH ARGS...: a few steps of four micro-steps each.
speed() {
    local name=$1 layers=$2 heads=$3 channels=$4 batch=$5 run=$work/run
    shift 5
    rm -rf "$run"
    if ! timeout 150 "$build/bin/gpt_ddp" --device=cuda --dataset="$work/data" --vocab_size=50257 --out_dir="$run" \
        --n_layer="$layers" --n_head="$heads" --n_embd="$channels" --block_size=$block --batch_size="$batch" \
        --micro_batch="$batch" --gradient_accumulation_steps=4 --max_iters=12 --eval_iters=1 --eval_interval=100000 \
        --warmup_iters=1 --always_save_checkpoint=false "$@" >"$out/$name.log" 2>&1; then
        record "$name" FAILED "$(tail -1 "$out/$name.log" | cut -c1-160)"
        return
    fi
    local rate mfu memory
    rate=$(median_of "$run/metrics.jsonl" tokens_per_s) mfu=$(median_of "$run/metrics.jsonl" mfu)
    memory=$(sed -n 's/^memory: \([^ ]* [^ ]*\) per rank.*/\1/p' "$out/$name.log")
    record "$name" ok "$rate tokens/s, mfu $mfu, $memory planned"
}

if $bench; then
    part data data_for_speed
    if [ $cuda = emulated ]; then
        block=32
        speed tiny_b2 2 2 64 2
    else
        block=1024
        speed 124M_b32 12 12 768 32
        speed 124M_b8 12 12 768 8
        speed 124M_b64_in_11.1GiB 12 12 768 64 --memory_limit=11.1GiB --micro_batch=auto
        speed 350M_b16 24 16 1024 16
        speed 774M_b8 36 20 1280 8
        speed 1558M_b4 48 25 1600 4
        for shape in gpt2:32 350M:16; do
            part "ops_${shape%:*}" "$build/tests/bench_ops" --device=cuda --shape="${shape%:*}" --batch="${shape#*:}"
            cat "$out/ops_${shape%:*}.log" >>"$table"
        done
    fi
fi

# ---- end --------------------------------------------------------------------------------------------
say "$n_failed failed, $((SECONDS - started)) s"
write_json
exit $((n_failed > 0))
