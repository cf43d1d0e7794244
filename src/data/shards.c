#include "data/shards.h"

#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Token files are little-endian and are used where they are mapped. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token files are mapped, not converted");

enum {
    SHARD_MAGIC = 20240520,
    SHARD_VERSION = 1,
    SHARD_HEADER_BYTES = 256 * sizeof(int32_t),
    TOKEN_BYTES = sizeof(uint16_t)
};

/* llm.c's other files end in .bin too. Read as nanoGPT tokens they would be noise. */
static const struct {
    int32_t magic;
    const char *what;
} OTHER_FILES[] = {
    {20240801, "a shard of 32-bit tokens (Llama 3)"},
    {20240326, "a model"},
    {20240328, "a tokenizer"},
    {20240522, "an evaluation set"},
    {20240527, "a training state"},
};

/* ---- lists of paths ---------------------------------------------------------------------- */

typedef struct {
    char **path;
    int32_t n_paths;
} PathList;

static void list_free(PathList *list)
{
    for (int32_t i = 0; i < list->n_paths; i++)
        free(list->path[i]);
    free(list->path);
    *list = (PathList){0};
}

static Err list_add(PathList *list, const char *path)
{
    char **grown = realloc(list->path, ((size_t)list->n_paths + 1) * sizeof *grown);
    if (!grown)
        FAIL(ERR_SYSTEM, "out of memory for the names of the token files");
    list->path = grown;
    char *copy = strdup(path);
    if (!copy)
        FAIL(ERR_SYSTEM, "out of memory for the names of the token files");
    list->path[list->n_paths++] = copy;
    return OK;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Every *.bin in a directory. */
static Err list_dir(PathList *list, const char *dir)
{
    char **name = NULL;
    int32_t n_names = 0;
    TRY(dir_list(dir, &name, &n_names));
    Err err = OK;
    for (int32_t i = 0; i < n_names && !err; i++) {
        char path[FILE_PATH_BYTES];
        if (!ends_with(name[i], ".bin"))
            continue;
        err = path_join(path, dir, name[i]);
        if (!err)
            err = list_add(list, path);
    }
    dir_list_free(name, n_names);
    return err;
}

/* Every match of a pattern; none is no error. */
static Err list_glob(PathList *list, const char *pattern)
{
    glob_t found = {0};
    Err err = OK;
    int status = glob(pattern, GLOB_NOSORT, NULL, &found);
    if (status != 0 && status != GLOB_NOMATCH)
        err = ERR_NEW(ERR_MISSING, "%s: the directories it names cannot be read", pattern);
    for (size_t i = 0; i < found.gl_pathc && !err; i++)
        err = list_add(list, found.gl_pathv[i]);
    globfree(&found);
    return err;
}

/* The files that spec means, sorted by byte values: the same order in every locale. On failure the
 * list holds what was found so far. */
static Err list_spec(PathList *list, const char *spec)
{
    if (path_is_dir(spec))
        TRY(list_dir(list, spec));
    else if (path_exists(spec))
        TRY(list_add(list, spec));
    else
        TRY(list_glob(list, spec));
    if (list->n_paths > 1)
        qsort(list->path, (size_t)list->n_paths, sizeof *list->path, compare_paths);
    return OK;
}

/* ---- one file ---------------------------------------------------------------------------- */

static int32_t header_int(const FileMap *map, size_t index)
{
    int32_t value;
    memcpy(&value, map->data + index * sizeof value, sizeof value);
    return value;
}

/* llm.c: the header says how many tokens follow, and the file must be exactly that long. */
static Err find_shard_tokens(TokenFile *file, const char *path)
{
    const FileMap *map = &file->map;
    if (map->n_bytes < SHARD_HEADER_BYTES)
        FAIL(ERR_DATA, "%s: an llm.c shard cut off in its header (%zu of %d bytes): copy it again",
             path, map->n_bytes, (int)SHARD_HEADER_BYTES);
    if (header_int(map, 1) != SHARD_VERSION)
        FAIL(ERR_DATA, "%s: an llm.c shard of version %d, and only version %d can be read", path,
             header_int(map, 1), SHARD_VERSION);
    int64_t claimed = header_int(map, 2), n_bytes = (int64_t)(map->n_bytes - SHARD_HEADER_BYTES);
    if (claimed < 1 || claimed * TOKEN_BYTES != n_bytes)
        FAIL(ERR_DATA,
             "%s: its header claims %" PRId64 " tokens, but %" PRId64
             " bytes follow: cut off or damaged, copy or make it again",
             path, claimed, n_bytes);
    file->tokens = (const uint16_t *)(const void *)(map->data + SHARD_HEADER_BYTES);
    file->n_tokens = claimed;
    return OK;
}

/* nanoGPT: all tokens. */
static Err find_plain_tokens(TokenFile *file, const char *path)
{
    size_t n_bytes = file->map.n_bytes;
    if (n_bytes == 0)
        FAIL(ERR_DATA, "%s: empty: copy it again, or make it with gpt_prepare", path);
    if (n_bytes % TOKEN_BYTES != 0)
        FAIL(ERR_DATA,
             "%s: %zu bytes, an odd number, cannot be 16-bit tokens: cut off, or not a token file",
             path, n_bytes);
    file->tokens = (const uint16_t *)(const void *)file->map.data;
    file->n_tokens = (int64_t)(n_bytes / TOKEN_BYTES);
    return OK;
}

static Err find_tokens(TokenFile *file, const char *path)
{
    if (file->map.n_bytes < sizeof(int32_t))
        return find_plain_tokens(file, path);
    int32_t magic = header_int(&file->map, 0);
    for (size_t i = 0; i < sizeof OTHER_FILES / sizeof *OTHER_FILES; i++)
        if (magic == OTHER_FILES[i].magic)
            FAIL(ERR_DATA, "%s: an llm.c file, but %s, not a shard of 16-bit tokens", path,
                 OTHER_FILES[i].what);
    if (magic == SHARD_MAGIC)
        return find_shard_tokens(file, path);
    return find_plain_tokens(file, path);
}

/* ---- the sequence ------------------------------------------------------------------------ */

static Err add_file(TokenFiles *files, const char *path)
{
    TokenFile *file = &files->file[files->n_files];
    TRY(file_map(&file->map, path));
    files->n_files++; /* from here on token_files_close releases it */
    TRY(find_tokens(file, path));
    file->path = strdup(path);
    if (!file->path)
        FAIL(ERR_SYSTEM, "out of memory for the names of the token files");
    file->first = files->n_tokens;
    files->n_tokens += file->n_tokens;
    return OK;
}

static Err open_list(TokenFiles *files, char *const *path, int32_t n_paths)
{
    *files = (TokenFiles){0};
    files->file = calloc((size_t)n_paths, sizeof *files->file);
    if (!files->file)
        FAIL(ERR_SYSTEM, "out of memory for %d token files", n_paths);
    Err err = OK;
    for (int32_t i = 0; i < n_paths && !err; i++)
        err = add_file(files, path[i]);
    if (err)
        token_files_close(files);
    return err;
}

Err token_files_open(TokenFiles *files, const char *spec)
{
    *files = (TokenFiles){0};
    PathList list = {0};
    Err err = list_spec(&list, spec);
    if (!err && list.n_paths == 0)
        err = ERR_NEW(ERR_MISSING,
                      path_is_dir(spec)
                          ? "%s: no *.bin file in this directory: make some with gpt_prepare"
                          : "%s: no such file, directory or match of a pattern",
                      spec);
    if (!err)
        err = open_list(files, list.path, list.n_paths);
    list_free(&list);
    return err;
}

void token_files_close(TokenFiles *files)
{
    for (int32_t i = 0; i < files->n_files; i++) {
        file_unmap(&files->file[i].map);
        free(files->file[i].path);
    }
    free(files->file);
    *files = (TokenFiles){0};
}

/* The file that holds token `at`. */
static const TokenFile *find_file(const TokenFiles *files, int64_t at)
{
    int32_t low = 0, high = files->n_files - 1;
    while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        if (files->file[middle].first <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return &files->file[low];
}

/* A stretch of tokens within one file. */
typedef struct {
    const TokenFile *file;
    const uint16_t *tokens;
    int64_t begin, n; /* begin is within the file */
} Run;

/* The first run of the stretch [begin, begin + n) of the sequence. */
static Run first_run(const TokenFiles *files, int64_t begin, int64_t n)
{
    const TokenFile *file = find_file(files, begin);
    Run run = {.file = file, .begin = begin - file->first};
    int64_t left = file->n_tokens - run.begin;
    run.tokens = file->tokens + run.begin;
    run.n = n < left ? n : left;
    return run;
}

static void assert_within(const TokenFiles *files, int64_t begin, int64_t n)
{
    ASSERT(begin >= 0 && n >= 0 && begin <= files->n_tokens - n,
           "%" PRId64 " tokens from %" PRId64 " of %" PRId64, n, begin, files->n_tokens);
}

/* The maximum first: it vectorises, and the place matters only when it is too large. */
static Err check_run(const Run *run, int64_t vocab_size)
{
    uint16_t largest = 0;
    for (int64_t i = 0; i < run->n; i++)
        largest = run->tokens[i] > largest ? run->tokens[i] : largest;
    if (largest < vocab_size)
        return OK;
    int64_t bad = 0;
    while (run->tokens[bad] < vocab_size)
        bad++;
    FAIL(ERR_DATA,
         "%s: token %d at position %" PRId64 " is not below vocab_size %" PRId64
         ": set the vocab_size the file was made with, or make it again",
         run->file->path, run->tokens[bad], run->begin + bad, vocab_size);
}

Err token_files_check(const TokenFiles *files, int64_t begin, int64_t n, int64_t vocab_size)
{
    assert_within(files, begin, n);
    while (n > 0) {
        Run run = first_run(files, begin, n);
        TRY(check_run(&run, vocab_size));
        begin += run.n;
        n -= run.n;
    }
    return OK;
}

void token_files_read(const TokenFiles *files, int64_t begin, int64_t n, int32_t *out)
{
    assert_within(files, begin, n);
    while (n > 0) {
        Run run = first_run(files, begin, n);
        for (int64_t i = 0; i < run.n; i++)
            out[i] = run.tokens[i];
        out += run.n;
        begin += run.n;
        n -= run.n;
    }
}

/* ---- data sets --------------------------------------------------------------------------- */

/* Does anything answer to this path or pattern? */
static Err spec_exists(const char *spec, bool *found)
{
    *found = path_exists(spec);
    if (*found)
        return OK;
    PathList list = {0};
    Err err = list_glob(&list, spec);
    *found = list.n_paths > 0;
    list_free(&list);
    return err;
}

#define HOW_TO_MAKE                                                                                \
    "\"gpt_prepare --out=%s TEXT\" (characters; GPT-2's tokens with --tokenizer=DIR)"

/* Where the data set is: two places to look, in an order that depends on how it is written. */
static Err locate(const Config *cfg, char spec[FILE_PATH_BYTES])
{
    const char *name = cfg->data.dataset;
    char named[FILE_PATH_BYTES];
    if (name[0] == '\0')
        FAIL(ERR_USAGE, "dataset is empty: name a directory under %s, or a path",
             cfg->data.data_dir);
    TRY(path_join(named, cfg->data.data_dir, name));
    bool is_path = strchr(name, '/') != NULL, found;
    const char *place[2] = {is_path ? name : named, is_path ? named : name};
    for (int i = 0; i < (name[0] == '/' ? 1 : 2); i++) {
        TRY(spec_exists(place[i], &found));
        if (found) {
            snprintf(spec, FILE_PATH_BYTES, "%s", place[i]);
            return OK;
        }
    }
    if (name[0] == '/')
        FAIL(ERR_MISSING, "no dataset at %s: make it with " HOW_TO_MAKE, name, name);
    FAIL(ERR_MISSING, "no dataset at %s, nor at %s: make it with " HOW_TO_MAKE ", or set data_dir",
         place[0], place[1], place[0]);
}

/* Where `word` begins in text for the last time; -1 when it does not. */
static int64_t last_at(const char *text, const char *word)
{
    int64_t last = -1;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        last = at - text;
    return last;
}

/* "train", "val" or NULL. Of two words the later decides: "medieval_train_0.bin" trains. */
static const char *split_of(const char *path)
{
    int64_t train = last_at(base_name(path), "train"), val = last_at(base_name(path), "val");
    if (train < 0 && val < 0)
        return NULL;
    return train > val ? "train" : "val";
}

/* nanoGPT's layout: where one of its two names is, both must be, and other files do not count. */
static bool is_nanogpt_name(const char *path)
{
    const char *name = base_name(path);
    return strcmp(name, "train.bin") == 0 || strcmp(name, "val.bin") == 0;
}

static bool has_nanogpt_name(const PathList *list)
{
    for (int32_t i = 0; i < list->n_paths; i++)
        if (is_nanogpt_name(list->path[i]))
            return true;
    return false;
}

static bool belongs(const char *path, const char *split, bool nanogpt)
{
    const char *its_split = split_of(path);
    return its_split && strcmp(its_split, split) == 0 && (!nanogpt || is_nanogpt_name(path));
}

static Err no_split(const char *spec, const char *split, bool nanogpt)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, nanogpt ? "%s.bin" : "%s.bin or *%s*.bin", split, split);
    if (path_is_dir(spec))
        FAIL(ERR_MISSING, "%s: there is no %s in it: make both files with " HOW_TO_MAKE, spec,
             wanted, spec);
    FAIL(ERR_MISSING,
         "%s: no %s among the files it names: dataset should be a directory with files to "
         "train and to validate, or a pattern that matches both",
         spec, wanted);
}

