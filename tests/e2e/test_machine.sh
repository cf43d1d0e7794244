#!/usr/bin/env bash
# Which device a run takes, and what it says when it cannot: on the emulated runtime, which has as many GPUs as the
# environment asks for (GPT_EMU_DEVICES; -1: no driver), of any kind (GPT_EMU_CC).
source "$(dirname "$0")/lib.sh"
prepare_data 300
export OMPI_MCA_odls_base_sigkill_timeout=0 # else mpirun waits a second after each refusal
short=("${tiny[@]}" --n_layer=1 --n_head=1 --n_embd=32 --batch_size=1 --gradient_accumulation_steps=4 --max_iters=1
    --eval_iters=1)
n_runs=0

# run NP ENV... -- ARGS...: out, err and rc of a run with these variables.
run() {
    local np=$1 launch env=()
    shift
    while [ "$1" != -- ]; do
        env+=("$1")
        shift
    done
    shift
    launch=(mpirun --oversubscribe -np "$np")
    [ "$np" = 1 ] && launch=()
    n_runs=$((n_runs + 1))
    env "${env[@]}" timeout 300 "${launch[@]}" "$bin/gpt_ddp" "${short[@]}" --out_dir="out$n_runs" "$@" >out 2>err
    rc=$?
}

# refused CODE PATTERN: the run before ended so, with one line.
refused() {
    [ $rc = "$1" ] && [ "$(grep -c '^gpt_ddp: ' err)" = 1 ] && grep -Eq -- "$2" err && return
    fail "run $n_runs: rc $rc, wanted $1 and \"$2\": $(cat out err)"
}

# trained PATTERN: the run before ended well and said so.
trained() {
    [ $rc = 0 ] && grep -Eq -- "$1" out && return
    fail "run $n_runs: rc $rc, wanted 0 and \"$1\": $(cat out err)"
}

# said_not PATTERN: in the run before.
said_not() { grep -Eq -- "$1" out && fail "run $n_runs said \"$1\": $(cat out)"; }

# ---- none was built in, or only real ones ----
driver() { GPT_EMU_DEVICES=$1 "$bin/gpt_ddp" --version | grep '^CUDA: '; }
if [ "$(driver -1)" = "$(driver 1)" ]; then
    case $(driver 1) in
    *'not built in') why='this program was built without CUDA' ;;
    *'no driver') why='no NVIDIA driver is installed' ;;
    *) echo "skipped: this build has no emulated GPUs" && exit 77 ;;
    esac
    run 2 --
    trained "^device = auto: $why, so the CPU is used"
    run 1 -- --device=cuda
    refused 71 "device = cuda: $why; use device = auto or cpu"
    finish
fi

# ---- none ----
run 1 GPT_EMU_DEVICES=-1 -- --device=cuda
refused 71 'device = cuda: no NVIDIA driver is installed; use device = auto or cpu'
run 2 GPT_EMU_DEVICES=0 -- --device=cuda
refused 71 'device = cuda: no NVIDIA GPU is visible .*; use device = auto or cpu'
run 1 GPT_EMU_DEVICES=4 CUDA_VISIBLE_DEVICES= -- --device=cuda
refused 71 'no NVIDIA GPU is visible'
run 2 GPT_EMU_DEVICES=-1 --
trained '^device = auto: no NVIDIA driver is installed, so the CPU is used'
trained '2 ranks on 1 host, cpu '
run 1 GPT_EMU_DEVICES=1 -- --device=cpu
trained '1 rank on 1 host, cpu '
said_not 'device = auto'

# ---- not the right one ----
run 1 GPT_EMU_CC=70 --
refused 71 'GPU 0 is a .* of compute capability 7\.0, this program needs 7\.5 or newer'
run 1 GPT_EMU_CC=75 -- --dtype=bfloat16
refused 64 'dtype = bfloat16: .* has compute capability 7\.5, bfloat16 needs 8\.0; use dtype = float16 or auto'
run 1 GPT_EMU_CC=75 --
trained '1 rank on 1 host, cuda \(.*\), float16, comm single'
run 1 GPT_EMU_CC=80 --
trained '1 rank on 1 host, cuda \(.*\), bfloat16, comm single'
run 1 GPT_EMU_CC=80 -- --dtype=float32
trained '1 rank on 1 host, cuda \(.*\), float32, comm single'

# ---- not enough ----
run 2 GPT_EMU_DEVICES=1 --
refused 71 '2 ranks on .* share 1 GPU: ranks 0 and 1 are both on .* \(GPU-.*\); start one rank per GPU, or .* comm = mpi'
run 4 GPT_EMU_DEVICES=2 --
refused 71 '4 ranks on .* share 2 GPUs: ranks 0 and 2 are both on '
run 4 GPT_EMU_DEVICES=3 CUDA_VISIBLE_DEVICES=1,2,0 -- --device=cuda
refused 71 '4 ranks on .* share 3 GPUs: ranks 0 and 3 are both on '
run 2 GPT_EMU_DEVICES=1 -- --comm=mpi
trained '^notice: 2 ranks on .* share 1 GPU: '
trained '2 ranks on 1 host, cuda \(.*\), bfloat16, comm mpi'
half=$(sed -n 's/^memory: .* per rank of \([^ ]*\) .*/\1/p' out)
run 1 GPT_EMU_DEVICES=1 --
whole=$(sed -n 's/^memory: .* per rank of \([^ ]*\) .*/\1/p' out)
[ "$half" != "$whole" ] || fail "two ranks on one GPU may use $half each, one rank $whole"

# ---- one per task ----
mixed() {
    timeout 300 mpirun --oversubscribe -np 1 env "$1" "$bin/gpt_ddp" "${short[@]}" --out_dir=out_mixed "${@:3}" : \
        -np 1 env "$2" "$bin/gpt_ddp" "${short[@]}" --out_dir=out_mixed "${@:3}" >out 2>err
    rc=$?
}
mixed CUDA_VISIBLE_DEVICES=1 CUDA_VISIBLE_DEVICES=3 --comm=mpi
trained '2 ranks on 1 host, cuda '
said_not 'share'
mixed GPT_EMU_DEVICES=1 GPT_EMU_DEVICES=0
refused 71 'rank 1 on .* has no GPU \(no NVIDIA GPU is visible .*\), rank 0 on .* has one: .* or use device = cpu'

finish
