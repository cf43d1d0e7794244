#!/usr/bin/env bash
# gpt_prepare with GPT-2's tokens: texts, JSON lines, archives, folders; both formats; what it refuses and what it leaves.
set -uo pipefail
prepare=$GPT_BIN/gpt_prepare toy=$GPT_SOURCE/tests/golden/bpe eot=c801 # 456
[ -d /dev/shm ] && export TMPDIR=/dev/shm # every file is synced, some often
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }
hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }

# make OUT ARGS...: prepare into the folder OUT
make() {
    local out=$1
    shift
    "$prepare" --tokenizer="$toy" --out="$out" "$@" >"$out.log" 2>"$out.err" || fail "$out: $(cat "$out.err")"
}

# ids TEXT: its tokens in hexadecimal
ids() { printf '%s' "$1" >ids.txt && printf 'z' >>ids.txt && make ids --split=tail --force --val_fraction=0.01 ids.txt && hex ids/train.bin; }

# ---- documents ------------------------------------------------------------------------------------
for i in $(seq 300); do echo "{\"id\": $i, \"text\": \"it was the $i best of times\\nand \\u00fcber \\\"all\\\" 东京\"}"; done >a.jsonl
for i in $(seq 200); do echo "{\"text\": \"document $i, <|endoftext|> we had everything before us\"}"; done >b.jsonl
printf 'it was the worst of times' >c.txt
make plain --val_fraction=0.3 a.jsonl b.jsonl c.txt
[ -s plain.err ] && fail "plain: $(cat plain.err)"
grep -q '^501 documents, ' plain.log || fail "plain: $(cat plain.log)"
[ "$(ls -A plain | xargs)" = "merges.txt meta.json tokenizer_config.json train.bin val.bin vocab.json" ] ||
    fail "plain: $(ls -A plain | xargs)"
same plain/vocab.json "$toy/vocab.json"
same plain/merges.txt "$toy/merges.txt"
n_eot=$(od -An -v -tx2 -w2 plain/train.bin plain/val.bin | grep -c ' 01c8')
[ "$n_eot" = 501 ] || fail "plain: $n_eot ends of text for 501 documents"
[ "$(wc -c <plain/val.bin)" -gt $(($(wc -c <plain/train.bin) / 5)) ] || fail "plain: $(wc -c plain/*.bin)"

# ---- the same documents otherwise -----------------------------------------------------------------
mkdir -p folder/sub
gzip -c a.jsonl >folder/a.jsonl.gz
{ head -n 100 b.jsonl | zstd -q; tail -n +101 b.jsonl | zstd -q; } >folder/b.jsonl.zst # two frames
cp c.txt folder/sub/
echo notes >folder/notes.md
mkdir folder/.left
echo 'of an editor' | tee folder/._c.txt >folder/.left/d.txt
mkfifo folder/pipe.txt                        # nobody writes into it
cp "$toy"/{vocab.json,merges.txt} folder/sub/ # a tokenizer's, no document
make packed --val_fraction=0.3 --threads=3 folder
grep -q '^gpt_prepare: 4 files are neither texts (.txt) nor JSON lines (.jsonl), the first folder/notes.md: passed over$' packed.err || fail "packed: $(cat packed.err)"
rm folder/pipe.txt
mkfifo named.jsonl
cat b.jsonl >named.jsonl &
make named --val_fraction=0.3 a.jsonl named.jsonl c.txt
sed 's/"text"/"body"/; s/"id": /"id": 1234567890123456789/' a.jsonl >key.jsonl # beyond 64 bits
make keys --val_fraction=0.3 --text_key=body --threads=1 - <key.jsonl
make alone --val_fraction=0.3 a.jsonl
for split in train val; do
    same plain/$split.bin packed/$split.bin
    same plain/$split.bin named/$split.bin
    same alone/$split.bin keys/$split.bin
done