static Err split_open(TokenFiles *files, const PathList *list, const char *split, const char *spec)
{
    bool nanogpt = has_nanogpt_name(list);
    PathList mine = {0};
    Err err = OK;
    for (int32_t i = 0; i < list->n_paths && !err; i++)
        if (belongs(list->path[i], split, nanogpt))
            err = list_add(&mine, list->path[i]);
    if (!err)
        err = mine.n_paths ? open_list(files, mine.path, mine.n_paths)
                           : no_split(spec, split, nanogpt);
    list_free(&mine);
    return err;
}

Err token_files_open_val(TokenFiles *files, const char *spec)
{
    *files = (TokenFiles){0};
    PathList list = {0};
    Err err = path_is_dir(spec) ? list_spec(&list, spec) : OK;
    bool nanogpt = has_nanogpt_name(&list), has_val = false;
    for (int32_t i = 0; i < list.n_paths; i++)
        has_val |= belongs(list.path[i], "val", nanogpt);
    if (!err)
        err = has_val ? split_open(files, &list, "val", spec) : token_files_open(files, spec);
    list_free(&list);
    return err;
}

/* dir = the folder of the first training file. */
static void folder_of(char dir[FILE_PATH_BYTES], const Dataset *set)
{
    const char *first = set->train.file[0].path;
    int n = (int)(base_name(first) - first);
    snprintf(dir, FILE_PATH_BYTES, "%.*s", n ? n : 1, n ? first : ".");
}

