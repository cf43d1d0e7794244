#!/usr/bin/env python3
"""Write tests/golden/bpe/vocab.json and merges.txt: a small byte-level BPE vocabulary in GPT-2's file format, trained on
the words below. Ids are as GPT-2's: bytes in the order of the alphabet, merges, then <|endoftext|>.
"""
import collections
import json
import pathlib

WORDS = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was
the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness, it was the
spring of hope, it was the winter of despair, we had everything before us, we had nothing before us, we were all going
direct to Heaven, we were all going direct the other way. Don't, can't, we're, they've, I'm, he'll, she'd, it's 1775 1775
100 1000 10000 == === ==== -------- aa aaa aaaa aaaaaaaa über über Straße Straße 东京 东京 东京都 京都 🙂 🙂 🙂🙂"""
N_MERGES = 200


def alphabet():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def join(word, pair):
    out, i = [], 0
    while i < len(word):
        whole = tuple(word[i:i + 2]) == pair
        out.append("".join(word[i:i + 2]) if whole else word[i])
        i += 2 if whole else 1
    return out


def main():
    letter = alphabet()
    words = [[letter[b] for b in (" " + word).encode()] for word in WORDS.split()]
    merges = []
    while len(merges) < N_MERGES:
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        pair = max(sorted(pairs), key=pairs.get)
        merges.append(pair)
        words = [join(word, pair) for word in words]
    tokens = [*letter.values(), *dict.fromkeys(a + b for a, b in merges), "<|endoftext|>"]
    folder = pathlib.Path(__file__).parent / "bpe"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, indent=0) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


main()
