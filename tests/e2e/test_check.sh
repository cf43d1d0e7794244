#!/usr/bin/env bash
# --check says of everything whether a run could start, all at once, ends with the code of the first fault, and leaves
# nothing behind.
source "$(dirname "$0")/lib.sh"
tiny+=(--device=cpu)
prepare_data

# check CODE NP ARGS...: what it says is in $said.
check() {
    local code=$1 launch=(mpirun --oversubscribe -np "$2") rc before
    [ "$2" = 1 ] && launch=()
    shift 2
    before=$(find . | sort)
    said=$("${launch[@]}" "$bin/gpt_ddp" "${tiny[@]}" --out_dir=out --check "$@" 2>&1)
    rc=$?
    [ $rc = "$code" ] || fail "--check $*: exit code $rc, not $code: $said"
    [ "$(find . | sort)" = "$before" ] || fail "--check $*: left something"
}

# says RESULT WHAT TEXT
says() { grep -q "^$2  *$1 .*$3" <<<"$said" || fail "not said: $2 $1 $3: $said"; }

check 0 2
for what in settings data start out_dir rank versions clocks limits memory network; do says ok $what ""; done
[ "$(grep -c '^rank .* on ' <<<"$said")" = 2 ] || fail "not a line for each rank"
grep -q FAILED <<<"$said" && fail "something failed: $said"

# The memory is that of --plan, whatever threads there are.
for threads in 1 3; do
    OMP_NUM_THREADS=$threads check 0 1
    planned=$(OMP_NUM_THREADS=$threads "$bin/gpt_ddp" "${tiny[@]}" --plan | sed -n 's/^ *total per rank *//p')
    says ok memory "$planned per rank"
done

# Everything is looked at though the first fails.
check 66 1 --dataset=nowhere --out_dir=/proc/nowhere/out --memory_limit=1M
says FAILED data "no dataset at"
says FAILED out_dir /proc
says FAILED memory "the limit is 1.0 MiB"
check 74 1 --n_layer=1000 --n_embd=65536
says FAILED out_dir "are free, and a checkpoint takes"
says ok data ""

check 66 1 --init_from=resume
says FAILED start "no checkpoint in out"
mkdir -p old/step_00000010
check 64 1 --out_dir=old
says FAILED start "checkpoints of an earlier run"
check 65 1 --out_dir=old --init_from=auto
says FAILED start "no checkpoint in old is whole"
must_train 1 saved --max_iters=2 --checkpoint_interval=1
check 0 1 --out_dir=saved --init_from=auto
says ok start "goes on from saved/step_00000002 (verified)"
yes abc | head -50 >other.txt
"$bin/gpt_prepare" --out=data/other other.txt >other.log 2>&1 || fail "$(cat other.log)"
check 0 1 --init_from=saved/step_00000001 --dataset=other
says warning data "a vocabulary of 4, the model one of [0-9]*: its tokens mean other texts"
must_train 1 tuned --init_from=saved/step_00000001 --dataset=other --max_iters=1
grep -q '^warning: dataset other has a vocabulary of 4, the model one of' tuned.log || fail "no word of the vocabulary: $(cat tuned.log)"
check 0 1 --init_from=saved/step_00000001
says ok data ""
grep -q '^data .* warning' <<<"$said" && fail "its own data: $said"
# What loading would refuse.
check 65 1 --out_dir=saved --init_from=resume --n_layer=2
says FAILED start "n_layer is 3 in the checkpoint, 2 in this run"
check 65 1 --out_dir=saved --init_from=auto --bias=true
says FAILED start "bias is false in the checkpoint"
check 65 1 --init_from=saved/step_00000001 --block_size=13
says FAILED start "block_size is 12 in the checkpoint"
check 0 1 --init_from=saved/step_00000001 --block_size=8
says ok start "from saved/step_00000001"
cp -r saved/step_00000001 model
truncate -s -9 model/model.safetensors
check 65 1 --init_from=model
says FAILED start "model.safetensors"
mv model/model.safetensors model/pytorch_model.bin
check 66 1 --init_from=model
says FAILED start "model.safetensors"
truncate -s -1 saved/step_00000002/config.json
check 0 1 --out_dir=saved --init_from=resume
says ok start "goes on from saved/step_00000001 (verified)"
grep -q 'step_00000002 is passed over: .*config.json: damaged' <<<"$said" || fail "the damaged one is not named: $said"

(
    failures=0
    ulimit -f 100
    check 74 1
    says FAILED out_dir "File too large"
    says FAILED limits "ulimit -f"
    exit $failures
) || fail "ulimit -f"

# A token of the middle that the vocabulary does not have.
cp -r data/text data/bad
printf '\xff\xff' | dd of=data/bad/train.bin bs=2 seek=$(($(stat -c %s data/bad/train.bin) / 4)) conv=notrunc status=none
check 65 1 --dataset=bad
says FAILED data train.bin

# Another program on one of the ranks.
cp "$bin/gpt_ddp" other
echo >>other
said=$(mpirun --oversubscribe -np 1 "$bin/gpt_ddp" "${tiny[@]}" --check : -np 1 ./other "${tiny[@]}" --check 2>&1)
[ $? = 71 ] || fail "another program is not 71: $said"
says FAILED versions "another gpt_ddp"

# A mistake in the settings is one line.
check 64 1 --n_layer=x
[ "$(wc -l <<<"$said")" = 1 ] || fail "a mistake in the settings: $said"
finish