/* path = the file `name` in it. */
static Err path_beside(char path[FILE_PATH_BYTES], const Dataset *set, const char *name)
{
    char dir[FILE_PATH_BYTES];
    folder_of(dir, set);
    return path_join(path, dir, name);
}

static Err read_vocab_size(const char *path, int64_t *vocab_size)
{
    Tokenizer t;
    TRY(tokenizer_load(&t, path));
    *vocab_size = t.vocab_size;
    tokenizer_free(&t);
    return OK;
}

/* vocab_size of a meta.pkl, which a given one makes dispensable: Python may have written more into
 * it than is read here. */
static Err read_pickle(Dataset *set, int64_t given)
{
    Err err = read_vocab_size(set->meta_path, &set->vocab_size);
    if (err_code(err) != ERR_DATA)
        return err;
    if (given == CONFIG_AUTO)
        return err_prefix(err, "to train without a vocabulary set vocab_size");
    err_free(err);
    set->meta_path[0] = '\0';
    return OK;
}

/* `given` may be the model's, which nobody typed. */
static Err refuse_smaller(const Dataset *set, const Config *cfg, int64_t given)
{
    if (config_init_kind(cfg) == INIT_DIRECTORY && !config_is_given(cfg, "vocab_size"))
        FAIL(ERR_USAGE,
             "the model in %s has a vocabulary of %" PRId64 ", %s one of %" PRId64
             ": make the data with the model's tokenizer",
             cfg->model.init_from, given, set->meta_path, set->vocab_size);
    FAIL(ERR_USAGE, "vocab_size = %" PRId64 " is below the %" PRId64 " of %s: leave it auto", given,
         set->vocab_size, set->meta_path);
}

