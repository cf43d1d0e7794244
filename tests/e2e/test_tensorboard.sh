#!/usr/bin/env bash
# TensorBoard's own reader reads what a run, and the run that goes on from it, wrote.
#
#     GPT_PYTHON   a python3 with tensorboard (default python3; skipped without it)
source "$(dirname "$0")/lib.sh"
python=${GPT_PYTHON:-python3}
"$python" -c 'import importlib.util as u; u.find_spec("tensorboard").name' 2>/dev/null || {
    echo "skipped: no tensorboard for $python (GPT_PYTHON names another)"
    exit 0
}
prepare_data 300
run=(--device=cpu --eval_interval=5 --checkpoint_interval=4 --log_interval=1)
must_train 1 out "${run[@]}" --max_iters=8
rm -r out/step_00000008
must_train 1 out "${run[@]}" --max_iters=10 --init_from=resume # steps 4 to 7 come again
"$python" - out <<'EOF' 2>reader.err || fail "$(cat reader.err)"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
seen = EventAccumulator(sys.argv[1], purge_orphaned_data=True).Reload()
lines = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
for tag, key in (("loss/step", "loss"), ("optim/lr", "lr"), ("optim/grad_norm", "grad_norm"), ("loss/val", "val_loss"),
                 ("loss/train", "train_loss"), ("speed/tokens_per_s", "tokens_per_s")):
    there = {e.step: e.value for e in seen.Scalars(tag)}
    here = {line["iter"]: line[key] for line in lines if key in line}
    assert here.keys() == there.keys(), (tag, here, there)
    assert all(abs(here[i] - there[i]) <= 1e-4 * abs(here[i]) for i in here), (tag, here, there)
assert len(seen.Scalars("loss/step")) == 10, seen.Scalars("loss/step")
EOF
finish
