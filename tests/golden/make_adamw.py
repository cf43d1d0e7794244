#!/usr/bin/python3
"""Writes adamw.h: ten updates of torch.optim.AdamW (Debian's python3-torch), for tests/kernels/test_ops_adamw.c.

    ./make_adamw.py > adamw.h
"""
import torch

N, STEPS, LR, BETAS, EPS = 7, 10, 6e-4, (0.9, 0.95), 1e-8
DECAYS = (0.1, 0.0)


def row(values):
    """A C initialiser with every bit: hexadecimal floats, which need 6 digits."""
    return "{" + ", ".join(float(v).hex().replace("0000000p", "p") + "f" for v in values) + "}"


def run(decay, start, grads):
    p = torch.nn.Parameter(start.clone())
    opt = torch.optim.AdamW([p], lr=LR, betas=BETAS, eps=EPS, weight_decay=decay)
    for grad in grads:
        p.grad = grad.clone()
        opt.step()
    return p.detach(), opt.state[p]["exp_avg"], opt.state[p]["exp_avg_sq"]


torch.manual_seed(1337)
start = torch.randn(N)
# From tiny to large: eps matters for the first, nothing overflows in the last.
grads = torch.randn(STEPS, N) * 10.0 ** torch.arange(-9, 5, 2, dtype=torch.float32)[:N]

print(f"/* Made by make_adamw.py with torch {torch.__version__}. */")
print("#ifndef GPT_TESTS_GOLDEN_ADAMW_H\n#define GPT_TESTS_GOLDEN_ADAMW_H\n")
print(f"enum {{ GOLDEN_N = {N}, GOLDEN_STEPS = {STEPS}, GOLDEN_RUNS = {len(DECAYS)} }};")
print(f"static const double GOLDEN_LR = {LR}, GOLDEN_BETA1 = {BETAS[0]}, GOLDEN_BETA2 = {BETAS[1]},")
print(f"                    GOLDEN_EPS = {EPS};\n")
print("/* clang-format off */")
print(f"static const float GOLDEN_START[GOLDEN_N] = {row(start)};")
print("static const float GOLDEN_GRAD[GOLDEN_STEPS][GOLDEN_N] = {")
for grad in grads:
    print(f"    {row(grad)},")
print("};")
print("static const struct {")
print("    double weight_decay;")
print("    float p[GOLDEN_N], m[GOLDEN_N], v[GOLDEN_N];")
print("} GOLDEN_END[GOLDEN_RUNS] = {")
for decay in DECAYS:
    p, m, v = run(decay, start, grads)
    print(f"    {{{decay}, {row(p)},\n     {row(m)},\n     {row(v)}}},")
print("};")
print("/* clang-format on */\n\n#endif")
