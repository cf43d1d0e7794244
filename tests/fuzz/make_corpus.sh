#!/usr/bin/env bash
# Make the seeds of tests/fuzz/corpus: what our own programs write, and by hand one file for each thing that a reader
# refuses and a fuzzer is slow to find. What fuzzing adds to them: merge.sh.
#
#     GPT_BIN=folder/of/programs tests/fuzz/make_corpus.sh
set -euo pipefail
bin=$(cd "${GPT_BIN:-.}" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMP_NUM_THREADS=1

corpus=$here/corpus
mkdir -p "$corpus"/{config,python,shards,dataset,meta,pickle,bpe,safetensors,index,record,hf_config,manifest,folder}
seed() { printf "$3" >"$corpus/$1/$2"; } # TARGET NAME FORMAT
fail_at() { printf "\\$(printf %03o $((0xE0 + $1)))"; } # the end of an input in which allocation K fails
little() { # N BYTES: an integer, its lowest byte first
    local i
    for ((i = 0; i < $2; i++)); do printf "\\x$(printf %02x $(($1 >> 8 * i & 255)))"; done
}

for ((i = 0; i < 200; i++)); do echo ab; done >text.txt
"$bin/gpt_prepare" --kind=char --out=chars text.txt >/dev/null
"$bin/gpt_prepare" --kind=byte --out=bytes text.txt >/dev/null
for bias in true false; do
    "$bin/gpt_ddp" --device=cpu --dataset=./chars --out_dir="out_$bias" --n_layer=1 --n_head=1 --n_embd=2 \
        --block_size=2 --batch_size=1 --gradient_accumulation_steps=1 --max_iters=1 --eval_interval=1 \
        --eval_iters=1 --bias=$bias >run.log 2>&1 || { cat run.log; exit 1; }
    step=out_$bias/step_00000001
    cp "$step/model.safetensors" "$corpus/safetensors/model_$bias"
    cp "$step/trainer.json" "$corpus/record/$bias"
    cp "$step/config.json" "$corpus/hf_config/$bias"
    cp "$step/MANIFEST.json" "$corpus/manifest/$bias"
    { printf M && cat "out_$bias/metrics.jsonl"; } >"$corpus/folder/metrics_$bias"
done
cp out_true/step_00000001/optimizer.safetensors "$corpus/safetensors/optimizer"
cp chars/meta.json "$corpus/meta/char"
cp bytes/meta.json "$corpus/meta/byte"
{
    cat "$here/../golden/bpe/vocab.json"
    printf '\0'
    cat "$here/../golden/bpe/merges.txt"
} >"$corpus/bpe/both"
printf '#version: 0.2\na a\na b\naa a\naa b\naaa a\nab ab\n\xc4\xa0 a\n' >"$corpus/bpe/merges"
"$bin/gpt_ddp" --print-config >"$corpus/config/printed"

# nanoGPT's files.
seed python whole '# a comment\nimport time\nout_dir = "out-x" # c\nbatch_size = 12\nn_layer, n_head = 3, 3\n'
seed python arithmetic 'max_iters = 5 * 8\nlr_decay_iters = max_iters // 2 + 3 %% 2 ** (1 - 0) / 1\nlearning_rate = -(-6e-4)\n'
seed python strings "dataset = 'a\\\\tb'\nwandb_run_name = 'ft-' + str(time.time())\nwandb_log = True; compile = False\n"
seed python names 'warm = 1_0\nwarmup_iters = 2*warm\ninit_from = None\nbias=False\n\n    # inside\n'
seed python no_python 'if x:\n    batch_size = 3\n'
seed python words 'n_layer = 0x3\n\036--n_layer=2'

# Settings. \036 begins a word of the command line.
seed config quotes "; quotes, comments\n[run]\nout_dir = 'a #b' # c\n[model]\r\nn_layer=3\nbias = off\n"
seed config words '[model]\nn_layer = 3\n\036--model.n_layer=2k\036--optim.n_layer=2\036learning_rate=1e-4*2'
seed config no_word 'n_layer = 3\n\036n_layer'
seed config ignored 'compile = True\nbackend = nccl\ncompile2=1\nn_layers = 1\n'
seed config ignored_twice 'compile = True\nwandb_log = 0\n\036--compile=1'
seed config blanks "\036--dataset= ' a ' \036--n_layer= 3\036--out_dir="
seed config bytes 'memory_limit = 11.6 GiB\nbucket_mb = 25\n'
seed config bytes_b 'memory_limit = 512mb\n'
seed config text_range 'n_layer = 12345678901234567890123\n'
seed config product_of 'batch_size = 5 * x\n'
seed config large 'batch_size = 1e300\n'
seed config seconds_end 'init_timeout = 5s x\n'
seed config bytes_bad 'memory_limit = 12Q\n'
seed config bytes_huge 'memory_limit = 1e300T\n'
seed config hexadecimal 'learning_rate = 0x1p3\n'
seed config fraction 'n_layer = 2.5\n'
seed config product 'batch_size = 5 * 8\nlearning_rate = 1 %% 2\n'
seed config infinite 'learning_rate = 1e300*1e300\n'
seed config seconds 'save_timeout = 1m30s\nstep_timeout = auto\ninit_timeout = 5\n'
seed config seconds_ms 'init_timeout = 900ms 1h 1d\n'
seed config seconds_bad 'init_timeout = 3x\n'
seed config seconds_word 'init_timeout = x\n'
seed config heads 'n_embd = 30\nn_head = 7\n'
seed config heads_word 'n_embd = 30\n\036--n_head=4'
seed config heads_default 'n_head = 7\n'
seed config heads_prime 'n_embd = 2\nn_head = 3\n'
seed config min_lr 'min_lr = 1\nlearning_rate = 1e-3\n'
seed config constant 'min_lr = 1\ndecay_lr = false\n'
seed config warmup 'warmup_iters = 10\nlr_decay_iters = 5\n'
seed config intervals 'always_save_checkpoint = false\ncheckpoint_interval = 7\neval_interval = 2\n'
seed config cpu_dtype 'device = cpu\ndtype = bfloat16\n'
seed config cpu_float16 'device = cpu\ndtype = float16\n'
seed config cpu_nccl 'device = cpu\ncomm = nccl\n'
seed config cpu_offload 'device = cpu\noffload = optimizer\n'
seed config cpu_master 'device = cpu\nmaster = remainder16\n'
seed config cpu 'device = cpu\ndtype = float32\ncomm = mpi\n'
seed config float32_master 'dtype = float32\nmaster = remainder16\n'
seed config float16_master 'dtype = float16\nmaster = remainder16\n'
seed config nul 'n_layer = 1\000\n'
seed config both_quotes "out_dir = a'b\"c\n"
seed config one_quote "out_dir = a'b\ndataset = a\"b;c\n"
seed config control 'out_dir = a\tb\n'
seed config choice 'dtype = bfloat17\n'
seed config no_bool 'bias = maybe\n'
seed config duplicate 'n_layer = 1\nn_layer = 2\n'
seed config no_end '[model\nn_layer=1\n'
seed config after_end '[model] x\n'
seed config no_equals 'n_layer\n'
seed config no_value 'n_layer =\n'
seed config open_quote 'out_dir = "a\n'
seed config bounds 'dropout = 1\n'
seed config init 'init_from = gpt2-xl\n'
seed config mark '\xef\xbb\xbfn_layer = 1\n'
seed config no_memory 'n_layer = 1\n\xe1'
{ printf 'out_dir = '; printf 'x%.0s' {1..1100}; echo; } >"$corpus/config/long"
{ printf 'out_dir = '; printf 'x%.0s' {1..5000}; echo; } >"$corpus/config/longer"
{ printf 'x%.0s' {1..200}; echo '= 1'; } >"$corpus/config/long_key"
for ((i = 0; i < 1001; i++)); do echo "wandb_$i=1"; done | sed 's/^wandb_0=/wandb_log=/' >"$corpus/config/unknown"

# Token files and data sets.
head -c 64 chars/val.bin >"$corpus/shards/nanogpt"
shard() { # MAGIC VERSION TOKENS
    little "$1" 4; little "$2" 4; little "$3" 4; head -c 1012 /dev/zero; head -c 64 chars/val.bin
}
shard 20240520 1 32 >"$corpus/shards/llmc"
shard 20240520 1 33 >"$corpus/shards/count"
shard 20240520 2 32 >"$corpus/shards/version"
head -c 99 "$corpus/shards/llmc" >"$corpus/shards/short"
shard 20240801 1 32 >"$corpus/shards/llama"
seed shards empty ''
seed shards odd 'abc'
seed shards large '\xff\xff\x00\x00'
for ((k = 0; k < 6; k++)); do { printf aaaa; fail_at $k; } >"$corpus/shards/no_memory_$k"; done
nanogpt='data/text/train.bin\ndata/text/val.bin=ababab\n'
byte='{"format":"gpt_ddp.tokenizer","version":1,"kind":"byte","vocab_size":256}'
seed dataset nanogpt "text\n\n${nanogpt}data/text/meta.json=$byte\n"
seed dataset vocab_size "text\n300\n${nanogpt}data/text/meta.json=$byte\n"
seed dataset vocab_low "text\n65\n${nanogpt}data/text/meta.json=$byte\n"
seed dataset pickle "text\n\n${nanogpt}data/text/meta.pkl\n"
seed dataset pickle_given "text\n65\n${nanogpt}data/text/meta.pkl\n"
seed dataset bad_meta "text\n\n${nanogpt}data/text/meta.json={\n"
seed dataset pattern 'my/*.bin\n65\nmy/fineweb_train_000001.bin=abcdef\nmy/fineweb_train_000002.bin\nmy/fineweb_val_000000.bin=abcdef\nmy/medieval_train.bin\n'
seed dataset here '*.bin\n\nx_train.bin\nx_val.bin\n'
seed dataset absolute '/abs\n7\n/abs/x_train.bin\n/abs/x_val.bin\n/abs/z\n/abs/meta.json={"format":"gpt_ddp.tokenizer","version":1,"kind":"char","vocab_size":2,"itos":["a","b"]}\n'
seed dataset nowhere '/abs\n\n'
seed dataset nothing 'text\n\n'
seed dataset none '\n\n'
seed dataset no_val "text\n\ndata/text/train.bin\n"
seed dataset no_val_pattern "data/text/*\n\ndata/text/train.bin\n"
seed dataset no_train "text\n\ndata/text/other.bin\n"
seed dataset empty_val "text\n\ndata/text/train.bin\ndata/text/val.bin=\n"
for ((k = 0; k < 16; k++)); do
    { printf '*.bin\n\nx_train.bin\ny_train.bin\nx_val.bin\n'; fail_at $k; } >"$corpus/dataset/no_memory_$k"
    { printf "text\n\n$nanogpt"; fail_at $k; } >"$corpus/dataset/no_room_$k"
done

# Vocabularies.
char() { printf '{"format":"gpt_ddp.tokenizer","version":1,"kind":"char","vocab_size":%s,"itos":%s}' "$1" "$2"; }
char 5 '["\n","a","\u00e9","\u20ac","\ud83d\ude00"]' >"$corpus/meta/unicode"
char 2 '["b","a"]' >"$corpus/meta/unsorted"
char 2 '["ab","c"]' >"$corpus/meta/two"
char 2 '["a"]' >"$corpus/meta/few"
char 0 '[]' >"$corpus/meta/none"
seed meta gpt2 '{"format":"gpt_ddp.tokenizer","version":1,"kind":"gpt2","vocab_size":50257}'
seed meta kind '{"format":"gpt_ddp.tokenizer","version":1,"kind":"word","vocab_size":2}'
seed meta version '{"format":"gpt_ddp.tokenizer","version":2}'
seed meta format '{"format":"other"}'
seed meta key '{"format":"gpt_ddp.tokenizer","version":1,"key":1}'
seed meta bytes '{"format":"gpt_ddp.tokenizer","version":1,"kind":"byte","vocab_size":255}'
seed meta no_json '{'
seed meta text 'TEXT a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80'
for bytes in '\xc3' '\xc0\x80' '\xe0\x80\x80' '\xed\xa0\x80' '\xf4\x90\x80\x80' '\xf5\x80\x80\x80' '\xc3a' '\x80'; do
    seed meta "text_${bytes//[^0-9a-f]/}" "TEXT$bytes."
done
for ((k = 0; k < 16; k++)); do
    { char 2 '["a","b"]'; fail_at $k; } >"$corpus/meta/no_memory_$k"
    { printf TEXTs; fail_at $k; } >"$corpus/meta/no_set_$k"
done

# GPT-2's tokens: a vocabulary, a zero byte, merges; without the zero byte, merges for a small vocabulary.
bpe() { # NAME SED-SCRIPT MERGES
    { sed "$2" "$here/../golden/bpe/vocab.json"; printf '\0'; printf "$3"; } >"$corpus/bpe/$1"
}
bpe no_json '1s/{/[/' ''
bpe id_text '2s/[0-9]*,$/"a",/' ''
bpe id_large '2s/[0-9]*,$/65537,/' ''
bpe id_twice '2s/[0-9]*,$/1,/' ''
bpe letters '2s/"\(.*\)":/"\\u4e00":/' ''
bpe bytes '2s/"\(.*\)":/"!!!":/' ''
bpe cut '' ''
for protocol in 2 4; do
    python3 -c "import pickle, sys
text = 'ab'
sys.stdout.buffer.write(pickle.dumps({'vocab_size': 2, 'itos': dict(enumerate(text)), 'stoi': {c: i for i, c in enumerate(text)}},
    protocol=$protocol))" >"$corpus/pickle/protocol_$protocol"
done
seed bpe array '[]\0'
seed bpe few '{"a":0}\0'
seed bpe no_space 'aa\n'
seed bpe unknown 'a z\n'
seed bpe unknown_left '\xe4\xb8\x80 a\n'
seed bpe not_made 'b b\n'
seed bpe same 'a a\na a\n'
seed bpe carriage 'a a\r\na b\r\n'
for ((k = 0; k < 20; k++)); do { cat "$corpus/bpe/merges"; fail_at $k; } >"$corpus/bpe/no_memory_$k"; done

# Tensors: a header and so many zero bytes.
tensors() { # NAME HEADER BYTES
    { little ${#2} 8; printf %s "$2"; head -c "$3" /dev/zero; } >"$corpus/safetensors/$1"
}
for dtype in F32 BF16 F16 U8 BOOL; do
    bytes=2
    case $dtype in F32) bytes=4 ;; U8 | BOOL) bytes=1 ;; esac
    tensors $dtype "{\"a\":{\"dtype\":\"$dtype\",\"shape\":[3],\"data_offsets\":[0,$((3 * bytes))]}}" $((3 * bytes))
    tensors "wte_$dtype" "{\"wte.weight\":{\"dtype\":\"$dtype\",\"shape\":[3,2],\"data_offsets\":[0,$((6 * bytes))]}}" $((6 * bytes))
done
two() { echo "{\"a\":{\"dtype\":\"U8\",\"shape\":[$1],\"data_offsets\":[$2]},\"b\":{\"dtype\":\"$3\",\"shape\":[1],\"data_offsets\":[$4]}}"; }
tensors gap "$(two 1 0,1 U8 2,3)" 3
tensors overlap "$(two 2 0,2 U8 1,2)" 2
tensors odd "$(two 1 0,1 F32 1,5)" 5
tensors empty "$(two 0 0,0 U8 0,1)" 1
tensors rest "$(two 1 0,1 U8 1,2)" 3
tensors outside "$(two 1 0,1 U8 1,9)" 2
tensors backwards "$(two 1 1,0 U8 1,2)" 2
tensors shape "$(two 2 0,1 U8 1,2)" 2
tensors negative "$(two -2 0,1 U8 1,2)" 2
tensors overflow "$(two 9223372036854775807,9223372036854775807 0,1 U8 1,2)" 2
tensors rank "$(two 1,1,1,1,1 0,1 U8 1,2)" 2
tensors pair '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}' 1
tensors dtype '{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}' 8
tensors keys '{"a":{"dtype":"U8","shape":[1]}}' 1
tensors name '{"a b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' 1
tensors metadata '{"__metadata__":{"a":1}}' 0
tensors twice '{"a":1,"a":1}' 0
tensors no_object '[]' 0
seed safetensors short 'abc'
seed safetensors long '\xff\xff\xff\xff\xff\xff\xff\xff{}'
# The tied head of a whole model, right, cut, and with another value; a mask; the same tensor twice; a bias.
whole() { # NAME BIAS EXTRA BYTES: extra tensors behind those of a saved model
    python3 - "$corpus/safetensors/model_$2" "$corpus/safetensors/$1" "$3" "$4" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, body = json.loads(data[8:8 + n]), data[8 + n:]
extra = bytes.fromhex(sys.argv[4]) if not sys.argv[4].startswith("=") else body[slice(*header[sys.argv[4][1:]]["data_offsets"])]
name, dtype, shape = sys.argv[3].split(" ")
header[name] = {"dtype": dtype, "shape": json.loads(shape), "data_offsets": [len(body), len(body) + len(extra)]}
text = json.dumps(header, separators=(",", ":")).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + body + extra)
PYTHON
}

