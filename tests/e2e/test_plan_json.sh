#!/usr/bin/env bash
# --plan=json is an array of the plans that can be made: where one of two cannot, of the other.
source "$(dirname "$0")/lib.sh"

# plans N ARGS...: N plans, with commas between them and nowhere else.
plans() {
    local wanted=$1 text
    shift
    "$bin/gpt_ddp" --plan=json --vocab_size=65 --n_layer=2 --n_embd=64 --n_head=2 "$@" >json 2>err
    text=$(tr -d ' \n' <json)
    [ "$(grep -o '"total_bytes"' json | wc -l)" = "$wanted" ] || fail "$*: not $wanted plans: $(cat json err)"
    [[ $text == \[*\] && $text != *\[,* && $text != *,\]* ]] || fail "$*: not an array: $text"
    [ "$(grep -o '},{"device"' <<<"$text" | wc -l)" = $((wanted > 1)) ] || fail "$*: not apart: $text"
}

plans 2
plans 1 --device=cpu
plans 1 --device=cuda --gpu=rtx3060
plans 1 --dtype=bfloat16            # the CPU has none
plans 1 --n_embd=4096 --n_head=4    # a GPU's heads are smaller
plans 0 --dtype=bfloat16 --n_embd=4096 --n_head=4

# For as many ranks as mpirun started, or as are named.
worlds() { mpirun --oversubscribe -np 2 "$bin/gpt_ddp" --plan=json --device=cpu "$@" 2>err | grep -o '"world": *[0-9]*' | sort -u; }
[[ $(worlds) == *2 && $(worlds --world=3) == *3 ]] || fail "worlds $(worlds), $(worlds --world=3): $(cat err)"
finish
