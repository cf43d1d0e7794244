#include "launch/verify.h"

#include <stdbool.h>
#include <string.h>

#include "base/file.h"
#include "base/human.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"

static bool holds(const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    Err err = path_join(path, dir, name);
    bool found = !err && path_exists(path);
    err_free(err);
    return found;
}

static bool is_checkpoint(const char *dir)
{
    return holds(dir, MANIFEST_NAME) || holds(dir, MODEL_NAME) || holds(dir, TRAINER_NAME);
}

/* One line. *damage: what is wrong with it; the caller's. ERR_SYSTEM is no fault of the files. */
static Err look_at(const char *dir, FILE *out, Err *damage)
{
    const char *slash = strrchr(dir, '/');
    *damage = checkpoint_verify(dir);
    if (err_code(*damage) == ERR_SYSTEM) {
        Err err = *damage;
        *damage = OK;
        return err;
    }
    fprintf(out, "%s  %10s  %s\n", slash && slash[1] ? slash + 1 : dir,
            human_bytes(dir_bytes(dir)).text, *damage ? err_message(*damage) : "ok");
    fflush(out);
    return OK;
}

static Err verify_one(const char *dir, FILE *out)
{
    Err damage;
    TRY(look_at(dir, out, &damage));
    return damage;
}

/* A file that is missing is damage. */
static Err as_damage(Err err)
{
    if (err_code(err) != ERR_MISSING)
        return err;
    Err damage = ERR_NEW(ERR_DATA, "%s", err_message(err));
    err_free(err);
    return damage;
}

typedef struct {
    Err newest;                  /* what is wrong with the newest; owned */
    char taken[FILE_PATH_BYTES]; /* the newest that is whole; "": none */
} Verdict;

static Err look_at_all(const char *out_dir, const CheckpointList *list, FILE *out, Verdict *verdict)
{
    for (int32_t i = 0; i < list->n; i++) {
        char dir[FILE_PATH_BYTES];
        Err damage;
        TRY(checkpoint_entry_path(dir, out_dir, &list->item[i]));
        TRY(look_at(dir, out, &damage));
        if (!damage && !verdict->taken[0])
            memcpy(verdict->taken, dir, sizeof dir);
        if (i == 0)
            verdict->newest = damage;
        else
            err_free(damage);
    }
    return OK;
}

static Err tell(const char *out_dir, Verdict *verdict, FILE *out)
{
    Err newest = verdict->newest;
    verdict->newest = OK;
    if (verdict->taken[0])
        fprintf(out, "init_from = resume takes %s\n", verdict->taken);
    else
        fprintf(out, "init_from = resume finds nothing to take in %s\n", out_dir);
    return newest ? err_prefix(as_damage(newest), "the newest checkpoint is damaged") : OK;
}

static Err verify_list(const char *out_dir, const CheckpointList *list, FILE *out)
{
    Verdict verdict = {.newest = OK};
    if (list->n == 0)
        FAIL(ERR_MISSING, "%s: no checkpoint is there", out_dir);
    Err err = look_at_all(out_dir, list, out, &verdict);
    if (!err)
        err = tell(out_dir, &verdict, out);
    err_free(verdict.newest);
    return err;
}

Err verify_print(const char *dir, FILE *out)
{
    CheckpointList list;
    if (!path_is_dir(dir))
        FAIL(ERR_MISSING, "%s: no such directory", dir);
    if (is_checkpoint(dir))
        return as_damage(verify_one(dir, out));
    TRY(checkpoint_list(dir, &list));
    Err err = verify_list(dir, &list, out);
    checkpoint_list_free(&list);
    return err;
}
