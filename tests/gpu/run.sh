#!/usr/bin/env bash
# Everything that needs a GPU, in one command, offline, under 8 minutes: correctness first, then speed. Prints a table;
# OUT (default: out-gpu) gets it as table.txt, as results.json, and NAME.log, what each part said.
#
#     tests/gpu/run.sh                 build for this GPU and run it all
#     tests/gpu/run.sh --skip-bench    correctness only
#     tests/gpu/run.sh --memory        instead: 20 steps of GPT-2 124M, 774M and 1558M on a card that is made to have 12 GB
#     tests/gpu/run.sh --emulated      try this script on a machine without a GPU: tiny sizes, the speeds mean nothing
#     tests/gpu/run.sh --only=PATTERN  of correctness and speed only parts whose names match the (extended) regular expression
#     tests/gpu/run.sh --build=DIR     with the programs of a build that is there already
#
# GPT_DEPS=DIR: where Debian's packages were unpacked (DIR/usr/...), for machines that lack MPI, jansson, xxhash,
# cmocka or oneDNN. Without mpirun the parts of several ranks are skipped, and the table says so.
# Exit status: 0 when no part failed, 1 when one did, 71 without a GPU.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 66
root=$PWD

# ---- options --------------------------------------------------------------------------------------------------------
cuda=on bench=true memory=false only=. build=
for arg in "$@"; do
    case $arg in
    --emulated) cuda=emulated ;;
    --skip-bench) bench=false ;;
    --memory) memory=true ;;
    --only=?*) only=${arg#*=} ;;
    --build=?*) build=${arg#*=} ;;
    --help) sed -n '2,/^# Exit/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown argument $arg; --help lists what there is" >&2; exit 64 ;;
    esac
done
out=${OUT:-$root/out-gpu}
mkdir -p "$out" || exit 74
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
source launch/mpi_env.sh

if [ -n "${GPT_DEPS:-}" ]; then
    lib=$GPT_DEPS/usr/lib/x86_64-linux-gnu
    export PATH=$GPT_DEPS/usr/bin:$PATH LD_LIBRARY_PATH=$lib:$lib/openblas-pthread:${LD_LIBRARY_PATH:-}
    export PKG_CONFIG_SYSROOT_DIR=$GPT_DEPS PKG_CONFIG_PATH=$lib/pkgconfig
    export OPAL_PREFIX=$GPT_DEPS/usr CMAKE_PREFIX_PATH=$GPT_DEPS/usr
    export CPATH=$GPT_DEPS/usr/include LIBRARY_PATH=$lib
fi

