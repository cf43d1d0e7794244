#include "launch/item_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* By a file beside it that goes again. */
static Err check_place(const char *path)
{
    char beside[FILE_PATH_BYTES];
    FileWriter *file = NULL;
    if (!path[0])
        FAIL(ERR_USAGE, "is empty: name a file");
    if (path_is_dir(path))
        FAIL(ERR_WRITE, "is a directory");
    if (path_is_stream(path))
        return OK;
    TRY(path_temporary(beside, path));
    TRY(file_create(&file, beside));
    file_abandon(file);
    return OK;
}

Err item_file_open(ItemFile *f, const char *path)
{
    *f = (ItemFile){.path = path};
    TRY(err_prefix(check_place(path), "--items=%s", path));
    f->out = open_memstream(&f->text, &f->n_bytes);
    return f->out ? OK : ERR_NEW(ERR_SYSTEM, "--items=%s: out of memory", path);
}

static Err write_stream(const ItemFile *f)
{
    FILE *out = fopen(f->path, "w");
    bool ok = out && fwrite(f->text, 1, f->n_bytes, out) == f->n_bytes;
    if (out)
        ok = fclose(out) == 0 && ok;
    return ok ? OK : ERR_NEW(ERR_WRITE, "cannot be written: %s", strerror(errno));
}

Err item_file_publish(ItemFile *f)
{
    if (!f->out)
        return OK;
    bool ok = !ferror(f->out);
    ok = fclose(f->out) == 0 && ok;
    f->out = NULL;
    if (!ok)
        FAIL(ERR_SYSTEM, "--items=%s: out of memory", f->path);
    Err err =
        path_is_stream(f->path) ? write_stream(f) : file_publish(f->path, f->text, f->n_bytes);
    return err_prefix(err, "--items=%s", f->path);
}

void item_file_close(ItemFile *f)
{
    if (f->out)
        (void)fclose(f->out); /* what is in it is not wanted any more */
    free(f->text);
    *f = (ItemFile){0};
}