whole tied true 'lm_head.weight F32 [3,2]' =wte.weight
whole untied true 'lm_head.weight F32 [3,2]' "$(printf '00%.0s' {1..24})"
whole head_shape true 'lm_head.weight F32 [3]' "$(printf '00%.0s' {1..12})"
whole mask true 'h.0.attn.masked_bias U8 [1]' 00
whole same true 'wte.weight F32 [3,2]' "$(printf '00%.0s' {1..24})"
whole unknown true 'h.0.what F32 [1]' 00000000
whole zero_bias false 'h.0.ln_1.bias F32 [2]' 0000000000000000
whole bias false 'h.0.ln_1.bias F32 [2]' 000000000000803f
for ((k = 0; k < 24; k++)); do
    { cat "$corpus/safetensors/F32"; fail_at $k; } >"$corpus/safetensors/no_memory_$k"
done

# The index of several such files.
seed index two '{"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}'
seed index same '{"weight_map":{"a":"a.safetensors","b":"a.safetensors"}}'
seed index bad '{"weight_map":{"a":"bad.safetensors"}}'
seed index outside '{"weight_map":{"a":"../a.safetensors"}}'
seed index suffix '{"weight_map":{"a":"a.bin"}}'
seed index number '{"weight_map":{"a":1}}'
seed index empty '{"weight_map":{}}'
seed index nowhere '{"weight_map":{"a":"c.safetensors"}}'
seed index pickle DIR0
seed index whole DIR1
for ((k = 0; k < 12; k++)); do { cat "$corpus/index/two"; fail_at $k; } >"$corpus/index/no_memory_$k"; done

