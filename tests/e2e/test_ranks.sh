#!/usr/bin/env bash
# The same training on 1, 2, 3 and 4 ranks, under every way to share out and to reduce: 50 losses to 1e-5, weights to
# 1e-4. AdamW state at 4 ranks is a quarter.
source "$(dirname "$0")/lib.sh"
tiny+=(--device=cpu)
prepare_data

# optimizer_kib OUT: the printed AdamW state per rank, in KiB (rounded: 1.2 MiB). Exact in tests/plan.
optimizer_kib() {
    sed -n 's/.*AdamW state: \([0-9.]*\) \([KM]\)iB per rank.*/\1 \2/p' "$1.log" |
        awk '{ print $2 == "M" ? $1 * 1024 : $1 }'
}

biases=(false true)
[ "$max_ranks" -ge 4 ] || biases=(true) # slow builds
for bias in "${biases[@]}"; do
    one=one_$bias
    must_train 1 "$one" --bias=$bias --max_iters=50
    for np in 2 3 4; do
        [ $np -le "$max_ranks" ] || continue
        for mode in "0 all_reduce" "1 reduce_scatter" "1 all_reduce"; do
            read -r stage reduce <<<"$mode"
            out=np${np}_${bias}_${stage}_$reduce
            must_train $np "$out" --bias=$bias --zero_stage="$stage" --grad_reduce="$reduce" --max_iters=50
            "$tools/tool_compare_metrics" "$out/metrics.jsonl" "$one/metrics.jsonl" 1e-5 >diff ||
                fail "$out: $(cat diff)"
            "$tools/tool_compare_weights" {"$out","$one"}/step_00000050/model.safetensors 1e-4 >diff ||
                fail "$out: $(cat diff)"
        done
    done
    [ "$max_ranks" -ge 4 ] || continue
    whole=$(optimizer_kib "$one")
    quarter=$(optimizer_kib "np4_${bias}_1_reduce_scatter")
    awk -v w="$whole" -v q="$quarter" 'BEGIN { exit !(q * 4 > w * 0.9 && q * 4 < w * 1.1) }' ||
        fail "AdamW state: $whole KiB on one rank, $quarter KiB on each of four"
    replicated=$(optimizer_kib "np4_${bias}_0_all_reduce")
    awk -v w="$whole" -v r="$replicated" 'BEGIN { exit !(r > w * 0.9 && r < w * 1.1) }' ||
        fail "zero_stage 0: $replicated KiB, $whole KiB on one rank"
done
finish