# ---- where the end of a text stands; shards -------------------------------------------------------
make prepended --val_fraction=0.3 --eot=prepend a.jsonl
make none --val_fraction=0.3 --eot=none a.jsonl
[ "$(hex prepended/train.bin | cut -c1-4)" = $eot ] || fail "prepended: begins with $(hex prepended/train.bin | cut -c1-4)"
[ "$(hex alone/train.bin | tail -c 4)" = $eot ] || fail "alone: ends with $(hex alone/train.bin | tail -c 4)"
[ "$(od -An -v -tx2 -w2 none/train.bin | grep -c ' 01c8')" = 0 ] || fail "none: has an end of text"
make shards --val_fraction=0.3 --format=llmc --shard_tokens=1000 a.jsonl
for split in train val; do
    for file in shards/shards_${split}_*.bin; do
        n=$((($(wc -c <"$file") - 1024) / 2))
        [ "$(od -An -tu4 -N12 "$file" | xargs)" = "20240520 1 $n" ] || fail "$file: $(od -An -tu4 -N12 "$file"), $n ids"
        [ $n = 1000 ] || [ "$file" = "$(ls shards/shards_${split}_*.bin | tail -n 1)" ] || fail "$file: $n ids"
        tail -c +1025 "$file"
    done | cmp -s - prepended/$split.bin || fail "shards: not the tokens of prepended/$split.bin"
done
[ "$(ls shards/*train*.bin | wc -l)" -gt 3 ] || fail "shards: $(ls shards)"

# ---- one text by place ----------------------------------------------------------------------------
if [ -e "${GPT_SHARED_DATA:-}/gpt2_encoder.json" ]; then
    mkdir gpt2
    cp "$GPT_SHARED_DATA/gpt2_encoder.json" gpt2/encoder.json
    tail -n +2 "$GPT_SHARED_DATA/gpt2_vocab.bpe" >gpt2/vocab.bpe # without a version
    "$prepare" --tokenizer=gpt2 --split=tail --out=shakespeare "$GPT_SHARED_DATA/tinyshakespeare_input.txt" >/dev/null ||
        fail "shakespeare"
    for split in train val; do same shakespeare/$split.bin "$GPT_SHARED_DATA/shakespeare_bpe_$split.bin"; done
    same shakespeare/merges.txt "$GPT_SHARED_DATA/gpt2_vocab.bpe"
else
    echo "skipped: the comparison with nanoGPT's files (GPT_SHARED_DATA is not there)"
fi
[ "$(ids 'it was')" = "$(ids 'it')$(ids ' was')" ] || fail "ids: $(ids 'it was')"

# A text of several batches is the same as in one thread, and as its parts.
for i in $(seq 350); do cat a.jsonl; done >long.txt
make long1 --split=tail --val_fraction=0.4 --threads=1 long.txt
make long2 --split=tail --val_fraction=0.4 --threads=2 long.txt
for split in train val; do same long1/$split.bin long2/$split.bin; done
n=$(($(wc -m <long.txt) * 6 / 10))
grep -q '^1 document, .* in 1 file: ' long1.log || fail "long1: $(cat long1.log)"
[ "$(ls -A long1 | wc -l)" = 6 ] && [ $n -gt 4194304 ] || fail "long1: $n characters, $(ls -A long1)"

# ---- lines that hold nothing ----------------------------------------------------------------------
{ head -n 50 a.jsonl; printf 'nonsense\n\n  \n{"txt": 1}\n{"text": 5}\n{"text": "\xff"}\n[1]\n'; tail -n +51 a.jsonl; } >bad.jsonl
make bad --val_fraction=0.3 bad.jsonl
for split in train val; do same bad/$split.bin alone/$split.bin; done
grep -q '^gpt_prepare: 5 lines hold no document, the first: bad.jsonl:51: ' bad.err || fail "bad: $(cat bad.err)"

