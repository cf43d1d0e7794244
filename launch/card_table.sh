#!/usr/bin/env bash
# The table "What fits on my card" of README.md, made of plans: launch/card_table.sh [FOLDER OF gpt_ddp].
# tests/house/test_card_table.sh compares the two.
set -uo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
bin=${1:-$source}

[ -x "$bin/gpt_ddp" ] || { echo "$0: no $bin/gpt_ddp: build it first" >&2; exit 66; }

models=("124M owt_12gb" "350M gpt2_medium_12gb" "774M gpt2_large_12gb" "1558M gpt2_xl_12gb")
cards=("rtx3060 1" "rtx3060 4" "rtx4090 1" "rtx4090 4" "a100 1" "h200 1")

# cell CONFIG CARD WORLD: micro-batch, GiB, what was given up for it, estimated tokens/s.
cell() {
    local plan config=$source/configs/$1.ini
    local of_several=$source/configs/${1%_12gb}_${3}x12gb.ini
    [ -f "$of_several" ] && config=$of_several
    plan=$("$bin/gpt_ddp" "$config" --plan --gpu="$2" --world="$3" --vocab_size=50257 2>/dev/null) || {
        echo "does not fit"
        return
    }
    awk '
        $1 == "micro_batch" { micro = $2 }
        $1 == "recompute" && NF > 2 { also = also ", recompute" }
        $1 == "recompute" && NF == 2 && $2 != "gelu_ln" { also = also ", recompute" }
        $1 == "zero_stage" && $2 == "2:" { also = also ", gradients shared" }
        /offload = optimizer/ { also = also ", AdamW on the host" }
        $1 == "extra" { extra = $3 }
        $1 == "estimate" { for (i = 1; i <= NF; i++) if ($i ~ /tokens/) rate = $(i - 1) }
        /total per rank/ { total = $(NF - 1) " " $NF }
        END {
            gsub(",", "", rate)
            if (also ~ /recompute/) sub("recompute", "recompute +" extra " %", also)
            rate += 0
            shown = sprintf(rate < 10000 ? "%.1fk" : "%.0fk", rate / 1000)
            printf "B %d, %s, %s tok/s%s\n", micro, total, shown, also
        }' <<<"$plan"
}

printf '| model |'
for card in "${cards[@]}"; do
    read -r name world <<<"$card"
    printf ' %s |' "$([ "$world" = 1 ] && echo "$name" || echo "$world x $name")"
done
printf '\n|---|'
for card in "${cards[@]}"; do printf -- '---|'; done
printf '\n'
for model in "${models[@]}"; do
    read -r size config <<<"$model"
    printf '| %s |' "$size"
    for card in "${cards[@]}"; do
        read -r name world <<<"$card"
        printf ' %s |' "$(cell "$config" "$name" "$world")"
    done
    printf '\n'
done
