#!/usr/bin/env bash
# Registers, local memory and shared memory of every kernel as ptxas reports them. Local memory means spilled registers
# or arrays that did not fit into them: a kernel that has some fails, unless it is listed below with the reason.
# Without nvcc: skipped.
#
#     test_registers.sh              for compute capability 9.0
#     test_registers.sh 75 80 120    for these
#     test_registers.sh --log FILE   as a build said it: of make -Otarget with CMAKE_CUDA_FLAGS=-Xptxas=-v
set -uo pipefail
export LC_ALL=C
log=
[ "${1:-}" != --log ] || log=$(realpath -- "$2") || exit 66
cd "${GPT_SOURCE:-$(dirname "$0")/../..}" || exit 1
[ $# -gt 0 ] || set -- 90

# What may have local memory: architecture, start of the kernel's name without spaces, most bytes of it, why.
ALLOWED=(
    "75 layernorm_backward_held<__nv_bfloat16,24> 16 cards of 7.5 have no bfloat16: never launched there"
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ---- compile --------------------------------------------------------------------------------------

nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
if [ -n "$log" ]; then
    cp "$log" "$work/build.cu.log"
elif [ ! -x "$nvcc" ]; then
    echo "skipped: no nvcc in PATH, CUDA_HOME or /usr/local/cuda"
    exit 77
fi

# report FILE ARCHITECTURE: ptxas's words, names readable
report() {
    "$nvcc" -std=c++17 -O3 -arch="sm_$2" -Xptxas -v -Isrc -I. -Ikernels/cuda/ptx -cubin -o /dev/null "$1" \
        >"$work/$(basename "$1").$2" 2>&1 || touch "$work/failed.$(basename "$1").$2"
}
export -f report
export nvcc work
[ -n "$log" ] || for file in kernels/cuda/*.cu; do
    for arch in "$@"; do
        case $file in *_sm80.cu) [ "$arch" -ge 80 ] || continue ;; esac
        echo "$file $arch"
    done
done | xargs -P "$(nproc)" -L 1 bash -c 'report "$0" "$1"'

failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }
for failed in "$work"/failed.*; do
    [ -e "$failed" ] || continue
    name=${failed#"$work/failed."}
    fail "$name does not compile: $(tail -n 5 "$work/$name")"
done

# ---- the table ------------------------------------------------------------------------------------

# kernel, architecture, registers, bytes of local memory, of spill stores and loads, of shared memory; sorted
table() {
    cat "$work"/*.cu.* | c++filt | awk '
        /Compiling entry function/ {
            arch = $NF; gsub(/[^0-9]/, "", arch)
            kernel = $0
            sub(/^[^\047]*\047/, "", kernel); sub(/\047 for.*$/, "", kernel); sub(/^void /, "", kernel)
            gsub(/\(anonymous namespace\)::/, "", kernel); gsub(/ /, "", kernel)
            sub(/\([^()]*\)$/, "", kernel)
        }
        /bytes spill stores/ { local = $1; spills = $5 "/" $9 }
        / Used [0-9]+ registers/ {
            shared = 0
            for (i = 1; i < NF - 1; i++) {
                if ($i == "Used") registers = $(i + 1)
                if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
            }
            print kernel, arch, registers, local, spills, shared
        }' | sort -u
}

allowed() { # KERNEL ARCH BYTES
    local entry arch name most why
    for entry in "${ALLOWED[@]}"; do
        read -r arch name most why <<<"$entry"
        [ "$arch" = "$2" ] && [ "${1#"$name"}" != "$1" ] && [ "$3" -le "$most" ] && return 0
    done
    return 1
}

count=0
printf '%-72s %4s %9s %5s %9s %6s\n' kernel arch registers local spilled shared
while read -r kernel arch registers local_bytes spills shared; do
    count=$((count + 1))
    printf '%-72s %4s %9s %5s %9s %6s\n' "$kernel" "$arch" "$registers" "$local_bytes" "$spills" "$shared"
    if [ "$local_bytes" -gt 0 ] && ! allowed "$kernel" "$arch" "$local_bytes"; then
        fail "$kernel for sm_$arch has $local_bytes bytes of local memory (spilled: $spills)"
    fi
done < <(table)
kernels=$(grep -l __global__ kernels/cuda/*.cu | wc -l)
[ "$count" -ge "$kernels" ] || fail "$count kernels in the report, of $kernels files"
[ $failures -eq 0 ] && echo "$count kernels, no local memory but what is allowed"
exit $((failures > 0))
