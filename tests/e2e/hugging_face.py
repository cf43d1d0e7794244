"""The Python side of test_transformers.sh.

    hugging_face.py make    MODELS in the working folder, as transformers saves them, and data/NAME with one window of random
                            tokens to validate; prints "NAME LOSS", the loss of that window
    hugging_face.py look DIR TOKENS ...    prints "DIR LOSS" for each; complaints about tensors end it
    hugging_face.py path DIR TEXT DATA QUESTIONS ITEMS   loads DIR as evaluation harnesses do, with its tokenizer: the ids of TEXT are
                            those in DATA, and the questions have the losses in ITEMS, gpt_eval's; differences end it
    hugging_face.py write DIR TOKENIZER    a model with that vocabulary into DIR, as transformers saves both; DIR/PROMPT0.txt ... and
                            what it writes by the likeliest token, DIR/WANTED0.txt ...
"""
import json
import os
import shutil
import sys

import numpy
import torch
from safetensors.torch import load_file, save_file
import transformers as hf

# name: layers, heads, width, vocabulary, positions, dtype, size of a file, activation, positions used
MODELS = {
    "single": (2, 2, 32, 97, 24, torch.float32, "1GB", "gelu_new", 24),
    "shards": (3, 4, 64, 211, 32, torch.float32, "60KB", "gelu", 32),
    "half": (1, 3, 48, 65, 16, torch.bfloat16, "1GB", "gelu_new", 16),
    "float16": (1, 3, 48, 65, 16, torch.float16, "20KB", "gelu_new", 16),
    "cropped": (2, 2, 32, 97, 24, torch.float32, "1GB", "gelu_new", 10),
}


def make_model(name, layers, heads, width, vocab, positions, dtype, size, activation):
    config = hf.GPT2Config(n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocab, n_positions=positions,
                           activation_function=activation, bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    hf.GPT2LMHeadModel(config).to(dtype).save_pretrained(name, max_shard_size=size)


def make_tokens(name, vocab, positions):
    rng = numpy.random.default_rng(3)
    os.makedirs(f"data/{name}")
    for file, n in ("val", positions + 1), ("train", 40 * positions):
        rng.integers(0, vocab, n).astype(numpy.uint16).tofile(f"data/{name}/{file}.bin")


def look(folder, tokens):
    model, info = hf.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not any(info[key] for key in info if "keys" in key), (folder, info)
    ids = torch.tensor(numpy.fromfile(tokens, dtype=numpy.uint16).astype(numpy.int64))[None]
    model.eval()
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits[0].double(), ids[0, 1:])
        assert model.generate(ids[:, :3], max_new_tokens=5, do_sample=False, pad_token_id=0).shape[1] == 8
    print(folder, f"{loss:.7f}")


