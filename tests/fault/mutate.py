#!/usr/bin/env python3
"""Do the fault tests have teeth? Each mutant drops one thing that keeps checkpoints safe; one of the tests below must
fail with it.

    cmake --build build --target test_fault_save test_fault_power test_fault_trainer mpi_test_fault_save
    tests/fault/mutate.py build            prints one line per mutant; fails unless all are caught
"""
import json
import os
import shlex
import subprocess
import sys
import tempfile

FILE, CHECKPOINT, PROTOCOL = "src/base/file.c", "src/checkpoint/checkpoint.c", "src/checkpoint/protocol.c"
SAVE, WRITER = "src/checkpoint/save.c", "src/checkpoint/writer.c"
# name, file, what stands there once, what takes its place
MUTANTS = [
    ("no fsync of files", FILE, "if (!w->error && sync_retry(w->fd) < 0)", "if (false)"),
    ("no fsync of the checkpoint's directory", PROTOCOL, "return dir_sync(save->temporary);", "return OK;"),
    ("no fsync after a rename", FILE, "from, to, strerror(errno));\n    return dir_sync(parent);",
     "from, to, strerror(errno));\n    return OK;"),
    ("no fsync after making a directory", FILE, "TRY(path_parent(parent, path));\n    return dir_sync(parent);",
     "return path_parent(parent, path);"),
    ("published before the manifest is written", CHECKPOINT,
     "    Err err = acts ? save_seal(save) : OK;\n    if (acts && !err)\n        err = save_publish(save);",
     "    Err err = acts ? save_publish(save) : OK;\n    if (acts && !err)\n"
     "        err = (__builtin_memcpy(save->temporary, save->final, sizeof save->final), save_seal(save));"),
    ("the old checkpoint removed before the rename", PROTOCOL, "TRY(path_rename(save->final, save->aside));",
     "TRY(dir_remove(save->final));"),
    ("write errors forgotten", FILE, "if (put <= 0)\n            return -1;", "if (put <= 0)\n            return 0;"),
    ("a short write taken for a whole one", FILE, "done += (size_t)put;", "done = n_bytes;"),
    ("no barrier: published whatever other ranks met", SAVE,
     "sink.err = safe_finish(sink.writer, digest);\n    return comm_agree(s->comm, sink.err);",
     "sink.err = safe_finish(sink.writer, digest);\n    return s->comm->rank == 0 ? sink.err : (err_free(sink.err), OK);"),
    ("no barrier after the copy", SAVE, "    return comm_agree(s->comm, sink.err);\n}\n\nErr save_copy(",
     "    return s->comm->rank == 0 ? sink.err : (err_free(sink.err), OK);\n}\n\nErr save_copy("),
    ("published while the thread still writes", WRITER, "pthread_join(w->thread, NULL);", "pthread_detach(w->thread);"),
    ("what is written is not read again", WRITER, "return save_verify(save);", "return OK;"),
]
TESTS = [("test_fault_save", 1), ("test_fault_power", 1), ("test_fault_trainer", 1), ("mpi_test_fault_save", 2)]


def compile_command(build, source):
    with open(os.path.join(build, "compile_commands.json")) as file:
        for entry in json.load(file):
            if os.path.realpath(entry["file"]) == os.path.realpath(source):
                return entry["directory"], shlex.split(entry["command"])
    sys.exit(f"{source} is not part of {build}")


def compile_mutant(build, source, text, folder):
    """The object of `source` with other text."""
    directory, command = compile_command(build, source)
    mutant, output = os.path.join(folder, os.path.basename(source)), os.path.join(folder, "mutant.o")
    with open(mutant, "w") as file:
        file.write(text)
    command[command.index("-o") + 1] = output
    command[-1] = mutant
    subprocess.run(command + ["-w"], cwd=directory, check=True)
    return output


def link(build, test, mutant, folder):
    """The test with the mutant before the archives: what it defines is not taken from them."""
    where = os.path.join(build, "tests")
    with open(os.path.join(where, "CMakeFiles", f"{test}.dir", "link.txt")) as file:
        command = shlex.split(file.read())
    output = os.path.join(folder, test)
    command[command.index("-o") + 1] = output
    first = next(i for i, word in enumerate(command) if word.endswith(".c.o"))
    command.insert(first + 1, mutant)
    subprocess.run(command, cwd=where, check=True)
    return output


def caught_by(build, mutant, folder):
    for test, n_ranks in TESTS:
        command = [link(build, test, mutant, folder)]
        if n_ranks > 1:
            command = ["mpirun", "--oversubscribe", "-np", str(n_ranks)] + command
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
        if result.returncode != 0:
            return test
    return None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = os.path.realpath(sys.argv[1])
    root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
    if os.path.isdir("/dev/shm"):
        os.environ.setdefault("TMPDIR", "/dev/shm")
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    n_caught = 0
    for name, path, old, new in MUTANTS:
        source = os.path.join(root, path)
        with open(source) as file:
            text = file.read()
        if text.count(old) != 1:
            sys.exit(f"{path}: wanted once: {old!r}")
        with tempfile.TemporaryDirectory() as folder:
            test = caught_by(build, compile_mutant(build, source, text.replace(old, new), folder), folder)
        print(f"{'caught by ' + test if test else 'MISSED':28} {name}", flush=True)
        n_caught += test is not None
    print(f"{n_caught} of {len(MUTANTS)} mutants caught")
    return 0 if n_caught == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