/* meta_path and vocab_size. */
static Err find_vocabulary(Dataset *set, const Config *cfg)
{
    int64_t given = cfg->model.vocab_size;
    set->vocab_size = CONFIG_AUTO;
    TRY(path_beside(set->meta_path, set, "meta.json"));
    if (path_exists(set->meta_path)) {
        TRY(read_vocab_size(set->meta_path, &set->vocab_size));
    } else {
        TRY(path_beside(set->meta_path, set, "meta.pkl"));
        if (path_exists(set->meta_path))
            TRY(read_pickle(set, given));
        else
            set->meta_path[0] = '\0';
    }
    if (given != CONFIG_AUTO && given < set->vocab_size)
        return refuse_smaller(set, cfg, given);
    return OK;
}

Err dataset_open(Dataset *set, const Config *cfg)
{
    *set = (Dataset){0};
    char spec[FILE_PATH_BYTES];
    TRY(locate(cfg, spec));
    PathList list = {0};
    Err err;
    TRY_GOTO(err, done, list_spec(&list, spec));
    TRY_GOTO(err, done, split_open(&set->train, &list, "train", spec));
    TRY_GOTO(err, done, split_open(&set->val, &list, "val", spec));
    TRY_GOTO(err, done, find_vocabulary(set, cfg));
done:
    list_free(&list);
    if (err)
        dataset_close(set);
    return err;
}

