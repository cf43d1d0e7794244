"""The Python side of test_scores.sh: HellaSwag and LAMBADA by plain PyTorch, one row at a time.

    scores.py make DIR                                   a random GPT-2 with GPT-2's vocabulary
    scores.py score DIR TOKENIZER HELLASWAG LAMBADA      lines of JSON as gpt_eval --items writes them
    scores.py loss DIR TOKENS STRIDE                     mean loss of a file, windows as transformers' guide to perplexity
"""
import json
import sys

import numpy
import torch
import transformers as hf


def make(folder):
    torch.manual_seed(7)
    config = hf.GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=96, initializer_range=0.3)
    hf.GPT2LMHeadModel(config).save_pretrained(folder)


def row(model, context, continuation):
    ids = (context + continuation)[-(model.config.n_positions + 1):]
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0, -len(continuation):].double()
    target = torch.tensor(continuation)
    nll = torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
    return nll, len(continuation), int(bool((logits.argmax(-1) == target).all()))


def score(folder, vocab, hellaswag, lambada):
    model = hf.GPT2LMHeadModel.from_pretrained(folder).eval()
    encode = hf.GPT2Tokenizer(f"{vocab}/encoder.json", f"{vocab}/vocab.bpe").encode
    lines = open(hellaswag).read().split("\n")
    for item in range(len(lines) // 6):
        context, label, *endings = lines[6 * item:6 * item + 6]
        for choice, ending in enumerate(endings):
            nll, n, _ = row(model, encode(context), encode(" " + ending))
            print(json.dumps({"task": "hellaswag", "item": item, "choice": choice, "label": int(label), "nll": nll,
                              "tokens": n, "greedy": 0}))
    for item, line in enumerate(open(lambada)):
        line = json.loads(line)
        nll, n, greedy = row(model, encode(line["context"]), encode(" " + line["continuation"]))
        print(json.dumps({"task": "lambada", "item": item, "choice": 0, "label": 0, "nll": nll, "tokens": n, "greedy": greedy}))


def loss(folder, tokens, stride):
    model = hf.GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.tensor(numpy.fromfile(tokens, dtype=numpy.uint16).astype(numpy.int64))
    T, total, done = model.config.n_positions, 0.0, 1
    end = min(T + 1, len(ids))
    while done < len(ids):
        window = ids[max(0, end - T - 1):end]
        with torch.no_grad():
            logits = model(window[None, :-1]).logits[0].double()
        total += torch.nn.functional.cross_entropy(logits[-(end - done):], window[-(end - done):], reduction="sum").item()
        done, end = end, min(end + stride, len(ids))
    print(f"{total / (len(ids) - 1):.6f}")


if sys.argv[1] == "make":
    make(sys.argv[2])
elif sys.argv[1] == "score":
    score(*sys.argv[2:])
else:
    loss(sys.argv[2], sys.argv[3], int(sys.argv[4]))