# trainer.json.
record() { # NAME SED-SCRIPT
    sed "$2" "$corpus/record/true" >"$corpus/record/$1"
}
record scale 's/"loss_scale": null/"loss_scale": 65536.0/'
record scale_low 's/"loss_scale": null/"loss_scale": 0.25/'
record scale_text 's/"loss_scale": null/"loss_scale": "1"/'
record updates 's/"n_updates": 1/"n_updates": 2/'
record no_updates '/"n_updates"/d'
record no_step '/"step"/d'
record large 's/"n_sequences": [0-9]*/"n_sequences": 9007199254740992/'
record loss 's/"best_val_loss": .*/"best_val_loss": true,/'
record bias 's/"bias": true/"bias": 1/'
record cut 's/"bias"/"cut": {"world": 2, "micro_batch": 3, "head_chunk": 4, "zero_stage": 1}, "bias"/; /"cut": null/d'
record cut_zero 's/"bias"/"cut": {"world": 0}, "bias"/; /"cut": null/d'
record cut_number 's/"bias"/"cut": 1, "bias"/; /"cut": null/d'
outliers() { record "$1" "s/\"bias\"/\"outliers\": $2, \"bias\"/; /\"outliers\": null/d"; }
outliers outliers '{"in_row": 1, "skipped": 2, "log_loss": [1.5], "log_norm": [0.5]}'
outliers outliers_few '{"in_row": 1, "skipped": 2, "log_loss": [1.5], "log_norm": []}'
outliers outliers_text '{"in_row": 1, "skipped": 2, "log_loss": ["a"], "log_norm": []}'
outliers outliers_large '{"in_row": 1, "skipped": 2, "log_loss": [1001], "log_norm": [0]}'
outliers outliers_list '{"in_row": 1, "skipped": 2, "log_loss": 1}'
outliers outliers_number 1
record array 's/"step": 1/"step": [1]/'
record version 's/"version": 1/"version": 2/'
seed record no_object '[1]'
seed record no_json '{'
for ((k = 0; k < 12; k++)); do { cat "$corpus/record/true"; fail_at $k; } >"$corpus/record/no_memory_$k"; done

