#!/usr/bin/env bash
# The rules of the house that can be read off the text of the tree:
#   - which folder may include which (no cycles); quoted paths start at a folder, private headers stay private
#   - <mpi.h> in comm/comm_*.c, launch/, MPI tests and the fake NCCL; CUDA and NCCL headers in kernels/cuda/, comm_nccl.c and the fakes
#   - conditional compilation in kernels/device.c and comm/comm.c only, but for header guards and __cplusplus
#   - no mutable state at file level and no hidden statics in src, kernels and comm
#   - the environment is read in launch/ only; below it only ASSERT and comm_abort end the program
#   - nothing at the top level but what belongs there
#
#     test_includes.sh              check the tree GPT_SOURCE (default: the one this script is in), then the selftest
#     test_includes.sh --check DIR  check DIR
#     test_includes.sh --selftest   plant one violation of each kind in a copy and see each of them caught
set -uo pipefail
export LC_ALL=C

# ---- the rules ------------------------------------------------------------------------------------

# folder -> folders and headers it may include
declare -A MAY_INCLUDE=(
    [src/base]="base"
    [src/config]="base config"
    [src/text]="base text"
    [src/data]="base config text data"
    [kernels]="base kernels"
    [comm]="base comm kernels/device.h"
    [src/model]="base kernels config model"
    [src/optim]="base kernels comm config model optim"
    [src/plan]="base kernels config data model optim plan"
    [src/checkpoint]="base kernels/device.h comm config model optim checkpoint"
    [src/score]="base text data kernels comm config model score"
    [src/train]="score text base config plan data model optim checkpoint train kernels comm"
    [src/report]="base report"
    [launch]="score base config plan text data model optim checkpoint train report kernels comm launch"
    [tests]="score base config plan text data model optim checkpoint train report kernels comm launch tests"
)
PRIVATE='^(kernels/(cpu/|cuda/|ops_table\.h)|comm/comm_ops\.h)' # for their own folder and its tests
ALSO='^comm/comm_nccl\.c kernels/cuda/cuda_device\.h$' # NCCL works on the streams of the CUDA device
TOP_LEVEL=" CMakeLists.txt README.md src kernels comm launch configs tests slurm "
MPI_FILES='^(comm/comm_[a-z]+\.c|launch/.*|tests/comm/.*|tests/fault/tool_reshard\.c|tests/.*/mpi_.*|tests/cuda_on_cpu/fake_nccl.*)$'
CUDA_FILES='^(kernels/cuda/.*|comm/comm_nccl\.c|tests/cuda_on_cpu/.*)$'
CUDA_HEADERS='<(cuda|cublas|nccl|nvml|nvtx|cooperative_groups|mma)[A-Za-z0-9_./]*>'
CONDITIONAL_FILES='^(kernels/device\.c|comm/comm\.c|tests/.*)$'

# ---- looking --------------------------------------------------------------------------------------

found=0
violation() { echo "$1: $2"; found=$((found + 1)); }

# Every source file under the root, git's view where there is one: tracked, and new ones not ignored.
list_sources() {
    if [ -e .git ]; then
        git ls-files --cached --others --exclude-standard -- src kernels comm launch tests
    else
        find src kernels comm launch tests -type f | sort
    fi | grep -E '\.(c|h|cu|cuh)$'
}

list_top_level() {
    if [ -e .git ]; then git ls-files | cut -d/ -f1 | sort -u; else ls -A; fi
}

