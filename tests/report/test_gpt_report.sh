#!/usr/bin/env bash
# gpt_report: the page of a run, of several, of a damaged one; one clear line when there is nothing to report. Where there is a
# Chromium the pages are opened in it.
#
#     CHROMIUM      the browser (default: chromium or google-chrome of the PATH; without one that part is skipped)
#     GPT_FULL      set: a page of numbers that no scale holds, too
#     GPT_SHOTS     a folder for screenshots of the pages (default: none are kept)
source "$(dirname "$0")/../e2e/lib.sh"
here=$GPT_SOURCE/tests/report

# report WANTED_RC ARGS...: what it says is in `said`.
report() {
    local wanted=$1 rc=0
    shift
    "$bin/gpt_report" "$@" >said 2>&1 || rc=$?
    [ "$rc" = "$wanted" ] || fail "gpt_report $*: rc $rc, wanted $wanted: $(cat said)"
}

says() { grep -qF -- "$1" said || fail "not said: $1; but: $(cat said)"; }

has() { grep -qF -- "$2" "$1" || fail "$1 does not hold: $2"; }

prepare_data 300
must_train 1 out --device=cpu --eval_interval=10 --checkpoint_interval=10 --max_iters=30 --sample_interval=10 --sample_tokens=40
printf '{"iter":%d,"tokens":%d,"hellaswag_acc":0.25,"hellaswag_acc_norm":%s,"hellaswag_items":40}\n' 0 0 0.25 30 4320 0.275 \
    >>out/metrics.jsonl
must_train 1 other --device=cpu --eval_interval=10 --max_iters=20 --learning_rate=2e-3
[ "$(grep -c '"max_iters"' out/run.json)" = 1 ] || fail "run.json has no settings"
[ "$(grep -c '"regions"' out/run.json)" = 1 ] || fail "run.json has no plan"

report 0 out
says "out/report.html: 1 run, "
for part in '"hellaswag":{"i":[0,30],' '>0.2750<' '"samples":[{"iter":0,"text":"\n' '<!doctype html>' '"checkpoints":[10,20,30]' '"learning_rate":"0.001"' '"name":"parameters"' '</html>'; do
    has out/report.html "$part"
done
! grep -qE '(src|href)="?(https?:)?//' out/report.html || fail "the page refers to another place"
report 0 out/ ./other --out=both.html
has both.html '"name":"out"'
has both.html '"learning_rate":"0.002"'
[ "$(ls -A out other | grep -c '\.tmp$')" = 0 ] || fail "temporary files stay behind"

# going on rewrites what a run is
must_train 1 out --device=cpu --eval_interval=10 --max_iters=32 --init_from=resume
[ "$(grep -c '"max_iters": "32"' out/run.json)" = 1 ] || fail "run.json is of the start, not of the resumed run"

# a run that is damaged, or called so that it might break out of the page
evil='<img src=x onerror=alert(1)>'
cp -r out "$evil"
{
    printf '{"iter":"</script>"}\n\0\xff\n{}\n'
    head -c 200000 /dev/zero | tr '\0' '['
    echo
    printf '{"iter":500,"tokens":1'
} >>"$evil/metrics.jsonl"
for step in 0 16 32; do
    printf '{"iter":%d,"text":"</script><script>alert(1)</script>the fox"}\n' $step
done >"$evil/samples.jsonl"
report 0 "$evil" other out --out=evil.html
says "$evil: 4 lines of metrics.jsonl skipped: not a record of a run"
says "The last line of metrics.jsonl is cut off"
[ "$(grep -o '<img\|<script' evil.html | wc -l)" = 2 ] || fail "evil.html: a name or a text broke out"

# numbers that no scale holds: drawing them must end
mkdir far
printf '{"iter":9007199254740992,"tokens":9007199254740992,"loss":%s,"lr":1e-3,"grad_norm":1,"time_ms":1,"tokens_per_s":1,"mfu":0.1}\n' 5e-324 >far/metrics.jsonl
printf '{"iter":%d,"tokens":9007199254740991,"loss":%s}\n' 9007199254740990 1.7e308 9007199254740991 9e99 | cat - far/metrics.jsonl >more
mv more far/metrics.jsonl
report 0 far

# a device is not replaced by a file, nor is success what nobody could read
mkfifo pipe
report 74 out --out=pipe
says "pipe is no file"
[ -p pipe ] || fail "a pipe was replaced"
if [ -w /dev/full ]; then
    "$bin/gpt_report" out >/dev/full 2>said
    [ $? = 74 ] || fail "a standard output that is full"
    says "the page is out/report.html"
fi

# nothing to report
report 64
report 64 out --ouch
report 66 none
says "none: no such folder"
mkdir empty garbage
report 66 empty
says "no metrics.jsonl"
echo hello >garbage/metrics.jsonl
report 65 garbage
says "none of its 1 lines is a record of a run"
report 66 out none --out=no.html
report 74 out --out=/nonexistent/page.html
[ ! -e no.html ] || fail "a page of a run that is not there"
: >empty/metrics.jsonl
report 0 empty
says "metrics.jsonl is empty"

browser=${CHROMIUM:-$(command -v chromium || command -v google-chrome)}
if [ -n "$browser" ] && command -v python3 >/dev/null; then
    python3 "$here/browse.py" "$browser" out/report.html ${GPT_SHOTS:+"$GPT_SHOTS/one"} || fail "out/report.html"
    python3 "$here/browse.py" "$browser" evil.html ${GPT_SHOTS:+"$GPT_SHOTS/several"} || fail "evil.html"
    if [ -n "${GPT_FULL:-}" ]; then # its three steps are in one place on two of the axes
        wrong=$(timeout 120 python3 "$here/browse.py" "$browser" far/report.html) || [ $? = 1 ] || fail "far/report.html cannot be drawn"
        ! grep -v 'changes nothing$' <<<"$wrong" | grep . || fail "far/report.html"
    fi
else
    echo "skipped: the pages in a browser (no chromium here; CHROMIUM names one)"
fi
finish
