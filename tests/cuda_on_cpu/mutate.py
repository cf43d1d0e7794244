#!/usr/bin/env python3
"""Plants bugs in the CUDA path, one at a time, and sees that a test notices each of them.

    mutate.py                      all of them
    mutate.py WORD...              those whose file or name contains a word
    mutate.py --quick              three that compile fast
    mutate.py --list               only say what there is
    mutate.py --build KIND=DIR     use this emulated build as the one of its kind (repeatable)
    mutate.py --jobs N             bugs at a time (default: processors)

A bug is a piece of text that occurs exactly once in a source file, and what it is replaced by; a
piece that no longer does is an error, so that the list cannot silently decay. The tree and the
builds stay as they are: the changed file goes into a folder that is searched first for headers,
what depends on it is compiled from there by the build's own commands (compile_commands.json), and
the test program is linked anew with these objects in front (link.txt: Unix makefiles).

A bug is tried in the plain build, then under AddressSanitizer and UBSan, then under
ThreadSanitizer, in each with four orders of threads and streams, until something notices. Builds
that are not given by --build are made under build-mutate/. Exit status: 0 when every bug was
noticed, 1 when one survived, 2 when a bug could not be planted or the unchanged code fails."""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build-mutate"

# ---- builds ------------------------------------------------------------------------------------

# Kinds of builds, in the order they are tried, and how they are configured.
KINDS = {
    "plain": [],
    "asan": ["-DGPT_SANITIZE=address,undefined"],
    "tsan": ["-DGPT_SANITIZE=thread", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"],
}

# In each build: orders of the threads of a block, and of streams ("": as the test chooses).
SCHEDULES = [("0", ""), ("1", "early"), ("2", "alternate"), ("3", "late")]
TEST_TIMEOUT_S = 300


class Broken(Exception):
    """Not a verdict on a bug: it could not be tried."""


def run(command, **more):
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more
    )


def must(command, what, **more):
    done = run(command, **more)
    if done.returncode != 0:
        raise Broken(f"{what}:\n{done.stdout[-3000:]}")
    return done.stdout


@dataclasses.dataclass
class Test:
    name: str
    command: list
    environment: dict


class Build:
    """An emulated build, its commands and its tests. Programs are built when first asked for."""

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, folder
        self.lock = threading.Lock()
        self.baseline, self.built = {}, set()
        if not (folder / "CMakeCache.txt").exists():
            configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Unix Makefiles", "-DGPT_CUDA=emulated"]
            must([*configure, f"-DGPT_PROGRAM_DIR={folder / 'bin'}", *KINDS[kind]], f"configure {kind}")

    def load(self):
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        self.commands = {os.path.relpath(c["file"], ROOT): c for c in commands}
        listed = json.loads(must(["ctest", "--show-only=json-v1"], "ctest", cwd=self.folder))
        self.tests = {}
        for test in listed["tests"]:
            properties = {p["name"]: p["value"] for p in test.get("properties", [])}
            environment = dict(v.split("=", 1) for v in properties.get("ENVIRONMENT", []))
            self.tests[test["name"]] = Test(test["name"], test.get("command", []), environment)

    def program_of(self, test):
        """The program a test runs, among its command's words."""
        name = program_name(test)
        return next(pathlib.Path(w) for w in self.tests[test].command if pathlib.Path(w).name == name)

    def prepare(self, tests, jobs):
        targets = sorted({program_name(t) for t in tests} - self.built)
        if not targets:
            return
        print(f"building {len(targets)} test programs ({self.kind})", flush=True)
        build = ["cmake", "--build", self.folder, "-j", str(jobs), "--target"]
        must([*build, *targets], f"build {self.kind}")
        self.built |= set(targets)
        self.load()
        missing = [t for t in tests if not self.tests.get(t) or not self.tests[t].command]
        if missing:
            raise Broken(f"no such tests in {self.folder}: {' '.join(missing)}")

    def dependents(self, file):
        """Sources that must be compiled again when a file changes, as far as they were compiled."""
        if file in self.commands:
            return [file]
        found = []
        for source, command in self.commands.items():
            depends = pathlib.Path(command["directory"]) / (object_of(command) + ".d")
            if depends.exists() and f"/{file}" in depends.read_text():
                found.append(source)
        if not found:
            raise Broken(f"{file}: nothing in {self.folder} depends on it")
        return found


