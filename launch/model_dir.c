#include "launch/model_dir.h"

#include <stdio.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"

/* A model directory is taken as it is, and checked when it has a manifest. */
static Err look_at(const char *path, bool *is_model)
{
    char config[FILE_PATH_BYTES], manifest[FILE_PATH_BYTES];
    if (!path_is_dir(path))
        FAIL(ERR_MISSING, "%s: no such directory", path);
    TRY(path_join(config, path, CONFIG_NAME));
    TRY(path_join(manifest, path, MANIFEST_NAME));
    *is_model = path_exists(config);
    return *is_model && path_exists(manifest) ? checkpoint_verify(path) : OK;
}

Err model_dir_find(Comm *comm, const char *path, char *dir)
{
    bool is_model = false, found = false;
    TRY(comm_agree(comm, look_at(path, &is_model)));
    snprintf(dir, FILE_PATH_BYTES, "%s", path); /* fits: a name behind it did */
    if (is_model)
        return OK;
    TRY(checkpoint_find(comm, path, &found, dir));
    if (!found)
        FAIL(ERR_MISSING,
             "%s: neither a model directory (with %s) nor an out_dir with a checkpoint", path,
             CONFIG_NAME);
    return OK;
}