void dataset_close(Dataset *set)
{
    token_files_close(&set->train);
    token_files_close(&set->val);
    *set = (Dataset){0};
}

bool dataset_find_tokenizer(const Dataset *set, char *dir)
{
    char pickle[FILE_PATH_BYTES];
    const char *vocab, *merges;
    folder_of(dir, set);
    if (set->meta_path[0])
        return true;
    Err err = path_beside(pickle, set, "meta.pkl");
    bool is_passed_over = !err && path_exists(pickle);
    if (!err && !is_passed_over)
        err = bpe_find_files(dir, &vocab, &merges);
    bool found = !err;
    if (err || is_passed_over)
        dir[0] = '\0';
    err_free(err);
    return found;
}

Err dataset_tokenizer(const Dataset *set, Tokenizer *t)
{
    char dir[FILE_PATH_BYTES];
    folder_of(dir, set);
    *t = (Tokenizer){0};
    return tokenizer_open_dir(t, dir);
}

bool dataset_is_foreign(const Dataset *set, const Config *cfg)
{
    Tokenizer t;
    if (config_init_kind(cfg) != INIT_DIRECTORY || config_is_given(cfg, "vocab_size") ||
        set->vocab_size == CONFIG_AUTO || set->vocab_size == cfg->model.vocab_size)
        return false;
    Err err = dataset_tokenizer(set, &t);
    bool is_gpt2s = !err && t.kind == TOKENIZER_BPE;
    if (!err)
        tokenizer_free(&t);
    err_free(err);
    return !is_gpt2s;
}