# ---- the table ------------------------------------------------------------------------------------------------------
LIMIT_S=460 # what would begin later is skipped
table=$out/table.txt json=$out/results.json
: >"$table"
rm -f "$out"/*.log "$json"
records=() n_failed=0 started=$SECONDS

say() { echo "$*" | tee -a "$table"; }

quoted() { # TEXT: as a JSON string
    printf '"%s"' "$(tr -c '[:print:]' ' ' <<<"$1" | sed 's/[\\"]/\\&/g; s/ *$//')"
}

# record NAME STATUS SECONDS TEXT [JSON]: one line of the table, one object of the JSON, with these members too.
record() {
    printf '%-26s %-8s %5s s  %s\n' "$1" "$2" "$3" "$4" | tee -a "$table"
    records+=("{\"name\": $(quoted "$1"), \"status\": \"$2\", \"seconds\": $3, \"text\": $(quoted "$4")${5:+, $5}}")
    [ "$2" != FAILED ] || n_failed=$((n_failed + 1))
}

write_json() {
    local i comma=,
    {
        printf '{"commit": %s, "gpu": %s, "arch": "%s", "versions": %s, "date": "%s", "failed": %d, "parts": [\n' \
            "$(quoted "$commit")" "$(quoted "$gpu")" "$arch" "$(quoted "$versions")" "$(date -u +%FT%TZ)" $n_failed
        for ((i = 0; i < ${#records[@]}; i++)); do
            [ $i -lt $((${#records[@]} - 1)) ] || comma=
            printf '  %s%s\n' "${records[$i]}" $comma
        done
        printf ']}\n'
    } >"$json"
}

# wanted NAME: is it to be run, and is there time?
wanted() {
    [[ $1 =~ $only ]] || return 1
    [ $((SECONDS - started)) -lt $LIMIT_S ] && return 0
    record "$1" skipped 0 "no time left: $LIMIT_S s are over"
    return 1
}

# reason FILE STATUS: of a failure, from what was printed.
reason() {
    local text
    text=$(grep -aE 'FAILED|FAIL:|[Ee]rror|ERROR|differ|gpt_ddp: |bench_ops: |skipped' "$1" | tail -1 | tr -s ' ' | cut -c1-160)
    [ "$2" != 124 ] || text="took too long; $text"
    echo "${text:-exit status $2}"
}

# part NAME COMMAND...: its output goes to OUT/NAME.log. The table gets its last line when it ends well, what looks like
# the reason when it does not.
part() {
    local name=$1 begin=$SECONDS status
    shift
    wanted "$name" || return 0
    "$@" >"$out/$name.log" 2>&1 </dev/null
    status=$?
    if [ $status = 0 ]; then
        record "$name" ok $((SECONDS - begin)) "$(tail -1 "$out/$name.log" | tr -s ' ' | cut -c1-120)"
    else
        record "$name" FAILED $((SECONDS - begin)) "$(reason "$out/$name.log" $status)"
    fi
}
# always NAME COMMAND...: the same, whatever --only says.
always() {
    local only=.
    part "$@"
}

# ---- build ----------------------------------------------------------------------------------------------------------
gpu="emulated on a CPU" arch=80 versions=
if [ $cuda = on ]; then
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
    [ -n "$gpu" ] || { echo "run.sh: no NVIDIA GPU here (--emulated tries this script without one)" >&2; exit 71; }
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
fi
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
say "gpt_ddp $commit on $gpu, compute capability $arch, $(date -u +'%F %H:%M') UTC"

build_all() {
    cmake -S . -B "$build" -DGPT_CUDA=$cuda -DGPT_CUDA_ARCH="$arch" -DGPT_PROGRAM_DIR="$build/bin" &&
        cmake --build "$build" -j "$(nproc)" && echo "for compute capability $arch"
}
if [ -n "$build" ]; then
    build=$(cd "$build" && pwd) || exit 66
    bin=$(sed -n 's/^GPT_PROGRAM_DIR:[A-Z]*=//p' "$build/CMakeCache.txt")
else
    build=$root/build-gpu bin=$root/build-gpu/bin
    always build build_all
fi
tests=$build/tests
if [ $n_failed != 0 ]; then
    tail -30 "$out/build.log"
    write_json
    exit 1
fi
versions=$("$bin/gpt_ddp" --version | tr '\n' ';')
say "$versions"

have_mpirun=true
command -v mpirun >/dev/null || have_mpirun=false
text_data() {
    find src kernels comm launch tests -name '*.[ch]' -print0 | sort -z | xargs -0 cat >"$work/text" &&
        "$bin/gpt_prepare" --kind=byte --out="$work/data" "$work/text" && echo "$(stat -c %s "$work/text") bytes of C"
}
always data text_data

# Median of the last lines of a metrics file.
median_of() { # FILE KEY
    sed -n "s/.*\"$2\": *\([0-9.eE+-]*\).*/\1/p" "$1" | tail -n +4 | sort -g |
        awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}

finish() {
    say "${#records[@]} parts, $n_failed failed, $((SECONDS - started)) s"
    write_json
    exit $((n_failed > 0))
}