# [input=FILE] refused CODE MESSAGE ARGS...: that exit code, nothing on stdout, one line on stderr with MESSAGE
refused() {
    local code=$1 message=$2 got=0
    shift 2
    "$prepare" "$@" >out.log 2>err.log <"${input:-/dev/null}" || got=$?
    [ $got = "$code" ] || fail "$*: exit $got, wanted $code"
    [ -s out.log ] && fail "$*: wrote to standard output"
    [ "$(wc -l <err.log)" = 1 ] && grep -qF -- "$message" err.log || fail "$*: no \"$message\" in: $(cat err.log)"
}
bpe="--tokenizer=$toy"
cp -r plain older
head -c -5 folder/a.jsonl.gz >cut.jsonl.gz
head -c -5 folder/b.jsonl.zst >cut.jsonl.zst
: >empty.jsonl.gz
zstd -q --long=30 - <a.jsonl >long.jsonl.zst
cp a.jsonl plain.jsonl.gz
cp a.jsonl plain.jsonl.zst
{ head -c 300 folder/a.jsonl.gz; printf '\1\2\3\4'; tail -c +305 folder/a.jsonl.gz; } >damaged.jsonl.gz
gzip -c a.jsonl >a.jsonl.gz
printf '\xFF\xFEi\0t\0' >utf16.txt
mkdir -p none.d half fast loop/in && : >fast/tokenizer.json && cp a.jsonl loop/ && ln -s .. loop/in/up && cp -r plain foreign && : >foreign/evaluation.bin && cp "$toy/vocab.json" half/
refused 65 "bad.jsonl:51: " "$bpe" --strict --out=new bad.jsonl
refused 65 "cut.jsonl.gz: is cut off" "$bpe" --out=new a.jsonl cut.jsonl.gz
refused 65 "cut.jsonl.zst: is cut off" "$bpe" --out=new a.jsonl cut.jsonl.zst
refused 65 "empty.jsonl.gz: is cut off" "$bpe" --out=new empty.jsonl.gz
refused 65 "plain.jsonl.gz: damaged" "$bpe" --out=new plain.jsonl.gz
refused 65 "plain.jsonl.zst: damaged" "$bpe" --out=new plain.jsonl.zst
refused 65 "damaged.jsonl.gz: damaged" "$bpe" --out=new damaged.jsonl.gz
# begins KIND BYTES: texts that begin so are refused by that name, packed or not, and what begins nearly so is a text
begins() {
    { printf "$2"; cat c.txt; } >begins.txt
    gzip -c begins.txt >begins.txt.gz
    refused 65 "begins.txt: begins as $1, not as UTF-8 text: " "$bpe" --out=new a.jsonl begins.txt
    refused 65 "begins.txt.gz: begins as $1, not" "$bpe" --out=new a.jsonl begins.txt.gz
    [ "$1" = UTF-32 ] && return # whose mark begins as that of UTF-16
    printf "$2" | head -c -1 >nearly.txt
    make nearly --force --val_fraction=0.3 a.jsonl nearly.txt
}
begins UTF-16 '\xFF\xFE'
begins UTF-16 '\xFE\xFF'
begins UTF-32 '\xFF\xFE\0\0'
begins UTF-32 '\0\0\xFE\xFF'
begins 'a gzip archive' '\x1F\x8B'
begins 'a Zstandard archive' '\x28\xB5\x2F\xFD'
begins 'a bzip2 archive' 'BZh91AY&SY'
begins 'an xz archive' '\xFD7zXZ\0'
begins 'a zip archive' 'PK\3\4'
begins 'a Parquet file' 'PAR1\x15'
begins 'a PDF file' '%%PDF-'
input=a.jsonl.gz refused 65 "standard input: begins as a gzip archive, not as UTF-8 text: unpack it first" "$bpe" --out=new a.jsonl -
refused 65 "iconv -f UTF-16 -t UTF-8" "$bpe" --split=tail --out=new utf16.txt
rm utf16.txt begins.txt begins.txt.gz nearly.txt
refused 65 "leave nothing to validate" "$bpe" --out=new --val_fraction=1e-9 a.jsonl
refused 65 "leaves nothing to train" "$bpe" --out=new c.txt --val_fraction=0.9999999
refused 66 "nowhere.txt" "$bpe" --out=new a.jsonl nowhere.txt
refused 66 "holds no .txt or .jsonl" "$bpe" --out=new none.d
refused 66 "has vocab.json, but no merges.txt" --tokenizer=half --out=new a.jsonl
refused 66 "encoder.json and vocab.bpe; its tokenizer.json is not read: " --tokenizer=fast --out=new a.jsonl
refused 66 "loop/in/up: a link back to loop" "$bpe" --out=new loop
refused 65 "no document in 300 lines, the first: a.jsonl:1: no text under" "$bpe" --out=new --text_key=none a.jsonl
refused 65 "--long" "$bpe" --out=new long.jsonl.zst
refused 64 "foreign holds evaluation.bin, which is not replaced" "$bpe" --out=foreign --force a.jsonl
refused 64 "--out is empty" "$bpe" --out= a.jsonl
refused 74 "cannot make the directory c.txt: Not a directory" "$bpe" --out=c.txt/new a.jsonl
refused 64 "older holds " "$bpe" --out=older a.jsonl
refused 64 "one text in a file" "$bpe" --out=new --split=tail a.jsonl
refused 64 "--split=half" "$bpe" --out=new --split=half a.jsonl
refused 64 "--shard_tokens" "$bpe" --out=new --shard_tokens=0 a.jsonl
refused 64 "--val_fraction=1: must be above 0 and below 1" "$bpe" --out=new --val_fraction=1 a.jsonl
refused 64 "--tokenizer=DIR" --kind=bpe --out=new a.jsonl
refused 64 "--strict is for --kind=bpe" --strict --out=new a.jsonl
refused 64 "--tokenizer is for --kind=bpe" "$bpe" --kind=char --out=new a.jsonl
refused 65 "leave nothing to validate" "$bpe" --out=deep/er/new --val_fraction=1e-9 a.jsonl
(ulimit -f 1; "$prepare" "$bpe" --out=new/full --val_fraction=0.3 a.jsonl >out.log 2>err.log)
[ $? = 74 ] && grep -q 'File too large' err.log || fail "a limit on the length of files: $(cat err.log)"
[ ! -e new ] && [ ! -e deep ] || fail "something was left by what was refused: $(find new deep)"
for name in plain/*; do same "$name" "older/${name#*/}"; done