# config.json.
model() { # NAME SED-SCRIPT
    sed "$2" "$corpus/hf_config/true" >"$corpus/hf_config/$1"
}
model erf 's/gelu_new/gelu/'
model tanh 's/gelu_new/gelu_pytorch_tanh/'
model relu 's/gelu_new/relu/'
model no_gelu '/gelu_new/d'
model gelu_number 's/"gelu_new"/1/'
model heads 's/"n_head": 1/"n_head": 2/; s/"n_embd": 2/"n_embd": 3/'
model many_heads 's/"n_head": 1/"n_head": 3/'
model dropout 's/"resid_pdrop": [0-9.]*/"resid_pdrop": 1.5/'
model dropout_float 's/"resid_pdrop": [0-9.]*/"resid_pdrop": 0.123456789012345/'
model untied 's/"tie_word_embeddings": true/"tie_word_embeddings": false/'
model tied_number 's/"tie_word_embeddings": true/"tie_word_embeddings": 1/'
model cross 's/"scale_attn_weights": true/"add_cross_attention": true/'
model inner 's/"n_inner": null/"n_inner": 8/'
model epsilon 's/"layer_norm_epsilon": [0-9.e-]*/"layer_norm_epsilon": 1e-6/'
model type 's/"model_type": "gpt2"/"model_type": "llama"/'
model no_type '/"model_type"/d'
model vocab 's/"vocab_size": [0-9]*/"vocab_size": 16777216/'
seed hf_config no_object '3'
for ((k = 0; k < 10; k++)); do { cat "$corpus/hf_config/true"; fail_at $k; } >"$corpus/hf_config/no_memory_$k"; done