# folder = the key of MAY_INCLUDE that a file falls under; empty when it has no place in the house.
set_folder() {
    local rest=${1#src/}
    folder=${1%%/*}
    [ "$folder" = src ] && folder=src/${rest%%/*}
    [ -n "${MAY_INCLUDE[$folder]:-}" ] || folder=
}

allowed() { # folder, included path
    local entry
    for entry in ${MAY_INCLUDE[$1]}; do
        case $2 in "$entry" | "$entry"/*) return 0 ;; esac
    done
    return 1
}

check_quoted() {
    local line file at path folder
    while IFS= read -r line; do
        file=${line%%:*} at=${line#*:} at=$file:${at%%:*}
        path=${line#*\"} path=${path%%\"*}
        set_folder "$file"
        [[ "$file $path" =~ $ALSO ]] && continue
        if [ -z "$folder" ]; then
            violation "$at" "this folder has no place in the house"
        elif ! allowed "$folder" "$path"; then
            violation "$at" "$folder must not include \"$path\" (it may include: ${MAY_INCLUDE[$folder]})"
        elif [[ $path =~ $PRIVATE && $folder != "${path%%/*}" && $folder != tests ]]; then
            violation "$at" "\"$path\" is private to ${path%%/*}/"
        fi
    done < <(grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$@")
}

# Lines that match a pattern, in files that do not match another, with what is wrong about them.
refuse() { # pattern, files it is allowed in, message, files...
    local pattern=$1 except=$2 message=$3 line
    shift 3
    while IFS= read -r line; do
        [[ ${line%%:*} =~ $except ]] || violation "$(cut -d: -f1,2 <<<"$line")" "$message"
    done < <(grep -HnE "$pattern" "$@")
}

check_conditional() {
    local line text
    while IFS= read -r line; do
        text=${line#*:} text=${text#*:}
        [[ ${line%%:*} =~ $CONDITIONAL_FILES ]] && continue
        [[ ${line%%:*} == *.*h && $text =~ ^#ifndef\ GPT_[A-Z0-9_]+_(H|CUH)$ ]] && continue
        [[ $text =~ ^#ifdef\ __cplusplus$ ]] && continue
        violation "$(cut -d: -f1,2 <<<"$line")" "conditional compilation: $text"
    done < <(grep -HnE '^[[:space:]]*#[[:space:]]*(if|ifdef|ifndef|elif|else)([^a-z]|$)' "$@")
}

# What clang-format puts in column 0 is at file level. A pointer must be constant itself.
check_state() {
    local line text
    while IFS= read -r line; do
        text=${line#*:} text=${text#*:} text=${text%%=*}
        [[ $text =~ ^((__extension__ )?typedef|using|return|goto|struct\ [A-Za-z0-9_]+\;|enum\ [A-Za-z0-9_]+\;|union\ [A-Za-z0-9_]+\;) ]] && continue
        [[ $text == *const* && $text != *\** ]] && continue
        [[ $text =~ \*[[:space:]]*const ]] && continue
        violation "$(cut -d: -f1,2 <<<"$line")" "mutable state: $text"
    done < <({
        grep -HnE '^[A-Za-z_][A-Za-z0-9_ ]*[ *]+[A-Za-z_][A-Za-z0-9_]*(\[[^]]*\])*( =.*|;)$' "$@"
        grep -HnE '^[A-Za-z_].*\(\*[A-Za-z_][A-Za-z0-9_]*(\[[^]]*\])?\)\([^)]*\)( =.*|;)$' "$@"
        grep -HnE '^\} [a-z_][A-Za-z0-9_]*(\[[^]]*\])*( =.*|;)$' "$@"
        grep -HnE '^[[:space:]]+(static|_Thread_local) [^(]*$' "$@"
        grep -HnE '^[[:space:]]+(static|_Thread_local) [^(=]*=.*$' "$@"
    } | sort -u)
}

check_top_level() {
    local name
    while IFS= read -r name; do
        [[ $name == .* || $TOP_LEVEL == *" $name "* ]] || violation "$name" "does not belong at the top level"
    done < <(list_top_level)
}

check_tree() { # root; prints violations, fails when there are any
    local sources program
    cd "$1" || return 2
    mapfile -t sources < <(list_sources | while IFS= read -r f; do [ -f "$f" ] && echo "$f"; done)
    mapfile -t program < <(printf '%s\n' "${sources[@]}" | grep -E '^(src|kernels|comm)/')
    if [ ${#program[@]} -lt 20 ]; then
        violation "$1" "only ${#program[@]} sources: not the tree this test is for"
        return 1
    fi
    check_quoted "${sources[@]}"
    refuse '^[[:space:]]*#[[:space:]]*include[[:space:]]*<mpi\.h>' "$MPI_FILES" "<mpi.h> has no place here" "${sources[@]}"
    refuse "^[[:space:]]*#[[:space:]]*include[[:space:]]*$CUDA_HEADERS" "$CUDA_FILES" "CUDA headers have no place here" \
        "${sources[@]}"
    check_conditional "${sources[@]}"
    check_state "${program[@]}"
    refuse '(^|[^a-z_.>])(secure_)?getenv\(' '^$' "the environment is read in launch/ only" "${program[@]}"
    refuse '(^|[^a-z_.>])(exit|_exit|_Exit|quick_exit|abort)\(' '^(src/base/check\.c|comm/comm[a-z_]*\.c)$' \
        "only launch/ ends the program" "${program[@]}"
    check_top_level
    [ $found -eq 0 ]
}

# ---- can it fail? ---------------------------------------------------------------------------------

places=() parts=()
# Put TEXT at the end of FILE of the copy; the check must then say PART about that line, and nothing else.
plant() { # FILE TEXT PART
    local file=$copy/$1 place=$1
    mkdir -p "$(dirname "$file")"
    printf '%s\n' "$2" >>"$file"
    [ "$3" = 'top level' ] || place=$1:$(wc -l <"$file")
    places+=("$place: ") parts+=("$3")
}

selftest() { # root
    local output count failures=0 i
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    (cd "$1" && cp -r CMakeLists.txt src kernels comm launch tests "$copy")
    printf '%s\n' 'static const int N = 3 * 4;' 'static const char *const NAME = "x";' 'struct Later;' \
        'static const struct {' '    int x;' '} TABLE[] = {' '    {1},' '};' '    static const int K = 4;' \
        >>"$copy/src/base/rng.c"
    "$self" --check "$copy" || { echo "FAIL: a copy with a few constants more does not pass" && return 1; }

    plant src/base/rng.c '#include "config/config.h"' 'src/base must not include "config/config.h"'
    plant src/config/ini.c '#include "kernels/ops.h"' 'src/config must not include'
    plant src/data/new.c '#include "comm/comm.h"' 'src/data must not include'
    plant kernels/ops.h '#include "model/gpt2.h"' 'kernels must not include'
    plant kernels/cpu/new.h '#include "comm/comm.h"' 'kernels must not include'
    plant comm/comm.c '#include "kernels/ops.h"' 'comm must not include'
    plant comm/comm_mpi.c '#include "kernels/cuda/cuda_device.h"' 'comm must not include'
    plant src/model/new.c '#include "optim/adamw.h"' 'src/model must not include'
    plant src/optim/new.c '#include "checkpoint/checkpoint.h"' 'src/optim must not include'
    plant src/plan/plan.h '#include "train/trainer.h"' 'src/plan must not include'
    plant src/checkpoint/new.c '#include "kernels/ops.h"' 'src/checkpoint must not include'
    plant src/report/new.c '#include "train/log.h"' 'src/report must not include'
    plant src/train/new.c '#include "launch/args.h"' 'src/train must not include'
    plant src/train/new.c '  #  include "tests/support/oracle.h"' 'src/train must not include'
    plant src/config/ini.c '#include "ini.h"' 'must not include "ini.h"'
    plant src/extra/new.c '#include "base/err.h"' 'no place in the house'
    plant src/model/new.c '#include "kernels/cpu/cpu_ops.h"' 'private to kernels/'
    plant src/optim/new.c '#include "comm/comm_ops.h"' 'private to comm/'
    plant src/train/new.c '#include <mpi.h>' 'mpi.h'
    plant tests/base/test_new.c '#include <mpi.h>' 'mpi.h'
    plant src/train/new.c '#include <cuda_runtime.h>' 'CUDA'
    plant kernels/device.c '#include <cublasLt.h>' 'CUDA'
    plant comm/comm_mpi.c '#include <nccl.h>' 'CUDA'
    plant kernels/ops.c '#ifdef GPT_CUDA' 'conditional'
    plant src/base/err.h '#if defined(__cplusplus)' 'conditional'
    plant src/base/file.c '#ifndef GPT_BASE_FILE_H' 'conditional'
    plant launch/new.c '  # if 0' 'conditional'
    plant src/base/rng.c 'static int counter;' 'mutable state'
    plant src/base/rng.c 'static uint64_t counter = 0;' 'mutable state'
    plant src/base/rng.c 'int counter = 0;' 'mutable state'
    plant src/base/rng.c 'static const char *name = "x";' 'mutable state'
    plant kernels/ops.c 'static float table[4] = {0};' 'mutable state'
    plant kernels/ops.c 'static _Thread_local int depth;' 'mutable state'
    plant kernels/ops.c '    static int calls = 0;' 'mutable state'
    plant comm/comm.c '} state;' 'mutable state'
    plant comm/comm.c 'static Err (*hook)(int rank) = NULL;' 'mutable state'
    plant src/train/new.c '    const char *home = getenv("HOME");' 'environment'
    plant src/train/new.c '        exit(1);' 'ends the program'
    plant notes.md 'a stray file' 'top level'

    output=$("$self" --check "$copy") && echo "FAIL: a tree full of violations passes" && return 1
    for i in "${!places[@]}"; do
        count=$(grep -F "${places[i]}" <<<"$output" | grep -cF "${parts[i]}")
        [ "$count" -eq 1 ] && continue
        echo "FAIL: wanted once, got $count times: ${places[i]}...${parts[i]}"
        failures=$((failures + 1))
    done
    count=$(wc -l <<<"$output")
    if [ "$count" -ne ${#places[@]} ] || [ $failures -ne 0 ]; then
        printf 'FAIL: %d violations planted, %d reported:\n%s\n' ${#places[@]} "$count" "$output"
        return 1
    fi
}

self=${BASH_SOURCE[0]}
[[ $self == /* ]] || self=$PWD/$self
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
root=${GPT_SOURCE:-$here}
case ${1:-} in
--check) check_tree "$2" ;;
--selftest) selftest "$root" ;;
'') (check_tree "$root") && selftest "$root" ;;
*) echo "usage: $0 [--check DIR | --selftest]" && exit 64 ;;
esac
