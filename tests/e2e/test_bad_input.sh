#!/usr/bin/env bash
# Mistakes in config, data and run: the right exit code, one line from rank 0 that names the place and the fix, no file
# written, changed or lost, and no rank left hanging. Each on one rank and on two; of the mistakes in settings, which all
# take one path, a few on two.
source "$(dirname "$0")/lib.sh"
prepare_data 300
export OMPI_MCA_odls_base_sigkill_timeout=0 # else mpirun waits a second after each refusal
export CUDA_VISIBLE_DEVICES=                # none: what is wrong here is wrong on any device (test_machine.sh has more)
mistakes=0

# What there is, by name and content: before and after must be the same.
fingerprint() { find . -path ./text.txt -prune -o \( -type f -exec md5sum {} + -o -print \) | sort; }

# refused NP CODE PATTERN ARGS...: one run.
refused() {
    local np=$1 code=$2 pattern=$3 rc
    shift 3
    local launch=(mpirun --oversubscribe -np "$np")
    [ "$np" = 1 ] && launch=()
    (cd tree && timeout 20 "${launch[@]}" "$bin/gpt_ddp" "$@" >../out 2>../err)
    rc=$?
    grep -v '^gpt_ddp: ' err >others
    [ "$np" = 1 ] || : >others # mpirun adds its own
    if [ $rc != "$code" ] || [ "$(grep -c '^gpt_ddp: ' err)" != 1 ] || [ -s others ]; then
        fail "np $np, $*: rc $rc, wanted $code and one line: $(cat err)"
    elif ! grep -Eq -- "$pattern" err; then
        fail "np $np, $*: wanted \"$pattern\": $(cat err)"
    fi
    (cd tree && fingerprint) >after
    cmp -s before after || fail "np $np, $*: files changed: $(diff before after)"
}

# refuse CODE PATTERN ARGS...: the tiny run with these settings, on one rank and on two (in slow builds, a quarter of them).
refuse() {
    mistakes=$((mistakes + 1))
    local code=$1 pattern=$2
    shift 2
    (cd tree && fingerprint) >before
    refused 1 "$code" "$pattern" "${tiny[@]}" "$@"
    [ "$max_ranks" -ge 4 ] || [ $((mistakes % 4)) = 0 ] || return 0
    refused 2 "$code" "$pattern" "${tiny[@]}" "$@"
}

# refuse_setting: as refuse, on one rank.
refuse_setting() {
    mistakes=$((mistakes + 1))
    local code=$1 pattern=$2
    shift 2
    (cd tree && fingerprint) >before
    refused 1 "$code" "$pattern" "${tiny[@]}" "$@"
}

# refuse_alone PATTERN ARGS...: the second of two ranks was given these settings too.
refuse_alone() {
    mistakes=$((mistakes + 1))
    local pattern=$1 rc
    shift
    (cd tree && timeout 20 mpirun --oversubscribe -np 1 "$bin/gpt_ddp" "${tiny[@]}" : \
        -np 1 "$bin/gpt_ddp" "${tiny[@]}" "$@" >../out 2>../err)
    rc=$?
    if [ $rc != 64 ] || ! grep -Eq "^gpt_ddp: rank 1 on .*$pattern" err || [ "$(grep -c '^gpt_ddp: ' err)" != 1 ]; then
        fail "rank 1 with $*: rc $rc: $(cat err)"
    fi
}

# ini LINE...: tree/bad.ini with these lines.
ini() { printf '%s\n' "$@" >tree/bad.ini; }

# dataset NAME: a copy of the good data to spoil, without the tokenizer file (--vocab_size is then ours to give).
dataset() {
    mkdir -p "tree/data/$1"
    cp data/text/{train,val}.bin "tree/data/$1/"
}

# u16 NUMBER...: these as little-endian 16-bit words.
u16() {
    local n
    for n in "$@"; do printf "\\x$(printf %02x $((n & 255)))\\x$(printf %02x $((n >> 8)))"; done
}

mkdir tree
mv data tree/data
ln -s tree/data data
vocab=$(sed -n 's/.*"vocab_size" *: *\([0-9]*\).*/\1/p' data/text/meta.json)