def program_name(test):
    """As tests/CMakeLists.txt names it."""
    ranks = re.fullmatch(r"(.*)_np\d", test)
    return f"mpi_test_{ranks[1]}" if ranks else f"test_{test}"


def object_of(command):
    words = shlex.split(command["command"])
    return words[words.index("-o") + 1]


# ---- planting ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Bug:
    name: str
    file: str
    old: str
    new: str
    tests: list
    variant: str  # of the op suites, GPT_OP_VARIANT: the device and dtype it shows on


def changed_text(bug):
    text = (ROOT / bug.file).read_text()
    if text.count(bug.old) != 1:
        raise Broken(f"{bug.file}, {bug.name}: found {text.count(bug.old)} times, not once:\n{bug.old}")
    return text.replace(bug.old, bug.new)


def compile_bug(bug, build, folder):
    """Objects of all that depends on the changed file."""
    overlay = folder / "source"
    changed = overlay / bug.file
    changed.parent.mkdir(parents=True)
    changed.write_text(changed_text(bug))
    objects = []
    for source in build.dependents(bug.file):
        command = build.commands[source]
        words = shlex.split(command["command"])
        output = folder / f"{len(objects)}.o"
        words[words.index("-o") + 1] = str(output)
        if source == bug.file:
            words[words.index("-c") + 1] = str(changed)
        words = [words[0], "-I", str(overlay), *words[1:], "-w", "-O1"]  # half the time of -O2
        words = [w for w in words if w != "-Werror"]
        must(words, f"{bug.name} does not compile", cwd=command["directory"])
        objects.append(str(output))
    return objects


def link_bug(build, test, objects, folder):
    """The test's program with these objects instead of the libraries' own."""
    program = build.program_of(test)
    line = build.folder / "tests" / "CMakeFiles" / f"{program.name}.dir" / "link.txt"
    words = shlex.split(line.read_text())
    at = words.index("-o")
    output = folder / program.name
    own = [w for w in words[:at] if not w.endswith(".o")]
    kept = [w for w in words[:at] if w.endswith(".o")]
    words = [*own, *kept, *objects, "-o", str(output), *words[at + 2 :]]
    must(words, f"{program.name} does not link", cwd=build.folder / "tests")
    return output


# ---- noticing ----------------------------------------------------------------------------------

SIGNS = [
    (r"AddressSanitizer: ([\w-]+)", "ASan"),
    (r"LeakSanitizer: ([\w ]+)", "LSan"),
    (r"runtime error: (.{1,60})", "UBSan"),
    (r"ThreadSanitizer: ([\w ]+)", "TSan"),
    (r"cuda_on_cpu: (.{1,60})", "emulator"),
    (r"assertion failed: (.{1,60})", "assertion"),
    (r"(\w+\.[ch]:\d+): error: Failure", "check"),
    (r"\[ RUN      \] (\w+)(?![\s\S]*\[ RUN )", "test"),
    (r"(?m)^FAIL: (.{1,60})", "test"),
]


def run_test(build, test, schedule, variant, program=None):
    """What noticed something: a text, or None."""
    t = build.tests[test]
    command = [str(program) if program and w == str(build.program_of(test)) else w for w in t.command]
    environment = {**os.environ, **t.environment}
    order, streams = SCHEDULES[schedule]
    environment["GPT_EMU_ORDER"] = order
    environment["GPT_OP_VARIANT"] = variant
    environment["CMOCKA_TEST_ABORT"] = "1"  # the first failure is enough
    if streams:
        environment["GPT_EMU_STREAMS"] = streams
    try:
        done = run(command, env=environment, timeout=TEST_TIMEOUT_S, cwd=build.folder / "tests")
    except subprocess.TimeoutExpired:
        return f"no end after {TEST_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    for pattern, who in SIGNS:
        found = re.search(pattern, done.stdout)
        if found:
            return f"{who}: {found[1].strip()}"
    return f"exit status {done.returncode}"


