#!/usr/bin/env bash
# gpt_eval: HellaSwag, LAMBADA and the loss of a token file equal a plain PyTorch computation, row by row, on 1 and 3 ranks.
#
#     GPT_PYTHON   a python3 with torch and transformers (default python3; skipped without them)
#     ITEMS        of HellaSwag and of LAMBADA (40)
source "$(dirname "$0")/lib.sh"
python=${GPT_PYTHON:-python3}
data=$GPT_SHARED_DATA items=${ITEMS:-40}
[ -e "$data/gpt2_encoder.json" ] || { echo "skipped: GPT-2's vocabulary is not here"; exit 0; }
"$python" -c 'import importlib.util as u; [u.find_spec(m).name for m in ("torch", "transformers")]' 2>/dev/null || {
    echo "skipped: no torch and transformers for $python (GPT_PYTHON names another)"
    exit 0
}
export HF_HUB_OFFLINE=1
mkdir vocab
cp "$data/gpt2_encoder.json" vocab/encoder.json
cp "$data/gpt2_vocab.bpe" vocab/vocab.bpe
bzcat "$data/hellaswag_val_full.txt.bz2" | head -n $((6 * items)) >hellaswag.txt
head -n "$items" "$data/lambada_openai.jsonl" >lambada.jsonl
head -c 2002 "$data/shakespeare_bpe_val.bin" >tokens.bin
scores() { "$python" "$GPT_SOURCE/tests/e2e/scores.py" "$@" 2>py.err || { fail "scores.py $1"; cat py.err; }; }

# the same items as the original's lines of JSON
awk 'function q(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
    NR % 6 == 1 { c = $0 } NR % 6 == 2 { l = $0 } NR % 6 > 2 || NR % 6 == 0 { e = e (e == "" ? "" : ", ") q($0) }
    NR % 6 == 0 { print "{\"ctx\": " q(c) ", \"label\": " l ", \"endings\": [" e "]}"; e = "" }' hellaswag.txt >hellaswag.jsonl

compare() { # OURS THEIRS
    "$python" - "$@" <<'EOF' || fail "$1 and $2 differ"
import json, sys
ours, theirs = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
assert len(ours) == len(theirs), (len(ours), len(theirs))
for a, b in zip(ours, theirs):
    assert all(a[k] == b[k] for k in b if k not in ("nll", "greedy")), (a, b)
    assert abs(a["nll"] - b["nll"]) <= 1e-4 * b["nll"], (a, b)
    assert b["task"] == "hellaswag" or a["greedy"] == b["greedy"], (a, b)
EOF
}

scores make model
scores score model vocab hellaswag.txt lambada.jsonl >theirs.jsonl
for np in 1 3; do
    [ $np -le $max_ranks ] || continue
    launch=(mpirun --oversubscribe -np $np)
    [ $np = 1 ] && launch=()
    "${launch[@]}" "$bin/gpt_eval" model --device=cpu --tokenizer=vocab --hellaswag=hellaswag.txt --lambada=lambada.jsonl \
        --items=ours_$np.jsonl >eval_$np.log 2>&1 || fail "rc $? on $np ranks: $(cat eval_$np.log)"
    compare ours_$np.jsonl theirs.jsonl
    cmp eval_1.log eval_$np.log || fail "$np ranks say something else"
done
"$bin/gpt_eval" model --device=cpu --tokenizer=vocab --hellaswag=hellaswag.jsonl --items=json.jsonl >json.log 2>&1 || fail "$(cat json.log)"
cmp <(grep hellaswag ours_1.jsonl) json.jsonl || fail "JSON and text differ"

for stride in 96 32 1; do
    "$bin/gpt_eval" model --device=cpu --data=tokens.bin --stride=$stride >loss.log 2>&1 || fail "$(cat loss.log)"
    ours=$(sed -n 's/.*loss \([0-9.]*\),.*/\1/p' loss.log) theirs=$(scores loss model tokens.bin $stride)
    awk -v a="$ours" -v b="$theirs" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 1e-9) }' || fail "stride $stride: $ours, PyTorch $theirs"
    grep -q ': 1000 tokens' loss.log || fail "stride $stride: $(cat loss.log)"
done
cat eval_1.log
finish