# ---- the command line and the config file ----
refuse 64 'learning_rat.*did you mean learning_rate' --learning_rat=1e-3
refuse 64 'unknown argument --chek; did you mean --check' --chek
refuse 64 'unknown argument --plann=json; did you mean --plan' --plann=json
refuse 64 'n_layer = twelve is not a whole number; use 1 to 1000' --n_layer=twelve
refuse_setting 64 'n_layer = 0 is out of bounds; use 1 to' --n_layer=0
refuse_setting 64 'max_iters = 1e30 is .*; use 1 to' --max_iters=1e30
refuse_setting 64 'dropout = 1 is out of bounds; use 0 or more, below 1' --dropout=1
refuse_setting 64 'bias = maybe is neither true nor false; use true or false' --bias=maybe
refuse_setting 64 'gelu = relu is not known; use tanh, erf' --gelu=relu
refuse_setting 64 'memory_limit = lots is not an amount' --memory_limit=lots
refuse_setting 64 'n_embd = 96 is not divisible by n_head = 7; use n_head = ' --n_head=7
refuse_setting 64 'warmup_iters = 60 is above lr_decay_iters = 50; lower' --warmup_iters=60
refuse_setting 64 'min_lr = 0.1 is above learning_rate' --min_lr=0.1
refuse_setting 64 'offload = optimizer with device = cpu: .*use offload = auto' --offload=optimizer --device=cpu
refuse_setting 64 'step_timeout = -1 is out of bounds; use 0 to 1000000 seconds, or auto' --step_timeout=-1
refuse_setting 64 'comm = nccl with device = cpu.*use comm = auto' --comm=nccl --device=cpu
refuse_setting 64 'n_layer has no value' --n_layer=
refuse_setting 64 '--n_layer.*is not a setting; write --key=value' --n_layer
refuse 64 'two config files, a.ini and b.ini: give one' a.ini b.ini
refuse_setting 64 '--world is for --plan; .* mpirun -np' --world=4
refuse_setting 64 '--plan=yes: use --plan for a table or --plan=json' --plan=yes
refuse_setting 64 '--gpu is for --plan' --gpu=a100
refuse_alone '"n_layer = 2", but "n_layer = 3" on rank 0: give all ranks the same settings' --n_layer=2
refuse_alone '"seed = 5", but "seed = 1337" on rank 0' --seed=5
refuse_alone '"max_iters = 4", but ' --max_iters=4
refuse_setting 64 '--gpu=gtx970 is not known; use one of rtx3060' --plan --gpu=gtx970
refuse_setting 64 '--gpu=a100 with device = cpu' --plan --gpu=a100 --device=cpu
refuse_setting 64 'n_layer is in section model, not optim' --optim.n_layer=2
refuse 66 'missing.ini: .*No such file' missing.ini
refuse_setting 66 'data: .*[Ii]s a directory' data
ini '[model]' 'n_layer = 2' 'n_heads = 2'
refuse 64 'bad.ini:3: .*n_heads.*did you mean n_head' bad.ini
ini '[model]' 'n_layer = 2' '' 'n_layer = 3'
refuse_setting 64 'bad.ini:4: n_layer was already set on line 2; remove one' bad.ini
ini '[model' 'n_layer = 2'
refuse_setting 64 'bad.ini:1: .*has no closing ]; write' bad.ini
ini '[model]' 'n_layer'
refuse_setting 64 'bad.ini:2: ' bad.ini
ini '[optim]' 'learning_rate = fast'
refuse_setting 64 'bad.ini:2: learning_rate = fast is not a number' bad.ini
rm tree/bad.ini

# ---- the machine ----
refuse 71 'device = cuda: .*; use device = auto or cpu' --device=cuda
refuse 64 'dtype = bfloat16: the CPU trains in float32' --dtype=bfloat16
OMP_NUM_THREADS=9999 refuse 64 'OMP_NUM_THREADS=9999: must be a number from 1' --n_layer=1