# ---- killed, and again ----------------------------------------------------------------------------
mkfifo pipe
"$prepare" "$bpe" --out=older --force --threads=1 - <pipe >/dev/null 2>&1 &
pid=$!
exec 3>pipe
cat long.txt long.txt >&3
for _ in $(seq 600); do
    ls older/gpt_prepare-*.tmp >/dev/null 2>&1 && break
    sleep 0.05
done
kill -9 $pid
wait $pid 2>/dev/null || true
exec 3>&-
ls older/gpt_prepare-*.tmp >/dev/null || fail "killed too early"
for name in plain/*; do same "$name" "older/${name#*/}"; done
make older --force --format=llmc --val_fraction=0.3 a.jsonl
[ "$(ls -A older | xargs)" = "merges.txt meta.json older_train_000000.bin older_val_000000.bin tokenizer_config.json vocab.json" ] ||
    fail "older: $(ls -A older | xargs)"

# ---- killed, and the same command again: it goes on -----------------------------------------------
{ for i in $(seq 4); do cat long.txt; done; } >longer.txt
cp folder/a.jsonl.gz .
make whole --val_fraction=0.3 --threads=2 a.jsonl.gz longer.txt b.jsonl
for format in nanogpt "llmc --shard_tokens=5000000"; do
    # shellcheck disable=SC2206
    again=("$prepare" "$bpe" --out=again --val_fraction=0.3 --threads=1 --save_seconds=0 --format=$format --eot=append
        a.jsonl.gz longer.txt b.jsonl)
    for _ in 1 2 3; do # a run may be over before it is killed
        rm -rf again
        "${again[@]}" >/dev/null 2>&1 &
        pid=$!
        for _ in $(seq 3000); do
            [ -e again/gpt_prepare-journal.tmp ] && break
            sleep 0.01
        done
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null || true
        [ -e again/gpt_prepare-journal.tmp ] && break
    done
    [ -e again/gpt_prepare-journal.tmp ] || fail "again: killed too early or too late"
    ls again/*.bin >/dev/null 2>&1 && fail "again: token files of a run that was killed"
    "${again[@]}" >again.log 2>&1 || fail "again: $(cat again.log)"
    grep -q '^gpt_prepare: went on behind ' again.log || fail "again: $(cat again.log)"
    for split in train val; do
        for file in again/*$split*.bin; do
            if [[ $format = nanogpt ]]; then cat "$file"; else tail -c +1025 "$file"; fi
        done | cmp -s - whole/$split.bin || fail "again: not the tokens of whole/$split.bin ($format)"
    done
    [ -z "$(find again -name '*.tmp')" ] || fail "again: $(ls -A again)"
done

exit $((failures > 0))
