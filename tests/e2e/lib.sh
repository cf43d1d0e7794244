# Shared by the scripts of this folder: a scratch folder, a small text, and ways to run and to complain.
# Sets: bin, tools (programs), work (scratch, removed at the end), max_ranks, tiny (settings of a small model).
set -uo pipefail
bin=$GPT_BIN
tools=$GPT_TOOLS
work=$(mktemp -d "${TMPDIR:-/tmp}/gpt_e2e_XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0
max_ranks=${GPT_MAX_RANKS:-4} # fewer for slow builds (sanitizers)
export OMP_NUM_THREADS=1
export XDG_CACHE_HOME=$work/cache

fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# Sentences of a small grammar: $1 lines, always the same.
make_text() {
    awk -v lines="$1" 'BEGIN {
        split("the a one this that", article); split("old small red quiet happy", kind)
        split("fox ship house river child", noun); split("sees follows finds keeps leaves", verb)
        state = 12345
        for (i = 0; i < lines; i++)
            print pick(article), pick(kind), pick(noun), pick(verb), pick(article), pick(noun) "."
    }
    function pick(words) { state = (state * 1103 + 12347) % 65521; return words[state % 5 + 1] }'
}

# data/text in $work: about 30 characters, tens of thousands of tokens.
prepare_data() {
    make_text "${1:-1500}" >text.txt
    "$bin/gpt_prepare" --kind=char --out=data/text text.txt >prepare.log 2>&1 || {
        cat prepare.log
        exit 1
    }
}

# Three buckets of gradients, a few milliseconds per step. eps is large enough that a gradient that is nothing but
# rounding (that of the key bias is zero in exact arithmetic) is not blown up to a full-sized step by AdamW.
tiny=(--dataset=text --n_layer=3 --n_head=4 --n_embd=96 --block_size=12 --bucket_mb=1 --batch_size=4
    --gradient_accumulation_steps=3 --learning_rate=1e-3 --min_lr=1e-4 --warmup_iters=5 --lr_decay_iters=50
    --eps=1e-6 --eval_iters=4 --eval_interval=1000 --log_interval=10)

# train NP OUT ARGS...: a run of NP ranks into OUT; its console in OUT.log, its errors in OUT.err. One rank runs
# without MPI.
train() {
    local np=$1 out=$2
    shift 2
    local launch=(mpirun --oversubscribe -np "$np")
    [ "$np" = 1 ] && launch=()
    "${launch[@]}" "$bin/gpt_ddp" "${tiny[@]}" --out_dir="$out" "$@" >"$out.log" 2>"$out.err"
}

# The same, and it must end well.
must_train() {
    train "$@" || {
        fail "rc $? from train $*"
        cat "$2.err"
    }
}

# same_bits A B STEP: weights and optimizer of two runs at one step are the same files.
same_bits() {
    local name step
    step=$(printf 'step_%08d' "$3")
    for name in model.safetensors optimizer.safetensors; do
        cmp "$1/$step/$name" "$2/$step/$name" || fail "$1 and $2 differ at $step in $name"
    done
}

# This program's CUDA is the emulated one: the environment decides how many GPUs there are.
is_emulated() {
    [ "$(GPT_EMU_DEVICES=-1 "$bin/gpt_ddp" --version)" != "$(GPT_EMU_DEVICES=1 "$bin/gpt_ddp" --version)" ]
}

finish() {
    [ "$failures" = 0 ] || echo "$failures failed"
    exit $((failures > 0))
}