def make_old():
    """What older writers left in their files: masks, a head beside the embedding, no prefix."""
    t = load_file("single/model.safetensors")
    t["lm_head.weight"] = t["transformer.wte.weight"].clone()
    for i in range(2):
        t[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 24, 24).tril().to(torch.uint8)
        t[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    os.makedirs("old")
    shutil.copy("single/config.json", "old")
    save_file({k.removeprefix("transformer."): v for k, v in t.items()}, "old/model.safetensors", metadata={"format": "pt"})


def make():
    torch.manual_seed(1)
    for name, (*shape, block) in MODELS.items():
        make_model(name, *shape)
        make_tokens(name, shape[3], block)
        look(name, f"data/{name}/val.bin")
    make_old()


def check_ids(tokenizer, text, data):
    with open(text, encoding="utf-8", newline="") as f:
        text = f.read()
    cut = int(len(text) * 0.9)
    for name, part in ("train", text[:cut]), ("val", text[cut:]):
        ids = numpy.fromfile(f"{data}/{name}.bin", dtype=numpy.uint16).tolist()
        assert tokenizer.encode(part) == ids, (name, "the ids of a text are others")
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == part, (name, "the text of ids is another")


def scores(model, tokenizer, questions):
    """Of each continuation: the sum of its losses, and whether each of its tokens is the likeliest; as lm-evaluation-harness does,
    in one batch that is padded on the right."""
    most, rows = model.config.n_positions, []
    for context, continuation in questions:
        n_context, ids = len(tokenizer.encode(context)), tokenizer.encode(context + continuation)
        rows.append((ids[-(most + 1):], len(ids) - n_context))
    longest = max(len(ids) for ids, _ in rows) - 1
    batch = torch.tensor([ids[:-1] + [tokenizer.pad_token_id] * (longest + 1 - len(ids)) for ids, _ in rows])
    with torch.no_grad():
        logs = torch.log_softmax(model(batch).logits.double(), dim=-1)
    for row, (ids, n) in zip(logs, rows):
        of, wanted = row[len(ids) - 1 - n:len(ids) - 1], torch.tensor(ids[-n:])
        yield -of.gather(1, wanted[:, None]).sum().item(), bool((of.argmax(dim=-1) == wanted).all())


def path(folder, text, data, questions, items):
    config = hf.AutoConfig.from_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, use_fast=True)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    model.tie_weights()
    tokenizer.pad_token_id = tokenizer.unk_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    assert tokenizer.is_fast and len(tokenizer) == config.vocab_size and model.dtype == torch.float32
    assert tokenizer.decode([tokenizer.eos_token_id]) == "<|endoftext|>"
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    check_ids(tokenizer, text, data)
    with open(questions) as f:
        asked = [(q["context"], " " + q["continuation"]) for q in map(json.loads, f)]
    with open(items) as f:
        ours = [json.loads(line) for line in f]
    assert len(ours) == len(asked) > 0
    for ((nll, greedy), mine) in zip(scores(model, tokenizer, asked), ours):
        assert abs(nll - mine["nll"]) < 1e-4 and greedy == bool(mine["greedy"]), (nll, greedy, mine)
    assert any(mine["greedy"] for mine in ours) and not all(mine["greedy"] for mine in ours)


def write(folder, tokenizer_folder):
    torch.manual_seed(2)
    tokenizer = hf.GPT2TokenizerFast(f"{tokenizer_folder}/vocab.json", f"{tokenizer_folder}/merges.txt")
    vocab = len(tokenizer)
    config = hf.GPT2Config(n_layer=3, n_head=4, n_embd=64, vocab_size=vocab, n_positions=64, initializer_range=0.3,
                           bos_token_id=None, eos_token_id=None)
    model = hf.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(f"{tokenizer_folder}/vocab.json", folder)
    shutil.copy(f"{tokenizer_folder}/merges.txt", folder)
    of_char = {c: b for b, c in bytes_to_unicode().items()}
    of_id = {i: bytes(of_char[c] for c in t) if t != "<|endoftext|>" else t.encode() for t, i in tokenizer.get_vocab().items()}
    for i, prompt in enumerate(("it was the best of times", "\n", "<|endoftext|>über 东京, it was")):
        ids = torch.tensor([tokenizer.encode(prompt)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False, pad_token_id=0)
        with open(f"{folder}/PROMPT{i}.txt", "w") as f:
            f.write(prompt)
        with open(f"{folder}/WANTED{i}.txt", "wb") as f:
            f.write(b"".join(of_id[t] for t in out[0].tolist()) + b"\n---------------\n")


def bytes_to_unicode():
    """GPT-2's: which character stands for which byte in a vocabulary."""
    same = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in same]
    return {b: chr(b) for b in same} | {b: chr(256 + i) for i, b in enumerate(others)}


if sys.argv[1] == "make":
    make()
elif sys.argv[1] == "path":
    path(*sys.argv[2:])
elif sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3])
else:
    for i in range(2, len(sys.argv), 2):
        look(sys.argv[i], sys.argv[i + 1])
