#!/usr/bin/python3
"""Golden vectors of two tiny GPT-2 models, in float64 by PyTorch's autograd.

    /usr/bin/python3 tests/golden/make_gpt2.py        (Debian: python3-torch)

Writes gpt2_bias_tanh.safetensors and gpt2_nobias_erf.safetensors beside this file. Each holds
"losses" (before each of 3 AdamW updates, and after the last) and "grad.NAME" of every parameter
before the first. Parameters and tokens are not stored: tests/support/tiny_gpt.c makes the same
ones from the same integers (`noise` here, tiny_noise there), exact in float32.
"""

import json
import math
import os
import struct

import torch
import torch.nn.functional as F

MODELS = {
    "gpt2_bias_tanh": dict(L=3, H=3, C=24, V=131, block=40, B=3, T=33, bias=True, gelu="tanh"),
    "gpt2_nobias_erf": dict(L=2, H=3, C=21, V=65, block=7, B=2, T=7, bias=False, gelu="none"),
}
UPDATES = 3
ADAMW = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
WEIGHT_DECAY = 0.1


def noise(stream, n):
    """n multiples of 2^-16 in [-0.5, 0.5): an integer hash of (stream, index)."""
    x = torch.arange(1, n + 1, dtype=torch.int64) * 2654435761 + stream * 40503
    x &= 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 2246822519) & 0xFFFFFFFF
    x ^= x >> 13
    return (x >> 16).double() / 65536 - 0.5


def parameters(d):
    """name -> leaf tensor, in the order of the flat vector: index i uses noise stream i."""
    C = d["C"]
    shapes = {"wte.weight": (d["V"], C), "wpe.weight": (d["block"], C)}
    for l in range(d["L"]):
        for name, shape in [
            ("ln_1.weight", (C,)), ("ln_1.bias", (C,)),
            ("attn.c_attn.weight", (C, 3 * C)), ("attn.c_attn.bias", (3 * C,)),
            ("attn.c_proj.weight", (C, C)), ("attn.c_proj.bias", (C,)),
            ("ln_2.weight", (C,)), ("ln_2.bias", (C,)),
            ("mlp.c_fc.weight", (C, 4 * C)), ("mlp.c_fc.bias", (4 * C,)),
            ("mlp.c_proj.weight", (4 * C, C)), ("mlp.c_proj.bias", (C,)),
        ]:
            shapes[f"h.{l}.{name}"] = shape
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (C,)
    if not d["bias"]:
        shapes = {name: s for name, s in shapes.items() if not name.endswith("bias")}
    p = {}
    for i, (name, shape) in enumerate(shapes.items()):
        value = noise(i, math.prod(shape)).reshape(shape)
        p[name] = (value + 1 if len(shape) == 1 and name.endswith("weight") else value / 2)
        p[name].requires_grad_()
    return p


def batch(d):
    n = d["B"] * d["T"]
    ids = ((noise(1000, n + 1) + 0.5) * d["V"]).floor().long()
    tokens, targets = ids[:-1].reshape(d["B"], -1), ids[1:].clone()
    targets[3] = -1  # ignored
    return tokens, targets


def loss_of(p, d, tokens, targets):
    def norm(x, name):
        return F.layer_norm(x, (d["C"],), p[name + ".weight"], p.get(name + ".bias"), 1e-5)

    def linear(x, name):
        y = x @ p[name + ".weight"]
        return y + p[name + ".bias"] if d["bias"] else y

    B, T, C, H = d["B"], d["T"], d["C"], d["H"]
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    x = p["wte.weight"][tokens] + p["wpe.weight"][:T]
    for l in range(d["L"]):
        qkv = linear(norm(x, f"h.{l}.ln_1"), f"h.{l}.attn.c_attn")
        q, k, v = (t.reshape(B, T, H, C // H).transpose(1, 2) for t in qkv.split(C, dim=2))
        score = (q @ k.transpose(2, 3) / math.sqrt(C // H)).masked_fill(~causal, -math.inf)
        y = (score.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + linear(y, f"h.{l}.attn.c_proj")
        hidden = F.gelu(linear(norm(x, f"h.{l}.ln_2"), f"h.{l}.mlp.c_fc"), approximate=d["gelu"])
        x = x + linear(hidden, f"h.{l}.mlp.c_proj")
    logits = norm(x, "ln_f") @ p["wte.weight"].t()
    total = F.cross_entropy(logits.reshape(B * T, -1), targets, ignore_index=-1, reduction="sum")
    return total / (B * T)


def train(d):
    p = parameters(d)
    tokens, targets = batch(d)
    groups = [
        dict(params=[t for t in p.values() if t.dim() >= 2], weight_decay=WEIGHT_DECAY),
        dict(params=[t for t in p.values() if t.dim() < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, **ADAMW)
    losses, out = [], {}
    for update in range(UPDATES):
        optimizer.zero_grad()
        loss = loss_of(p, d, tokens, targets)
        losses.append(loss.item())
        loss.backward()
        if update == 0:
            out = {"grad." + name: t.grad.clone() for name, t in p.items()}
        optimizer.step()
    losses.append(loss_of(p, d, tokens, targets).item())
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    return out


def save(path, tensors):
    header, at, data = {}, 0, b""
    for name, t in tensors.items():
        values = t.flatten().tolist()
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = dict(dtype="F32", shape=list(t.shape), data_offsets=[at, len(data)])
        at = len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    for name, dims in MODELS.items():
        result = train(dims)
        save(os.path.join(here, name + ".safetensors"), result)
        print(name, " ".join(f"{x:.6f}" for x in result["losses"].tolist()))
