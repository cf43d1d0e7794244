#!/usr/bin/env bash
# A second of fuzzing per reader of files from outside; skipped without clang.
exec "$GPT_SOURCE/tests/fuzz/run.sh" 1