# ---- 12 GB ----------------------------------------------------------------------------------------------------------
# Most MiB of GPU memory that the programs of this build held while a file exists, by the driver.
watch_memory() { # FILE
    local now most=0
    while [ -e "$1" ]; do
        now=$(nvidia-smi --query-compute-apps=process_name,used_memory --format=csv,noheader,nounits 2>/dev/null |
            awk -F', ' '/gpt_ddp/ { sum += $2 } END { print sum + 0 }')
        [ "$now" -le "$most" ] || most=$now
        sleep 0.5
    done
    echo "$most"
}
# in_memory NAME CONFIG ARGS...: 20 steps; with memory_limit among ARGS a ballast takes the rest of the card, and what the
# driver says holds that too.
in_memory() {
    local name=$1 begin=$SECONDS run=$work/run log=$out/$1.log plan status rate mib extra
    wanted "$name" || return 0
    rm -rf "$run"
    local args=("configs/$2.ini" --device=cuda --dataset="$work/data" --vocab_size=$vocab "${@:3}")
    plan=$("$bin/gpt_ddp" "${args[@]}" --plan --gpu=rtx3060 2>/dev/null)
    extra=$(awk '$1 == "extra" { print $3 }' <<<"$plan")
    touch "$work/watch"
    watch_memory "$work/watch" >"$work/most" &
    timeout 400 "$bin/gpt_ddp" "${args[@]}" --out_dir="$run" --max_iters=20 --log_interval=1 --eval_iters=1 \
        --eval_interval=100000 --always_save_checkpoint=false --init_from=scratch >"$log" 2>&1
    status=$?
    rm "$work/watch"
    wait
    if [ $status != 0 ]; then
        record "$name" FAILED $((SECONDS - begin)) "$(reason "$log" $status)"
        return
    fi
    rate=$(median_of "$run/metrics.jsonl" tokens_per_s) mib=$(cat "$work/most")
    record "$name" ok $((SECONDS - begin)) \
        "$(sed -n 's/^memory: //p' "$log" | cut -d';' -f1,2), $rate tokens/s, extra FLOP $extra %, process $mib MiB" \
        "\"tokens_per_s\": $rate, \"extra_flop_percent\": $extra, \"process_mib\": $mib"
}
if $memory; then
    LIMIT_S=580 vocab=50257 small=()
    limit=(--memory_limit=11.1GiB)
    if [ $cuda = emulated ]; then
        vocab=256 limit=(--memory_limit=64MiB)
        small=(--n_layer=2 --n_head=2 --n_embd=64 --block_size=32 --batch_size=4 --gradient_accumulation_steps=2)
    fi
    in_memory without_ballast owt_12gb "${small[@]}" --max_iters=20
    in_memory owt_12gb_auto owt_12gb "${small[@]}" "${limit[@]}"
    in_memory owt_12gb_literal_64 owt_12gb "${small[@]}" "${limit[@]}" --micro_batch=$([ $cuda = on ] && echo 64 || echo 8)
    in_memory owt_16_x_32 owt_12gb "${limit[@]}" --batch_size=16 --gradient_accumulation_steps=32 "${small[@]}"
    in_memory 774M_offload gpt2_large_12gb "${small[@]}" "${limit[@]}" --offload=optimizer
    in_memory 1558M_offload gpt2_xl_12gb "${small[@]}" "${limit[@]}" --offload=optimizer
    finish
fi

# ---- kernels --------------------------------------------------------------------------------------------------------
# suites PATTERN [VARIANT]: of ctest. A test that finds no GPU says so and passes: here that is a failure.
suites() {
    local log=$work/suites.$BASHPID
    GPT_OP_VARIANT=${2:-} ctest --test-dir "$build" -V --no-tests=error --timeout 200 -R "$1" -LE order \
        -j "$(nproc)" >"$log" 2>&1
    local status=$?
    cat "$log"
    grep -aq 'skipped: ' "$log" && return 1
    sed -n 's/^100% tests passed, .* out of \([0-9]*\)$/\1 suites/p' "$log"
    return $status
}
variants=(f32 bf16 f16)
[ "$arch" -ge 80 ] || variants=(f32 f16)
part primitives suites '^cuda_primitives$'
part backend suites '^cuda_(gemm|column_sums|faults|peak)$'
for variant in "${variants[@]}"; do
    part "ops_$variant" suites '^kernels_ops_' "cuda-$variant"
done
part optimizer ctest --test-dir "$build" --output-on-failure --no-tests=error --timeout 200 \
    -R '^(optim_offload|train_forms)$'

