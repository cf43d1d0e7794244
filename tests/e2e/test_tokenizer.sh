#!/usr/bin/env bash
# The tokenizer goes into every checkpoint: from the data's folder, with or without meta.json; where that has none, from the
# model that a run began from, and from checkpoint to checkpoint; and without any, the log says so.
source "$(dirname "$0")/lib.sh"
toy=$GPT_SOURCE/tests/golden/bpe
make_text 300 >text.txt
"$bin/gpt_prepare" --tokenizer="$toy" --split=tail --out=data/text text.txt >prepare.log 2>&1 || fail "$(cat prepare.log)"
size=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' data/text/meta.json)
tiny+=(--device=cpu --vocab_size="$size")

has() { # FOLDER FILES: these of a tokenizer, and no others
    local found
    found=$(cd "$1" && ls | grep -E 'meta|vocab|encoder|merges|tokenizer' | xargs)
    [ "$found" = "$2" ] || fail "$1 has: $found, wanted: $2"
}
talks() { "$bin/gpt_sample" "$1" --device=cpu --prompt="the old" --max_new_tokens=2 >sample.log 2>&1 || fail "gpt_sample $1: $(cat sample.log)"; }

must_train 1 whole --max_iters=1
has whole/step_00000001 "merges.txt meta.json tokenizer_config.json vocab.json"

rm data/text/meta.json data/text/tokenizer_config.json
must_train 1 files --max_iters=1
has files/step_00000001 "merges.txt vocab.json"
talks files

mv data/text/vocab.json data/text/encoder.json
mv data/text/merges.txt data/text/vocab.bpe
must_train 1 openai --max_iters=1
has openai/step_00000001 "merges.txt vocab.json"
talks openai
grep -q 'no tokenizer' openai.log && fail "there is one: $(cat openai.log)"

rm data/text/encoder.json data/text/vocab.bpe
must_train 2 tuned --init_from=whole/step_00000001 --max_iters=1
has tuned/step_00000001 "merges.txt meta.json tokenizer_config.json vocab.json"
must_train 1 tuned --init_from=resume --max_iters=2 --keep_checkpoints=1
has tuned/step_00000002 "merges.txt meta.json tokenizer_config.json vocab.json"
talks tuned

must_train 1 none --max_iters=1
has none/step_00000001 ""
grep -q 'notice: no tokenizer' none.log || fail "no word of it: $(cat none.log)"

# Other characters, as many of them: the same ids.
tr a-z A-Z <text.txt >upper.txt
for name in text upper; do "$bin/gpt_prepare" --out=data/chars-$name $name.txt >prepare.log 2>&1 || fail "$(cat prepare.log)"; done
must_train 1 chars --dataset=chars-text --max_iters=1
must_train 1 chars --dataset=chars-text --init_from=resume --max_iters=2
grep -q 'warning: the tokenizer' chars.log && fail "it is the same: $(cat chars.log)"
must_train 1 chars --dataset=chars-upper --init_from=resume --max_iters=3
grep -q 'warning: the tokenizer beside the tokens of dataset chars-upper is not that of chars/step_00000002' chars.log ||
    fail "no word of other characters: $(cat chars.log)"
finish
