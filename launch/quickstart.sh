#!/usr/bin/env bash
# From nothing to a GPT that writes: install what is missing, build, prepare a text, train a small GPT-2 on two MPI
# ranks with ZeRO-1, print samples. A few minutes on two cores.
#
#     ./launch/quickstart.sh                  the King James Bible, from the distribution's archive
#     ./launch/quickstart.sh my_text.txt      your own text (UTF-8; a megabyte or more)
set -euo pipefail
case ${1:-} in
-*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] || [ "$1" = -h ] || exit 64; exit 0 ;;
esac
text=${1:+$(realpath -- "$1")}
cd "$(dirname "$0")/.."
ranks=2

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/5 installing what is missing"
if [ -n "$text" ]; then ./launch/install.sh; else ./launch/install.sh --text; fi
source launch/mpi_env.sh

step "2/5 building"
# For this machine's GPUs, if it has any; a build for every card takes minutes.
cuda=(-DGPT_CUDA=off)
if ! command -v nvidia-smi >/dev/null; then
    echo "no NVIDIA driver here: building for the CPU (by hand, -DGPT_CUDA=on builds for GPUs too)"
elif cards=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null); then
    cuda=(-DGPT_CUDA=auto "-DGPT_CUDA_ARCH=$(tr -d . <<<"$cards" | sort -un | paste -sd ';')")
fi
cmake -S . -B build -DGPT_TESTS=OFF "${cuda[@]}" >/dev/null
cmake --build build -j "$(nproc)" -- --no-print-directory | { grep -vE '^\[ *[0-9]+%\] Built target' || true; }

step "3/5 preparing the text: characters become tokens"
mkdir -p data
if [ -z "$text" ]; then
    # Verses without their numbers: prose.
    bible -f ge1:1-re22:21 | sed 's/^[^ ]* //' >data/quickstart.txt
    text=data/quickstart.txt
fi
./gpt_prepare --kind=char --out=data/quickstart "$text"

step "4/5 training on $ranks ranks"
# No rank needs more threads than its share of the cores.
export OMP_NUM_THREADS=$(($(nproc) > ranks ? $(nproc) / ranks : 1))
if [ -e out-quickstart ]; then
    mv out-quickstart "out-quickstart-$(date +%Y%m%d-%H%M%S)" # a run of yours may be in it
fi
started=$SECONDS
mpirun -np $ranks --bind-to none ./gpt_ddp configs/quickstart.ini
echo "trained in $((SECONDS - started)) s"

step "5/5 sampling"
unset OMP_NUM_THREADS
./gpt_sample out-quickstart --num_samples=3 --max_new_tokens=300 --temperature=0.8 --prompt=$'\n'
./gpt_report out-quickstart

cat <<'END'

The checkpoint is the newest directory in out-quickstart/: a Hugging Face model directory. Its curves: out-quickstart/report.html
Go on:   ./gpt_sample out-quickstart --prompt='In the beginning'
         mpirun -np 2 ./gpt_ddp configs/quickstart.ini --init_from=resume --max_iters=4000 --lr_decay_iters=4000
         ./gpt_ddp --help
END