# What shares memory between threads, on the small shapes of its suite, under NVIDIA's checkers.
sanitize() { # TOOL
    local suite status=0
    for suite in layernorm cross_entropy embedding reduce attention; do
        echo "---- $suite"
        GPT_OP_VARIANT=cuda-${variants[1]} timeout 60 compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 3 \
            "$tests/test_kernels_ops_$suite" || { status=$?; echo "FAILED: $suite, exit status $status"; }
    done
    [ $status != 0 ] || echo "5 suites, cuda-${variants[1]}"
    return $status
}
for tool in memcheck racecheck; do
    if [ $cuda = on ] && command -v compute-sanitizer >/dev/null; then
        part $tool sanitize $tool
    elif wanted $tool; then
        record $tool skipped 0 "no compute-sanitizer here"
    fi
done

# ---- training -------------------------------------------------------------------------------------------------------
if [ $cuda = emulated ]; then
    model=(--n_layer=2 --n_head=2 --n_embd=64 --block_size=32 --batch_size=4 --gradient_accumulation_steps=4)
else
    model=(--n_layer=4 --n_head=4 --n_embd=256 --block_size=128 --batch_size=8 --gradient_accumulation_steps=4)
fi
# eps: a gradient that is nothing but rounding (that of the key bias is zero in exact arithmetic) stays small.
model+=(--dataset="$work/data" --bias=true --bucket_mb=1 --learning_rate=1e-3 --warmup_iters=5 --lr_decay_iters=20
    --eps=1e-6 --max_iters=20 --eval_iters=2 --eval_interval=1000 --log_interval=10)

train() { # NP RUN ARGS...: RUN is a folder of work
    local launch=() run=$work/$2
    [ "$1" = 1 ] || launch=(mpirun --oversubscribe -np "$1")
    rm -rf "$run"
    timeout 150 "${launch[@]}" "$bin/gpt_ddp" "${model[@]}" --out_dir="$run" "${@:3}"
}
# close_to RUN TOLERANCE NP NAME ARGS...: train, and all losses must be those of an earlier run. Where products are to be
# compared to 1e-4 their inputs are not rounded to TF32.
close_to() {
    local NVIDIA_TF32_OVERRIDE=
    [ "$2" != 1e-4 ] || export NVIDIA_TF32_OVERRIDE=0
    train "$3" "$4" "${@:5}" && "$tests/tool_compare_metrics" "$work/$4/metrics.jsonl" "$work/$1/metrics.jsonl" "$2"
}
close_gradients() { # DTYPE: after one update exp_avg is a tenth of the gradient
    local one=(--max_iters=1 --grad_clip=0) file=step_00000001/optimizer.safetensors
    train 1 gradient_cpu --device=cpu "${one[@]}" && train 1 gradient --device=cuda --dtype="$1" "${one[@]}" &&
        "$tests/tool_cosine" "$work"/gradient{,_cpu}/$file 0.999 exp_avg.
}
same_bits() {
    local file
    train 1 twice_1 --device=cuda --max_iters=6 && train 1 twice_2 --device=cuda --max_iters=6 || return
    for file in model optimizer; do
        cmp "$work"/twice_{1,2}/step_00000006/$file.safetensors || return
    done
    echo "6 steps, the same files"
}
several() { # NAME NP ARGS...: ranks on one GPU are float32's single rank
    if $have_mpirun; then
        part "$1" close_to float32 1e-4 "$2" "$1" --device=cuda --dtype=float32 "${@:3}"
    elif wanted "$1"; then
        record "$1" skipped 0 "no mpirun here"
    fi
}
sixteen=bfloat16
[ "$arch" -ge 80 ] || sixteen=float16
train_cpu() { train 1 cpu --device=cpu && echo "20 steps, to compare with"; }
part train_cpu train_cpu
part train_float32 close_to cpu 1e-4 1 float32 --device=cuda --dtype=float32
for dtype in bfloat16 float16; do
    [ $dtype = bfloat16 ] && [ "$arch" -lt 80 ] && continue
    part train_$dtype close_to cpu 1e-2 1 $dtype --device=cuda --dtype=$dtype
