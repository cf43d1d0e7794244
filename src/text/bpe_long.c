#include "text/bpe_long.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/bpe_table.h"

enum { OVERLAP_PARTS = 8 /* a window repeats this part of the one before it */ };

/* ---- memory ------------------------------------------------------------------------------ */

void bpe_long_free(BpeLong *l)
{
    free(l->id);
    free(l->token);
    free(l->next);
    free(l->previous);
    free(l->merge);
    free(l->heap);
    *l = (BpeLong){0};
}

Err bpe_long_reserve(BpeLong *l, size_t n_bytes)
{
    if (l->capacity >= n_bytes)
        return OK;
    bpe_long_free(l);
    if (n_bytes < UINT32_MAX) {
        l->id = malloc(n_bytes * sizeof *l->id);
        l->token = malloc(n_bytes * sizeof *l->token);
        l->next = malloc(n_bytes * sizeof *l->next);
        l->previous = malloc(n_bytes * sizeof *l->previous);
        l->merge = malloc(n_bytes * sizeof *l->merge);
        l->heap = malloc(2 * n_bytes * sizeof *l->heap);
    }
    if (!l->id || !l->token || !l->next || !l->previous || !l->merge || !l->heap) {
        bpe_long_free(l);
        FAIL(ERR_SYSTEM, "out of memory for a run of %zu bytes without a change of kind", n_bytes);
    }
    l->capacity = n_bytes;
    return OK;
}

/* ---- the merges of one window ------------------------------------------------------------ */

static void heap_push(uint64_t *heap, size_t *n, uint64_t value)
{
    size_t i = (*n)++;
    for (size_t parent; i > 0 && value < heap[parent = (i - 1) / 2]; i = parent)
        heap[i] = heap[parent];
    heap[i] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        child += child + 1 < *n && heap[child + 1] < heap[child];
        if (last <= heap[child])
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* The merge of the symbol at `at` with the next one, as it stands, onto the heap. */
static void consider(BpeLong *l, const Bpe *bpe, size_t at, size_t n_bytes, size_t *n_heap)
{
    uint32_t next = l->next[at];
    l->merge[at] = next < n_bytes ? bpe_merge(bpe, l->id[at], l->id[next]) : BPE_NO_MERGE;
    if (l->merge[at] != BPE_NO_MERGE)
        heap_push(l->heap, n_heap, (uint64_t)l->merge[at] << 32 | at);
}

/* The symbols at `at` and behind it become one. */
static void join(BpeLong *l, const Bpe *bpe, size_t at, size_t n_bytes, size_t *n_heap)
{
    uint32_t gone = l->next[at], next = l->next[gone];
    l->id[at] = (uint16_t)l->merge[at];
    l->next[at] = next;
    l->merge[gone] = BPE_NO_MERGE;
    if (next < n_bytes)
        l->previous[next] = (uint32_t)at;
    consider(l, bpe, at, n_bytes, n_heap);
    if (at > 0)
        consider(l, bpe, l->previous[at], n_bytes, n_heap);
}

/* l->token = the tokens of text[0..n_bytes), n_bytes >= 1; returns how many. */
static size_t encode_window(BpeLong *l, const Bpe *bpe, const char *text, size_t n_bytes)
{
    size_t n_heap = 0, n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        l->id[i] = bpe->byte_id[(uint8_t)text[i]];
        l->next[i] = (uint32_t)i + 1;
        l->previous[i] = (uint32_t)i - 1;
    }
    for (size_t i = 0; i < n_bytes; i++)
        consider(l, bpe, i, n_bytes, &n_heap);
    while (n_heap > 0) {
        uint64_t top = heap_pop(l->heap, &n_heap);
        uint32_t at = (uint32_t)top;
        if (l->merge[at] == top >> 32) /* else one of the two has merged otherwise since */
            join(l, bpe, at, n_bytes, &n_heap);
    }
    for (size_t i = 0; i < n_bytes; i = l->next[i])
        l->token[n++] = l->id[i];
    return n;
}

/* ---- windows ----------------------------------------------------------------------------- */

/* Some tokens; those of a piece from its beginning on reach to byte `end`. */
typedef struct {
    uint16_t *id;
    size_t n, end;
} Tokens;

/* The last border between tokens at or before byte `limit`: *index tokens end there. */
static size_t border_before(const Bpe *bpe, const Tokens *t, size_t limit, size_t *index)
{
    size_t at = t->end, i = t->n;
    while (i > 0 && at > limit)
        at -= bpe_token_bytes(bpe, t->id[--i]);
    *index = i;
    return at;
}

/* The first token that both have at the same place, from token i (at byte `at`) of `done` and token
 * *j (there too) of `window` on. SIZE_MAX, SIZE_MAX when there is none. */
static void find_common(const Bpe *bpe, const Tokens *done, size_t at, const Tokens *window,
                        size_t *i, size_t *j)
{
    for (size_t at_done = at, at_window = at; *i < done->n && *j < window->n;) {
        uint16_t a = done->id[*i], b = window->id[*j];
        if (at_done == at_window && a == b)
            return;
        bool step_done = at_done <= at_window, step_window = at_window <= at_done;
        at_done += step_done ? bpe_token_bytes(bpe, a) : 0;
        at_window += step_window ? bpe_token_bytes(bpe, b) : 0;
        *i += step_done;
        *j += step_window;
    }
    *i = *j = SIZE_MAX;
}

/* done, the encoding of piece[0 .. done->end), grows by the next window of the piece; *joined is
 * whether that met what there is. */
static void take_window(BpeLong *l, const Bpe *bpe, const char *piece, size_t n_bytes,
                        size_t window_bytes, Tokens *done, bool *joined)
{
    size_t i, j = 0, overlap = window_bytes / OVERLAP_PARTS + 1;
    size_t begin = border_before(bpe, done, done->end > overlap ? done->end - overlap : 0, &i);
    size_t n = n_bytes - begin < window_bytes ? n_bytes - begin : window_bytes;
    Tokens window = {.id = l->token};
    *joined = false;
    if (begin + n <= done->end)
        return;
    window.n = encode_window(l, bpe, piece + begin, n);
    find_common(bpe, done, begin, &window, &i, &j);
    if (i == SIZE_MAX)
        return;
    memcpy(done->id + i, window.id + j, (window.n - j) * sizeof *window.id);
    done->n = i + window.n - j;
    done->end = begin + n;
    *joined = true;
}

static void take_first(BpeLong *l, const Bpe *bpe, const char *piece, size_t n_bytes, Tokens *done)
{
    done->n = encode_window(l, bpe, piece, n_bytes);
    done->end = n_bytes;
    memcpy(done->id, l->token, done->n * sizeof *done->id);
}

Err bpe_long_encode(BpeLong *l, const Bpe *bpe, const char *piece, size_t n_bytes,
                    size_t window_bytes, uint16_t *ids, size_t *n_ids)
{
    ASSERT(n_bytes > 0 && window_bytes > 1, "%zu bytes, window %zu", n_bytes, window_bytes);
    Tokens done = {.id = ids};
    while (done.end < n_bytes) {
        size_t n = n_bytes < window_bytes ? n_bytes : window_bytes;
        bool joined = true;
        TRY(bpe_long_reserve(l, n));
        if (done.end == 0)
            take_first(l, bpe, piece, n, &done);
        else
            take_window(l, bpe, piece, n_bytes, window_bytes, &done, &joined);
        if (!joined) {
            window_bytes *= 2;
            done = (Tokens){.id = ids};
        }
    }
    *n_ids = done.n;
    return OK;
}
