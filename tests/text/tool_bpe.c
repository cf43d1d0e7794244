/* tool_bpe DIR: the tokens of texts, for tests/text/compare_tiktoken.py.
 *
 * Standard input: for each text its bytes (u32) and then them; standard output: for each the number
 * of its ids (u32) and then them (u16). Each is decoded, too, and must be the same again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/report.h"
#include "text/bpe.h"

typedef struct {
    char *text;
    uint16_t *ids;
    size_t capacity;
} Room;

static Err reserve(Room *room, size_t n_bytes)
{
    if (n_bytes <= room->capacity)
        return OK;
    free(room->text);
    free(room->ids);
    room->text = malloc(n_bytes);
    room->ids = malloc(n_bytes * sizeof *room->ids);
    room->capacity = n_bytes;
    if (!room->text || !room->ids)
        FAIL(ERR_SYSTEM, "out of memory for a text of %zu bytes", n_bytes);
    return OK;
}

static Err check_decodes(const Bpe *bpe, const Room *room, int64_t n_ids, size_t n_bytes)
{
    size_t at = 0;
    for (int64_t i = 0; i < n_ids; i++) {
        size_t n;
        const char *token = bpe_text(bpe, room->ids[i], &n);
        if (at + n > n_bytes || memcmp(token, room->text + at, n) != 0)
            FAIL(ERR_DATA, "byte %zu is another one when it is decoded", at);
        at += n;
    }
    if (at != n_bytes)
        FAIL(ERR_DATA, "%zu bytes become %zu when they are decoded", n_bytes, at);
    return OK;
}

static Err encode_one(const Bpe *bpe, BpeEncoder *e, Room *room, uint32_t n_bytes)
{
    int64_t n_ids;
    TRY(reserve(room, n_bytes));
    if (fread(room->text, 1, n_bytes, stdin) != n_bytes)
        FAIL(ERR_DATA, "standard input ends within a text");
    TRY(bpe_encode(e, room->text, n_bytes, room->ids, &n_ids));
    TRY(check_decodes(bpe, room, n_ids, n_bytes));
    uint32_t n = (uint32_t)n_ids;
    if (fwrite(&n, sizeof n, 1, stdout) != 1 || fwrite(room->ids, 2, n, stdout) != n)
        FAIL(ERR_WRITE, "standard output cannot be written");
    return OK;
}

static Err encode_all(const char *dir)
{
    Bpe *bpe = NULL;
    BpeEncoder *e = NULL;
    Room room = {0};
    uint32_t n_bytes;
    Err err = bpe_open(&bpe, dir);
    if (!err)
        err = bpe_encoder_open(&e, bpe);
    while (!err && fread(&n_bytes, sizeof n_bytes, 1, stdin) == 1)
        err = encode_one(bpe, e, &room, n_bytes);
    free(room.text);
    free(room.ids);
    bpe_encoder_close(e);
    bpe_close(bpe);
    return err;
}

int main(int argc, char **argv)
{
    Err err = argc == 2 ? encode_all(argv[1]) : ERR_NEW(ERR_USAGE, "usage: tool_bpe DIR");
    return report_error("tool_bpe", err, true);
}