done
part gradients close_gradients $sixteen
part bits same_bits
several ranks_2_mpi 2 --comm=mpi
several ranks_4_mpi 4 --comm=mpi
if grep -q 'NCCL: [0-9]' <<<"$versions"; then
    part nccl_1 close_to float32 1e-4 1 nccl_1 --device=cuda --dtype=float32 --comm=nccl
elif wanted nccl_1; then
    record nccl_1 skipped 0 "built without NCCL"
fi

# ---- speed ----------------------------------------------------------------------------------------------------------
# speed NAME LAYERS HEADS CHANNELS MICRO_BATCH ARGS...: a few steps of four micro-steps each.
speed() {
    local name=$1 begin=$SECONDS run=$work/run log=$out/$1.log status rate mfu ms memory
    wanted "$name" || return 0
    rm -rf "$run"
    timeout 100 "$bin/gpt_ddp" --device=cuda --dataset="$work/data" --vocab_size=$vocab --out_dir="$run" \
        --n_layer="$2" --n_head="$3" --n_embd="$4" --block_size=$block --batch_size="$5" --micro_batch="$5" \
        --gradient_accumulation_steps=4 --max_iters=12 --eval_iters=1 --eval_interval=100000 --warmup_iters=1 \
        --always_save_checkpoint=false "${@:6}" >"$log" 2>&1
    status=$?
    if [ $status != 0 ]; then
        record "$name" FAILED $((SECONDS - begin)) "$(reason "$log" $status)"
        return
    fi
    rate=$(median_of "$run/metrics.jsonl" tokens_per_s) mfu=$(median_of "$run/metrics.jsonl" mfu)
    ms=$(median_of "$run/metrics.jsonl" time_ms) memory=$(sed -n 's/^memory: \([0-9.]* [A-Za-z]*\) per rank.*/\1/p' "$log")
    record "$name" ok $((SECONDS - begin)) "$rate tokens/s, $ms ms a step, mfu $mfu %, $memory a rank" \
        "\"tokens_per_s\": $rate, \"step_ms\": $ms, \"mfu_percent\": $mfu, \"memory\": $(quoted "$memory")"
}
# ops NAME ARGS...: every op beside its floor; the whole table goes to table.txt.
ops() {
    local name=$1 lines
    shift
    part "$name" timeout 100 "$tests/bench_ops" --device=cuda "$@"
    [ -s "$out/$name.log" ] || return 0
    sed -n '3,$p' "$out/$name.log" >>"$table"
    lines=$(awk '/%/ { op = substr($0, 1, 28); sub(/ +$/, "", op); n = split(substr($0, 29), f, " ")
        printf "%s{\"op\": \"%s\", \"ms\": %s, \"floor_ms\": %s, \"step_ms\": %s}", s, op, f[1], f[n - 2], f[n]; s = ", " }' \
        "$out/$name.log")
    records[-1]=${records[-1]%\}}", \"ops\": [$lines]}"
}

if $bench && [ $cuda = emulated ]; then
    block=32 vocab=256
    speed tiny_b2 2 2 64 2
    ops ops_small --shape=small --batch=1 --seconds=0 --square=64
elif $bench; then
    block=1024 vocab=50257
    speed 124M_b32 12 12 768 32
    speed 124M_b8 12 12 768 8
    speed 124M_b64_in_11.1GiB 12 12 768 64 --memory_limit=11.1GiB --micro_batch=auto
    speed 350M_b16 24 16 1024 16
    speed 774M_b8 36 20 1280 8
    speed 1558M_b4 48 25 1600 4
    ops ops_124M --shape=gpt2 --batch=32
    ops ops_350M --shape=350M --batch=16
fi
[ ! -s "$XDG_CACHE_HOME/gpt_ddp/gemm.txt" ] || cp "$XDG_CACHE_HOME/gpt_ddp/gemm.txt" "$out/algorithms.txt"

# ---- end ------------------------------------------------------------------------------------------------------------
finish
