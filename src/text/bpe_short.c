#include "text/bpe_short.h"

#include <string.h>

#include "text/bpe_table.h"

/* Where the first of the smallest of n values is. */
static int32_t find_least(const uint32_t *value, int32_t n)
{
    int32_t least = 0;
    for (int32_t i = 1; i < n; i++)
        least = value[i] < value[least] ? i : least;
    return least;
}

static void remove_u32(uint32_t *value, int32_t at, int32_t n)
{
    memmove(value + at, value + at + 1, (size_t)(n - at - 1) * sizeof *value);
}

int32_t bpe_short_encode(const Bpe *bpe, const char *piece, int32_t n, uint16_t *ids)
{
    uint32_t id[BPE_SHORT_BYTES], merge[BPE_SHORT_BYTES]; /* merge[i] of id[i] and id[i + 1] */
    for (int32_t i = 0; i < n; i++)
        id[i] = bpe->byte_id[(uint8_t)piece[i]];
    for (int32_t i = 0; i + 1 < n; i++)
        merge[i] = bpe_merge(bpe, id[i], id[i + 1]);
    while (n > 1) {
        int32_t at = find_least(merge, n - 1);
        if (merge[at] == BPE_NO_MERGE)
            break;
        id[at] = merge[at] & 0xFFFF;
        remove_u32(id, at + 1, n);
        remove_u32(merge, at, n - 1);
        n--;
        if (at + 1 < n)
            merge[at] = bpe_merge(bpe, id[at], id[at + 1]);
        if (at > 0)
            merge[at - 1] = bpe_merge(bpe, id[at - 1], id[at]);
    }
    for (int32_t i = 0; i < n; i++)
        ids[i] = (uint16_t)id[i];
    return n;
}
