#!/usr/bin/env python3
"""Our GPT-2 tokens against tiktoken's, with the same vocabulary, offline.

    pip install tiktoken
    tests/text/compare_tiktoken.py BUILD_FOLDER [--strings=1000000] [--seed=1] [--data=../shared/data] [--speed]

Looks at every code point in eight neighbourhoods, at random strings, at long runs and at the texts in the data folder
(HellaSwag, LAMBADA, tinyshakespeare); prints how many of each differ, and ends with 1 if any does. --speed: MB/s of both,
taken in turns, one thread each.
"""
import argparse
import bz2
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

FRAGMENTS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\v",
             "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f",
             "\u3000", "\ufeff", "\0", "a", "the", " the", "Zürich", "e\u0301", "\u0301", "1", " 12", "½", "Ⅷ", "٣", "一", "漢字",
             "かな", "한국", "\u1112\u1161", "नमस्ते", "ไทย", "العربية", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪", "!", "...", "—", "_", "$", "<|endoftext|>",
             "<|", "|>", "aaaaaaaaaaaaaaaaaaaa", "        ", "----------------", "0" * 40, "\U0010ffff", "\ufffd", "\ufffe"]
RANGES = [(0x20, 0x7F), (0x20, 0x7F), (0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0x1100), (0x2000, 0x2C00), (0x3000, 0x3100),
          (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0x10000, 0x20000), (0x1F300, 0x1FAFF), (0, 0xD800), (0xE000, 0x110000)]


def random_text(rng):
    parts = []
    for _ in range(rng.randrange(24)):
        low, high = rng.choice(RANGES)
        parts.append(rng.choice(FRAGMENTS) if rng.random() < 0.4 else chr(rng.randrange(low, high)))
    return "".join(parts)


def random_texts(n, seed):
    rng = random.Random(seed)
    return (random_text(rng) for _ in range(n))


def code_point_texts():
    for start in range(0, 0x110000, 32):
        if not 0xD800 <= start < 0xE000:
            yield "".join(f"a{c}1{c} {c}!{c}{c}'s{c}\n{c}\t {c}" for c in map(chr, range(start, start + 32)))


def long_texts():
    rng = random.Random(2)
    for unit in ["a", " ", "\n", "中", "é", "ab", "1", "!", "=", "👍", "abcdefghij", "\u3000"]:
        yield unit * (100000 // len(unit))
    for alphabet in ["ab", "etaoinshr", "的一是不", "-=_*#", " \n"]:
        yield "".join(rng.choice(alphabet) for _ in range(100000))


def data_texts(data):
    yield (data / "tinyshakespeare_input.txt").read_text()
    whole = bz2.decompress((data / "hellaswag_val_full.txt.bz2").read_bytes()).decode()
    yield whole
    yield from whole.splitlines(keepends=True)
    for line in (data / "lambada_openai.jsonl").read_text().splitlines():
        yield from (str(value) for value in json.loads(line).values())


def our_tokens(tool, folder, texts):
    given = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    done = subprocess.run([tool, folder], input=given, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    for _ in texts:
        (n,) = struct.unpack_from("<I", done, at)
        yield list(struct.unpack_from(f"<{n}H", done, at + 4))
        at += 4 + 2 * n


def batches(texts, n=20000):
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == n:
            yield batch
            batch = []
    if batch:
        yield batch


def compare(name, texts, tool, folder, theirs):
    n = n_bytes = different = 0
    for batch in batches(texts):
        encoded = [text.encode() for text in batch]
        for text, ours in zip(batch, our_tokens(tool, folder, encoded)):
            if ours != theirs.encode_ordinary(text):
                different += 1
                if different <= 3:
                    print(f"  {text[:200]!r}: {ours[:60]}, tiktoken {theirs.encode_ordinary(text)[:60]}")
        n += len(batch)
        n_bytes += sum(map(len, encoded))
    print(f"{name}: {n} texts, {n_bytes} bytes, {different} differences", flush=True)
    return different


def speed(bench, folder, data, theirs):
    with tempfile.NamedTemporaryFile() as file:
        raw = bz2.decompress((data / "hellaswag_val_full.txt.bz2").read_bytes())
        text = raw.decode()
        file.write(raw)
        file.flush()
        for _ in range(5):
            start = time.process_time()
            theirs.encode_to_numpy(text, disallowed_special=())
            took = time.process_time() - start
            ours = subprocess.run([bench, folder, file.name], stdout=subprocess.PIPE, text=True, check=True).stdout
            print(f"HellaSwag: tiktoken {len(raw) / took / 1e6:.1f} MB per second of a processor; ours: {ours.strip()}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--strings", type=int, default=1000000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2].parent / "shared/data")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    vocab, merges = args.data / "gpt2_encoder.json", args.data / "gpt2_vocab.bpe"
    ranks = data_gym_to_mergeable_bpe_ranks(vocab_bpe_file=str(merges), encoder_json_file=str(vocab))
    theirs = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "encoder.json").symlink_to(vocab.resolve())
        (pathlib.Path(folder) / "vocab.bpe").symlink_to(merges.resolve())
        if args.speed:
            return speed(args.build / "tests/bench_bpe", folder, args.data, theirs)
        sets = {"code points": code_point_texts(), "long runs": long_texts(), "data": data_texts(args.data),
                "random": random_texts(args.strings, args.seed)}
        return sum(compare(name, texts, args.build / "tests/tool_bpe", folder, theirs) for name, texts in sets.items()) > 0


sys.exit(main())
