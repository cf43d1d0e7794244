#include "base/activity.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/check.h"

int64_t activity_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- publishing -------------------------------------------------------------------------- */

void activity_begin(Activity *a, Phase phase, int64_t step, double limit_s, const char *operation)
{
    if (!a)
        return;
    int64_t now_ns = activity_now_ns();
    int64_t deadline_ns = limit_s > 0 ? now_ns + (int64_t)(limit_s * 1e9) : 0;
    __atomic_store_n(&a->deadline_ns, deadline_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&a->begin_ns, now_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&a->step, step, __ATOMIC_RELAXED);
    __atomic_store_n(&a->phase, (int32_t)phase, __ATOMIC_RELAXED);
    activity_do(a, operation, ACTIVITY_NO_INDEX);
}

void activity_do(Activity *a, const char *operation, int64_t index)
{
    if (!a)
        return;
    __atomic_store_n(&a->operation, operation, __ATOMIC_RELAXED);
    __atomic_store_n(&a->index, index, __ATOMIC_RELAXED);
}

const char *activity_enter(Activity *a, const char *call)
{
    if (!a)
        return NULL;
    const char *outer = __atomic_load_n(&a->call, __ATOMIC_RELAXED);
    if (!outer)
        __atomic_store_n(&a->call, call, __ATOMIC_RELAXED);
    return outer;
}

void activity_leave(Activity *a, const char *outer)
{
    if (a)
        __atomic_store_n(&a->call, outer, __ATOMIC_RELAXED);
}

/* ---- looking ----------------------------------------------------------------------------- */

Activity activity_look(const Activity *a)
{
    Activity seen;
    seen.deadline_ns = __atomic_load_n(&a->deadline_ns, __ATOMIC_RELAXED);
    seen.begin_ns = __atomic_load_n(&a->begin_ns, __ATOMIC_RELAXED);
    seen.step = __atomic_load_n(&a->step, __ATOMIC_RELAXED);
    seen.phase = __atomic_load_n(&a->phase, __ATOMIC_RELAXED);
    seen.operation = __atomic_load_n(&a->operation, __ATOMIC_RELAXED);
    seen.index = __atomic_load_n(&a->index, __ATOMIC_RELAXED);
    seen.call = __atomic_load_n(&a->call, __ATOMIC_RELAXED);
    return seen;
}

static const char *phase_name(int32_t phase)
{
    static const char *const NAMES[] = {
        [PHASE_START] = "start", [PHASE_LOAD] = "load", [PHASE_STEP] = "step",
        [PHASE_EVAL] = "eval",   [PHASE_SAVE] = "save", [PHASE_END] = "end"};
    ASSERT(phase >= PHASE_START && phase <= PHASE_END, "phase %d", (int)phase);
    return NAMES[phase];
}

/* A step is a phase by its number, the others happen at one. */
void activity_describe(const Activity *seen, char *out, size_t n_bytes)
{
    out[0] = '\0';
    text_append(out, n_bytes, phase_name(seen->phase));
    if (seen->step >= 0) {
        text_append(out, n_bytes, seen->phase == PHASE_STEP ? " " : " at step ");
        text_append_integer(out, n_bytes, seen->step);
    }
    text_append(out, n_bytes, ": ");
    text_append(out, n_bytes, seen->operation ? seen->operation : "nothing");
    if (seen->index != ACTIVITY_NO_INDEX) {
        text_append(out, n_bytes, " ");
        text_append_integer(out, n_bytes, seen->index);
    }
    if (seen->call) {
        text_append(out, n_bytes, ", in ");
        text_append(out, n_bytes, seen->call);
    }
}

void text_append(char *out, size_t n_bytes, const char *text)
{
    size_t used = strlen(out);
    while (*text && used + 1 < n_bytes)
        out[used++] = *text++;
    out[used] = '\0';
}

void text_append_integer(char *out, size_t n_bytes, int64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0)
        digits[--at] = '-';
    text_append(out, n_bytes, digits + at);
}