# ---- data ----
refuse 66 'no dataset at data/nowhere.*gpt_prepare --out=data/nowhere' --dataset=nowhere
refuse 66 'no/such/\*.bin' '--dataset=no/such/*.bin'
dataset no_train && rm tree/data/no_train/train.bin
refuse 66 'no_train.*train' --dataset=no_train
dataset no_val && rm tree/data/no_val/val.bin
refuse 66 'no_val.*val' --dataset=no_val
dataset empty && : >tree/data/empty/train.bin
refuse 65 'empty/train.bin: empty: ' --dataset=empty
dataset odd && printf x >>tree/data/odd/val.bin
refuse 65 'odd/val.bin: .*odd' --dataset=odd
dataset wild && u16 60000 >>tree/data/wild/train.bin
refuse 65 'wild/train.bin.*60000' --dataset=wild --vocab_size="$vocab"
dataset wild_val && u16 60000 >>tree/data/wild_val/val.bin
refuse 65 'wild_val/val.bin.*60000' --dataset=wild_val --vocab_size="$vocab"
dataset short && u16 1 2 3 4 5 >tree/data/short/val.bin
refuse 65 'short/val.bin.*12|val.*block_size' --dataset=short --vocab_size="$vocab"
dataset short_train && u16 1 2 3 >tree/data/short_train/train.bin
refuse 65 'short_train|train.*block_size' --dataset=short_train --vocab_size="$vocab"
refuse 64 "vocab_size = 3 is below the $vocab of data/text/meta.json: leave it auto" --vocab_size=3
dataset meta && printf '{"format":' >tree/data/meta/meta.json
refuse 65 'meta/meta.json' --dataset=meta
dataset lies && sed 's/"vocab_size" *: *[0-9]*/"vocab_size":5/' data/text/meta.json >tree/data/lies/meta.json
refuse 65 'lies/meta.json' --dataset=lies
dataset shard && head -c 2000 /dev/zero >tree/data/shard/train.bin
printf '\x88\xd8\x34\x01\x07\x00\x00\x00' | dd of=tree/data/shard/train.bin conv=notrunc status=none
refuse 65 'shard/train.bin: .*version 7' --dataset=shard
printf '\x88\xd8\x34\x01\x01\x00\x00\x00\x10\x27\x00\x00' | dd of=tree/data/shard/train.bin conv=notrunc status=none
refuse 65 'shard/train.bin: .*10000' --dataset=shard

# ---- the run ----
refuse 64 'micro_batch = 5 does not divide the .* sequences of a rank.s step: use .* or auto' --micro_batch=5
refuse 64 'the run needs .* per rank, the limit is 1.0 MiB: .* too little; largest: .*; ' --memory_limit=1M
refuse 66 'init_from = resume: no usable checkpoint in nothing_here; init_from = auto' --init_from=resume \
    --out_dir=nothing_here
refuse 74 'text/train.bin: Not a directory; change that' --out_dir=data/text/train.bin/out
(cd tree && fingerprint) >before
mistakes=$((mistakes + 2))
refused 2 64 '15 sequences .*does not divide over 2 ranks: make the product a multiple of 2' "${tiny[@]}" \
    --batch_size=5 --gradient_accumulation_steps=3
refused 2 64 '2 ranks, but a step has only 1 sequences .*: use at most 1 ranks' "${tiny[@]}" --batch_size=1 \
    --gradient_accumulation_steps=1

# ---- checkpoints of another model ----
(cd tree && "$bin/gpt_ddp" "${tiny[@]}" --out_dir=old --max_iters=2 --checkpoint_interval=1 >../out 2>../err) ||
    fail "could not make a checkpoint: $(cat err)"
refuse 64 'old holds checkpoints of an earlier run \(old/step_00000002\): continue it with init_from' --out_dir=old
refuse 65 'n_layer is 3 in .*, 2 in this run: set n_layer = 3' --out_dir=old --init_from=resume --n_layer=2
refuse 65 'n_embd.* 96.* 64|n_embd.* 64.* 96' --out_dir=old --init_from=resume --n_embd=64
refuse 65 'block_size|n_positions' --out_dir=old --init_from=resume --block_size=16
refuse 65 'bias' --out_dir=old --init_from=resume --bias=true
refuse 65 'vocab' --out_dir=old --init_from=auto --vocab_size=$((vocab + 1))
refuse 65 'n_layer.* 3.* 2|n_layer.* 2.* 3' --out_dir=new --init_from=old/step_00000002 --n_layer=2
refuse 66 'nowhere_at_all' --out_dir=new --init_from=nowhere_at_all
refuse 66 'init_from = gpt2-xl: .* hf download openai-community/gpt2-xl ' --out_dir=new --init_from=gpt2-xl
truncate -s -4 tree/old/step_0000000{1,2}/optimizer.safetensors
(cd tree && fingerprint) >before
for how in resume auto; do
    (cd tree && timeout 20 "$bin/gpt_ddp" "${tiny[@]}" --out_dir=old --init_from=$how >../out 2>../err)
    rc=$?
    [ $rc = 65 ] || fail "all checkpoints damaged: rc $rc"
    mistakes=$((mistakes + 1))
    grep -q '^gpt_ddp: no checkpoint in old is whole (gpt_ddp --verify old says' err ||
        fail "all checkpoints damaged: $(cat err)"
done
for step in 1 2; do
    grep -q "step_0000000$step/optimizer.safetensors" err || fail "damage of step $step is not named: $(cat err)"
done
(cd tree && fingerprint) >after
cmp -s before after || fail "all checkpoints damaged: files changed: $(diff before after)"

[ $mistakes -ge 40 ] || fail "only $mistakes mistakes tried"
finish