def check_baseline(build, test, schedule, variant):
    """What is noticed must be the bug: the unchanged program is silent."""
    with build.lock:
        key = test, schedule, variant
        if key not in build.baseline:
            build.baseline[key] = run_test(build, test, schedule, variant)
        if build.baseline[key]:
            raise Broken(f"{test} ({build.kind}, schedule {schedule}) fails unchanged: {build.baseline[key]}")


def try_bug(bug, build, folder):
    """What noticed the bug in this build, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        objects = compile_bug(bug, build, folder)
        for test in bug.tests:
            program = link_bug(build, test, objects, folder)
            for schedule in range(len(SCHEDULES)):
                noticed = run_test(build, test, schedule, bug.variant, program)
                if noticed:
                    check_baseline(build, test, schedule, bug.variant)
                    return f"{test}, order {SCHEDULES[schedule][0]}: {noticed}"
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- the bugs ----------------------------------------------------------------------------------

LAYERNORM = "kernels/cuda/layernorm.cu", ["kernels_ops_layernorm"]
CROSS_ENTROPY = "kernels/cuda/cross_entropy.cu", ["kernels_ops_cross_entropy"]
FORWARD = "kernels/cuda/attention_forward_sm80.cu", ["kernels_ops_attention"]
BACKWARD = "kernels/cuda/attention_backward_sm80.cu", ["kernels_ops_attention"]
TILES = "kernels/cuda/attention_tiles.cuh", ["kernels_ops_attention"]
TENSOR_CORES = FORWARD, BACKWARD, TILES
SIMT = "kernels/cuda/attention_simt.cu", ["kernels_ops_attention"]
EMBEDDING = "kernels/cuda/embedding.cu", ["kernels_ops_embedding"]
REDUCE = "kernels/cuda/reduce.cu", ["kernels_ops_reduce"]
SUMS = "kernels/cuda/common.cuh", ["kernels_ops_reduce"]
ADAMW = "kernels/cuda/adamw.cu", ["kernels_ops_adamw"]
DROPOUT = "kernels/cuda/dropout.cu", ["kernels_ops_dropout"]
MASK = "kernels/cuda/dropout.cuh", ["kernels_ops_dropout"]
COLUMN_SUMS = "kernels/cuda/column_sums.cu", ["cuda_column_sums"]
LINEAR = "kernels/cuda/linear.c", ["kernels_ops_linear"]
HEAD = "kernels/cuda/head.c", ["kernels_ops_linear"]
GEMM = "kernels/cuda/gemm.c", ["kernels_ops_linear"]
CHOOSE = "kernels/cuda/gemm_choose.c", ["cuda_on_cpu_gemm_choice"]
NCCL = "comm/comm_nccl.c", ["comm_data_np2"]
REDUCER = "src/optim/reducer.c", ["optim_reducer_np2"]
STEP = "src/train/step.c", ["train_trainer_np2"]
GRADS = "src/train/grads.c", ["train_trainer_np2"]


def bug(place, name, old, new, tests=None):
    file, usual = place
    variant = "cuda-bf16" if place in TENSOR_CORES else "cuda"  # the one prefix of all three
    return Bug(name, file, old, new, tests or usual, variant)


BUGS = [
    # ---- LayerNorm
    bug(LAYERNORM, "no barrier before the warps' sums are read",
        "= db[i][k];\n        }\n        __syncthreads();", "= db[i][k];\n        }"),
    bug(LAYERNORM, "no barrier before the warps' sums are overwritten",
        "* C + first + c] = total;\n        }\n        __syncthreads();", "* C + first + c] = total;\n        }"),
    bug(LAYERNORM, "all runs of rows write one partial sum",
        "a.partial[(2 * (int64_t)blockIdx.x + which) * C + first + c] = total",
        "a.partial[which * C + first + c] = total"),
    bug(LAYERNORM, "shared array too small",
        "SHARED_ARRAY(float, sums, WARPS * 2 * TABLE)", "SHARED_ARRAY(float, sums, WARPS * 2 * TABLE - 8)"),
    bug(LAYERNORM, "no barrier in the ordered sum",
        "of_warp[threadIdx.x] = total;\n    __syncthreads();", "of_warp[threadIdx.x] = total;"),
    bug(LAYERNORM, "bias gradient overwritten", "db[column - C] += total;", "db[column - C] = total;"),
    bug(LAYERNORM, "not what was stored is normalised",
        "x[k] = to_float(from_float<T>(x[k] + delta[k]));", "x[k] = x[k] + delta[k];"),
    # ---- cross-entropy
    bug(CROSS_ENTROPY, "no barrier between the warps' softmax",
        "of_warp[threadIdx.x / 32] = own;\n    __syncthreads();", "of_warp[threadIdx.x / 32] = own;"),
    bug(CROSS_ENTROPY, "lanes read what no warp wrote",
        "warp_softmax(lane < n_warps ? of_warp[lane] : none)",
        "warp_softmax(lane <= n_warps ? of_warp[lane] : none)"),
    bug(CROSS_ENTROPY, "loads one piece too far",
        "if (column_of<L>(i) < Vp)\n                held[i]", "if (column_of<L>(i) <= Vp)\n                held[i]"),
    bug(CROSS_ENTROPY, "mask off by one", "x[k] = column + k < V ? x[k] : value;",
        "x[k] = column + k <= V ? x[k] : value;"),
    # ---- attention on tensor cores
    bug(FORWARD, "causal mask off by one", "- e / 2 * 8 > ahead)", "- e / 2 * 8 >= ahead)"),
    bug(FORWARD, "no barrier between steps",
        "cp_async_wait<0>();\n        __syncthreads(); /* this", "cp_async_wait<0>(); /* this"),
    bug(FORWARD, "wait_group too weak",
        "cp_async_wait<0>();\n        __syncthreads(); /* this",
        "cp_async_wait<1>();\n        __syncthreads(); /* this"),
    bug(FORWARD, "too little dynamic shared memory",
        "ForwardSizes<D>::SHARED_BYTES, cuda_device", "ForwardSizes<D>::SHARED_BYTES - 16, cuda_device"),
    bug(BACKWARD, "no barrier before the held keys are read",
        "__syncthreads();\n    LeftRows<D, M, Sizes::IN_REGISTERS> keys, values;",
        "LeftRows<D, M, Sizes::IN_REGISTERS> keys, values;"),
    bug(BACKWARD, "lse and delta have one stage",
        "cp_async_commit();\n        float *lse = statistics + parity * 2 * STEP,",
        "cp_async_commit();\n        float *lse = statistics,"),
    bug(BACKWARD, "keys skip the queries beside them", "if (query0 + STEP <= key0)", "if (query0 <= key0)"),
    bug(TILES, "swizzle differs between writing and reading",
        "chunk_place<D>(16 * n + row, 2 * k + chunk)", "(16 * n + row) * (D / 8) + 2 * k + chunk"),
    bug(TILES, "halves of a right fragment swapped",
        "chunk_place<D>(16 * k + lane % 16, 2 * n + lane / 16)",
        "chunk_place<D>(16 * k + (lane + 8) % 16, 2 * n + lane / 16)"),
    bug(TILES, "load bound dropped", "const bool inside = row0 + row < T;", "const bool inside = true;"),
    bug(TILES, "store bound dropped", "if (row0 + 8 * i >= T)", "if (row0 + 8 * i >= T + 1000000)"),
    # ---- attention in plain arithmetic
    bug(SIMT, "no barrier before weights are overwritten",
        "__syncthreads(); /* nobody reads the last ones any more */", ";"),
    bug(SIMT, "no barrier before a buffer is overwritten",
        "__syncthreads();\n        load_straight<T>", "load_straight<T>"),
    # ---- embedding
    bug(EMBEDDING, "a run reaches into the next tile",
        "(p / CUDA_RUN_TILE + 1) * CUDA_RUN_TILE;", "(p / CUDA_RUN_TILE + 1) * CUDA_RUN_TILE + 1;"),
    bug(EMBEDDING, "no barrier before places are used",
        "place_of[i] = place++;\n    __syncthreads();", "place_of[i] = place++;"),
    bug(EMBEDDING, "heads of a run are added twice",
        "if (tile > 1 && sorted.token[p - CUDA_RUN_TILE - 1] == token)",
        "if (tile > 2 && sorted.token[p - CUDA_RUN_TILE - 1] == token)"),
    # ---- sums and updates
    bug(SUMS, "no barrier in the block's sum",
        "of_warp[threadIdx.x / 32] = x;\n    __syncthreads();", "of_warp[threadIdx.x / 32] = x;"),
    bug(REDUCE, "sum overwritten", "*total += scale * sum;", "*total = scale * sum;"),
    bug(COLUMN_SUMS, "bias gradient overwritten", "sums[column] += sum_of_warps", "sums[column] = sum_of_warps"),
    bug(COLUMN_SUMS, "last row of a run dropped", "end = end < N ? end : N;", "end = end < N ? end - 1 : N;"),
    bug(ADAMW, "a group of elements past the end",
        "if (i >= n)", "if (i >= n + N)"),
    bug(DROPOUT, "tail of a sample not bounded", "if (k < left)", "if (k <= left)"),
    bug(MASK, "mask forgets the first sample",
        "uint64_t stream = (uint64_t)(m.first_sample + sample) << 16 | m.site;\n    uint4 bits = "
        "dropout_bits(m.seed, stream, (uint64_t)quad);",
        "uint64_t stream = (uint64_t)sample << 16 | m.site;\n    uint4 bits = "
        "dropout_bits(m.seed, stream, (uint64_t)quad);"),
    # ---- matrix products
    bug(LINEAR, "weight gradient loses its beta", "input, gradient, 1, (CudaGemmOut){dw",
        "input, gradient, 0, (CudaGemmOut){dw"),
    bug(HEAD, "head's weight gradient loses its beta", "columns, input, 1, ", "columns, input, 0, "),
    bug(GEMM, "transpositions swapped",
        "CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof of_b", "CUBLASLT_MATMUL_DESC_TRANSA, &of_a, sizeof of_a"),
    bug(GEMM, "the right factor has the left one's stride", ".ldb = b.ld,", ".ldb = a.ld,"),
    bug(GEMM, "a product that adds shares the choice of one that does not",
        "key.add = beta != 0;", "key.add = 0;", ["cuda_on_cpu_gemm_choice"]),
    bug(GEMM, "the bias of the first product is kept",
        "data->bias ? set_bias(plan, data->bias) : CUBLAS_STATUS_SUCCESS",
        "CUBLAS_STATUS_SUCCESS"),
    bug(CHOOSE, "sums in any order are asked for",
        "status =\n            set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, "
        "&schemes, sizeof schemes);", "(void)schemes;"),
    bug(CHOOSE, "sums in any order are let in",
        "(scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||", "(true || scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||"),
    bug(CHOOSE, "the slowest is kept", "ms < best", "ms > best"),
    # ---- between compute and communication, and between ranks
    bug(NCCL, "communication does not wait for compute",
        "return check_cuda(w, cudaStreamWaitEvent(w->stream, w->computed, cudaEventWaitDefault),\n"
        "                      \"cudaStreamWaitEvent\");", "return OK;"),
    bug(NCCL, "compute does not wait for communication",
        "return check_cuda(w,\n"
        "                      cudaStreamWaitEvent(cuda_device(dev)->stream, w->moved, cudaEventWaitDefault),\n"
        "                      \"cudaStreamWaitEvent\");", "return OK;"),
    bug(NCCL, "count mistaken for bytes", "size_t n = (size_t)tensor_count(buf);",
        "size_t n = tensor_bytes(buf);"),
    bug(NCCL, "reduce-scatter leaves its slice at the start",
        "ncclReduceScatter(buf.data, slice_of(comm, buf, comm->rank), slice,",
        "ncclReduceScatter(buf.data, buf.data, slice,"),
    bug(REDUCER, "the last bucket is not waited for",
        "TRY(add_arrived(r));\n    return comm_wait(r->comm, r->dev);", "return add_arrived(r);"),
    bug(REDUCER, "a bucket is not published",
        "for (int32_t b = 0; b < r->layout->n_buckets && !r->err; b++) {\n        activity_do(r->comm->activity, \"publish",
        "for (int32_t b = 1; b < r->layout->n_buckets && !r->err; b++) {\n        activity_do(r->comm->activity, \"publish"),
    bug(STEP, "all-gather before AdamW",
        "    adamw_update(&t->optim, t->dev, t->model.params, summed_grads(t), lr,\n"
        "                 clip_scale(t, norm) / loss_scale, t->progress.n_updates + 1);\n"
        "    reducer_publish(&t->reducer);",
        "    reducer_publish(&t->reducer);\n"
        "    adamw_update(&t->optim, t->dev, t->model.params, summed_grads(t), lr,\n"
        "                 clip_scale(t, norm) / loss_scale, t->progress.n_updates + 1);"),
    bug(GRADS, "forward does not wait for the parameters",
        "if (m == 0)\n            err = err_first(err, reducer_await(&t->reducer));\n", ""),
]
QUICK = ["kernels/cuda/column_sums.cu: bias gradient overwritten",
         "kernels/cuda/linear.c: weight gradient loses its beta",
         "kernels/cuda/reduce.cu: sum overwritten"]


def title(b):
    return f"{b.file}: {b.name}"


# ---- main --------------------------------------------------------------------------------------


def chosen(args):
    if args.quick:
        bugs = [b for b in BUGS if title(b) in QUICK]
        if len(bugs) != len(QUICK):
            raise Broken("--quick names bugs that are not there")
        return bugs
    return [b for b in BUGS if not args.words or any(w in title(b) for w in args.words)]


def try_all(bugs, builds, jobs):
    """Prints a line for each; returns those that nothing noticed, and those not planted."""
    left, broken = bugs, []
    for kind, build in builds.items():
        if not left:
            break
        if build is None:
            build = Build(kind, WORK / kind)
        build.prepare(sorted({t for b in left for t in b.tests}), jobs)
        survivors = []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            tried = [pool.submit(try_bug, b, build, build.folder / "bugs" / f"{BUGS.index(b)}") for b in left]
            for b, result in zip(left, tried):
                try:
                    noticed = result.result()
                except Broken as reason:
                    print(f"NOT PLANTED: {title(b)}: {reason}", flush=True)
                    broken.append(b)
                    continue
                if noticed:
                    print(f"{title(b):<86} {kind}: {noticed}", flush=True)
                else:
                    survivors.append(b)
        left = survivors
    return left, broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--build", action="append", default=[], metavar="KIND=DIR")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of builds to try, in this order")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()

    for b in BUGS:
        changed_text(b)
    bugs = chosen(args)
    if args.list:
        print("\n".join(title(b) for b in bugs))
        return 0
    builds = {kind: None for kind in args.kinds.split(",")}
    for given in args.build:
        kind, folder = given.split("=", 1)
        builds[kind] = Build(kind, pathlib.Path(folder).resolve())
    left, broken = try_all(bugs, builds, args.jobs)
    for b in left:
        print(f"SURVIVES: {title(b)}")
    print(f"{len(bugs) - len(left) - len(broken)} of {len(bugs)} planted bugs noticed")
    return 2 if broken else 1 if left else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"mutate.py: {broken}", file=sys.stderr)
        sys.exit(2)
