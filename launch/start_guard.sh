#!/usr/bin/env bash
# May a job start (again)? Not when its starts bring nothing: a job that fails at once, or is stopped before it can save,
# would otherwise be put back into the queue for ever.
#
#     launch/start_guard.sh OUT_DIR RUN [MOST]     RUN: one word, the same for every start of a run: a Slurm job id, say
#
# Prints the number of updates in OUT_DIR's newest whole checkpoint, -1 when there is none, and notes the start in
# OUT_DIR/starts.log. Exit code 71, with a line that says so, when RUN has started MOST times (3) since that checkpoint.
set -uo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi
out_dir=$1 run=$2 most=${3:-3}

# is_whole DIR: its manifest is there, and every file in it with its size. What the files hold is not read: that can be
# many GB, and a start that finds a checksum wrong says so (`gpt_ddp --verify OUT_DIR` too).
is_whole() {
    local sizes name bytes
    sizes=$(sed -n 's/^ *{"name": "\([^"]*\)", "bytes": \([0-9]*\),.*/\1 \2/p' "$1/MANIFEST.json" 2>/dev/null)
    [ -n "$sizes" ] || return 1
    while read -r name bytes; do
        [ "$(stat -L -c %s "$1/$name" 2>/dev/null)" = "$bytes" ] || return 1
    done <<<"$sizes"
}

# The newest checkpoint that is whole; others are no progress.
# -L: out_dir is often a link to a larger file system.
newest=-1
while read -r name; do
    is_whole "$out_dir/$name" && newest=$((10#${name#step_})) && break
done < <(find -L "$out_dir" -maxdepth 1 -type d -regex '.*/step_[0-9]+' -printf '%f\n' 2>/dev/null | sort -t_ -k2nr)

log=$out_dir/starts.log
starts=0
[ -f "$log" ] && starts=$(awk -v run="$run" -v step="$newest" '
    $3 == "run" && $4 == run { n = $6 == step ? n + 1 : 0 }
    END { print n + 0 }' "$log")
echo "$newest"
if [ "$starts" -ge "$most" ]; then
    echo "not started again: run $run was started $starts times and has saved nothing since update $newest" \
        "($log); look for the cause above, then submit it anew" >&2
    exit 71
fi
note="$(date '+%F %T') run $run update $newest on ${SLURM_JOB_NODELIST:-$(hostname)}"
if ! mkdir -p "$out_dir" || ! echo "$note" >>"$log"; then
    echo "cannot write $log" >&2
    exit 74
fi
