#!/usr/bin/env bash
# One training run goes from every number of ranks (1 to 4) and zero_stage to every other, itself included: at each hop
# the gathered weights and optimizer, saved again after the load, have the checksums they came with.
#
#     test_reshard.sh [STAGES]      zero_stage 0 to STAGES - 1: 2 (by default) makes 64 hops, 3 makes 144
source "$GPT_SOURCE/tests/fault/lib.sh"
begin=$(now_ms)
mpirun --oversubscribe -np "$max_ranks" "$tools/tool_reshard" "$max_ranks" "${1:-2}" "$work" 2>reshard.err ||
    fail "$(cat reshard.err)"
echo "resharding: $(grep ' hops, ' reshard.err); $((($(now_ms) - begin) / 1000)) s"
finish