# MANIFEST.json: the target makes its checksum right. There are an empty config.json, a trainer.json of two bytes, and an
# optimizer.safetensors of 1 MiB and 8 bytes of zeros.
manifest() { # NAME ENTRY
    printf '{\n  "version": 1,\n  "block_bytes": 1048576,\n  "files": [\n%s\n  ],\n  "checksum": "0123456789abcdef"\n}\n' \
        "$2" >"$corpus/manifest/$1"
}
entry() { printf '    {"name": "%s", "bytes": %s, "xxh3_64": [%s]}' "$1" "$2" "$3"; }
manifest empty "$(entry config.json 0 '')"
manifest missing "$(entry model.safetensors 0 '')"
manifest few "$(entry trainer.json 3 '"0000000000000000"')"
manifest many "$(entry trainer.json 1 '"0000000000000000"')"
manifest wrong "$(entry trainer.json 2 '"0000000000000000"')"
manifest right "$(entry trainer.json 2 '"1349cde127705c16"')"
manifest second "$(entry optimizer.safetensors 1048584 '"918780b90550bf34", "0000000000000000"')"
manifest first "$(entry optimizer.safetensors 1048584 '"0000000000000000", "c77b3abb6f87acd9"')"
manifest both "$(entry optimizer.safetensors 1048584 '"0000000000000000", "0000000000000000"')"
manifest whole "$(entry optimizer.safetensors 1048584 '"918780b90550bf34", "c77b3abb6f87acd9"')"
manifest blocks "$(entry trainer.json 2 '')"
manifest hidden "$(entry .trainer.json 0 '')"
manifest outside "$(entry ../trainer.json 0 '')"
manifest hash "$(entry trainer.json 2 '"000000000000000g"')"
manifest hash_number "$(entry trainer.json 2 1)"
manifest negative "$(entry trainer.json -1 '')"
manifest no_entry '1'
manifest crowded "$(for ((i = 0; i < 20; i++)); do [ $i = 0 ] || echo ,; entry f$i 0 ''; done)"
sed 's/"version": 1/"version": 2/' "$corpus/manifest/empty" >"$corpus/manifest/version"
sed 's/"files": \[/"files": {/; s/^  \],/  },/' "$corpus/manifest/version" | sed 's/"version": 2/"version": 1/; /config.json/d' >"$corpus/manifest/no_array"
seed manifest short '{}'
for ((k = 0; k < 10; k++)); do { cat "$corpus/manifest/right"; fail_at $k; } >"$corpus/manifest/no_memory_$k"; done

# ---- what a run left ----------------------------------------------------------------------------------

seed folder run 'R{"version":1,"config":{"n_layer":"4"},"plan":{"regions":[{"group":"a","offset":0,"bytes":9}],"total_bytes":9}}'
seed folder samples 'S{"iter":1,"text":"a"}\n'
seed folder trainer 'T{"config":{"n_layer":"4"}}'
seed folder tag 'R{"config":{"a":"<"}}'
