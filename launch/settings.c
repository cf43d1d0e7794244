#include "launch/settings.h"

#include <stdlib.h>
#include <string.h>

/* The settings as config_print writes them, one a line; NUL-terminated, the caller frees. */
static Err settings_text(const Config *cfg, char **text)
{
    size_t n_bytes = 0;
    FILE *out = open_memstream(text, &n_bytes);
    if (!out)
        FAIL(ERR_SYSTEM, "out of memory for a copy of the settings");
    config_print(cfg, out);
    if (fclose(out) != 0)
        FAIL(ERR_SYSTEM, "out of memory for a copy of the settings");
    return OK;
}

/* Rank 0's text on every rank; the caller frees. */
static Err share_text(Comm *comm, const char *mine, char **first)
{
    size_t n_bytes = strlen(mine) + 1;
    TRY(comm_broadcast_bytes(comm, &n_bytes, sizeof n_bytes, 0));
    *first = malloc(n_bytes);
    TRY(comm_agree(comm, *first ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for rank 0's settings")));
    if (comm->rank == 0)
        memcpy(*first, mine, n_bytes);
    return comm_broadcast_bytes(comm, *first, n_bytes, 0);
}

static int line_length(const char *text)
{
    return (int)strcspn(text, "\n");
}

/* The same keys in the same order, so the first difference is in two lines of one key. */
static Err compare(const char *mine, const char *first)
{
    while (*mine && *first) {
        int n = line_length(mine), m = line_length(first);
        if (n != m || memcmp(mine, first, (size_t)n) != 0)
            FAIL(ERR_USAGE, "\"%.*s\", but \"%.*s\" on rank 0: give all ranks the same settings", n,
                 mine, m, first);
        mine += n + (mine[n] == '\n');
        first += m + (first[m] == '\n');
    }
    return OK;
}

Err settings_agree(Comm *comm, const Config *cfg)
{
    char *mine = NULL, *first = NULL;
    Err err = comm_agree(comm, settings_text(cfg, &mine));
    if (!err)
        err = share_text(comm, mine, &first);
    if (!err)
        err = comm_agree(comm, compare(mine, first));
    free(mine);
    free(first);
    return err;
}
