#include "data/prepare_corpus.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/activity.h"
#include "base/check.h"
#include "base/human.h"
#include "base/status_line.h"
#include "data/tokenizer.h"

enum { VERSION_BYTES = 14 };

/* The reader fills a slot, a thread takes and encodes it, the reader empties it. */
typedef enum { SLOT_EMPTY, SLOT_FILLED, SLOT_TAKEN, SLOT_ENCODED } SlotState;

typedef struct {
    SlotState state; /* under the lock; what else is in it belongs to whom the state says */
    CorpusBatch batch;
    Encoded encoded;
    Err err;
} Slot;

typedef struct {
    EncodeRules rules;
    Slot *slot;
    int64_t n_slots;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t next_filled; /* under the lock: the batch that the next free thread takes */
    bool stop;           /* under the lock: no batch will come any more */
} Ring;

typedef struct {
    const CorpusArgs *args;
    CorpusResult *result;
    Tokenizer tokenizer;
    const char *vocab_name, *merges_name;
    Corpus corpus;
    CorpusReader *reader;
    Staging staging;
    TokenOut *out;
    char name[FILE_PATH_BYTES]; /* of llm.c's files */
    Ring ring;
    bool is_ours; /* what is in the folder under temporary names */
    bool can_go_on;
    uint64_t fingerprint;
    StatusLine line;
    int64_t begin_ns, saved_ns;
} Job;

/* A point from which a killed run goes on, in a file of this machine's own: this, and its hash. */
typedef struct {
    uint64_t fingerprint; /* of the input, the vocabulary and the settings */
    uint64_t unique;      /* of the staging */
    CorpusPlace corpus;
    TokenPlace token[N_SPLITS];
    CorpusResult result;
} Journal;

/* Looks like a leftover, and is removed as one. */
#define JOURNAL_NAME "gpt_prepare-journal.tmp"

/* The files beside the tokens, in the order in which they are published. */
static const char *const BESIDE[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                     "meta.json"};
enum { N_BESIDE = sizeof BESIDE / sizeof *BESIDE };

/* ---- threads that encode ----------------------------------------------------------------- */

static Slot *slot_of(const Ring *ring, int64_t batch)
{
    return &ring->slot[batch % ring->n_slots];
}

/* The next filled slot; NULL: there will be none. */
static Slot *take_filled(Ring *ring)
{
    Slot *slot = NULL;
    pthread_mutex_lock(&ring->lock);
    while (!ring->stop && slot_of(ring, ring->next_filled)->state != SLOT_FILLED)
        pthread_cond_wait(&ring->changed, &ring->lock);
    if (slot_of(ring, ring->next_filled)->state == SLOT_FILLED)
        slot = slot_of(ring, ring->next_filled++);
    if (slot)
        slot->state = SLOT_TAKEN;
    pthread_mutex_unlock(&ring->lock);
    return slot;
}

static void set_state(Ring *ring, Slot *slot, SlotState state)
{
    pthread_mutex_lock(&ring->lock);
    slot->state = state;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

static void wait_encoded(Ring *ring, const Slot *slot)
{
    pthread_mutex_lock(&ring->lock);
    while (slot->state == SLOT_FILLED || slot->state == SLOT_TAKEN)
        pthread_cond_wait(&ring->changed, &ring->lock);
    pthread_mutex_unlock(&ring->lock);
}

static void *encode_filled(void *argument)
{
    Ring *ring = argument;
    BpeEncoder *e = NULL;
    for (Slot *slot; (slot = take_filled(ring));) {
        slot->err = e ? OK : bpe_encoder_open(&e, ring->rules.bpe);
        if (!slot->err)
            slot->err = encode_batch(&ring->rules, e, &slot->batch, &slot->encoded);
        set_state(ring, slot, SLOT_ENCODED);
    }
    bpe_encoder_close(e);
    return NULL;
}

static void stop_threads(Ring *ring, const pthread_t *thread, int32_t n)
{
    pthread_mutex_lock(&ring->lock);
    ring->stop = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
    for (int32_t i = 0; i < n; i++) {
        int error = pthread_join(thread[i], NULL);
        ASSERT(error == 0, "pthread_join: %s", strerror(error));
    }
}

static Err start_threads(Ring *ring, pthread_t *thread, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        int error = pthread_create(&thread[i], NULL, encode_filled, ring);
        if (error == 0)
            continue;
        stop_threads(ring, thread, i);
        FAIL(ERR_SYSTEM, "cannot start a thread: %s", strerror(error));
    }
    return OK;
}

/* ---- the journal ------------------------------------------------------------------------- */

static uint64_t hash_on(uint64_t hash, const void *data, size_t n_bytes)
{
    return XXH3_64bits_withSeed(data, n_bytes, hash);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_on(hash, text, strlen(text) + 1);
}

static Err hash_file(const char *dir, const char *name, uint64_t *hash)
{
    char path[FILE_PATH_BYTES];
    FileDigest digest;
    TRY(path_join(path, dir, name));
    TRY(file_digest(path, &digest));
    *hash = hash_on(*hash, digest.block_hash, (size_t)digest.n_blocks * sizeof *digest.block_hash);
    file_digest_free(&digest);
    return OK;
}

static Err find_fingerprint(Job *job)
{
    const CorpusArgs *args = job->args;
    int64_t settings[] = {(int64_t)sizeof(Journal),
                          args->tail,
                          args->eot,
                          args->format,
                          args->strict,
                          args->shard_tokens,
                          args->text_key != NULL};
    uint64_t hash = hash_on(0, settings, sizeof settings);
    hash = hash_on(hash, &args->val_fraction, sizeof args->val_fraction);
    hash = hash_text(hash, args->text_key ? args->text_key : "");
    for (int32_t i = 0; i < job->corpus.n_files; i++) {
        const CorpusFile *file = &job->corpus.file[i];
        hash = hash_text(hash, file->path);
        hash = hash_on(hash, &file->n_bytes, sizeof file->n_bytes);
        hash = hash_on(hash, &file->written_ns, sizeof file->written_ns);
    }
    TRY(hash_file(args->tokenizer_dir, job->vocab_name, &hash));
    TRY(hash_file(args->tokenizer_dir, job->merges_name, &hash));
    job->fingerprint = hash;
    job->can_go_on = job->corpus.n_bytes > 0;
    return OK;
}

static Err write_journal(Job *job, const CorpusPlace *place)
{
    struct {
        Journal journal;
        uint64_t hash;
    } file;
    char path[FILE_PATH_BYTES];
    memset(&file, 0, sizeof file);
    file.journal.fingerprint = job->fingerprint;
    file.journal.unique = job->staging.unique;
    file.journal.corpus = *place;
    file.journal.result = *job->result;
    TRY(token_out_sync(job->out, file.journal.token));
    file.hash = hash_on(0, &file.journal, sizeof file.journal);
    TRY(staging_final(&job->staging, JOURNAL_NAME, path));
    return file_publish(path, &file, sizeof file);
}

static Err save_sometimes(Job *job, const CorpusPlace *place)
{
    int64_t now = activity_now_ns();
    if (!job->can_go_on || 1e-9 * (double)(now - job->saved_ns) < job->args->save_seconds)
        return OK;
    job->saved_ns = now;
    return write_journal(job, place);
}

/* *found: there is a journal of a run that was as this one is. */
static Err read_journal(const Job *job, Journal *journal, bool *found)
{
    char path[FILE_PATH_BYTES];
    FileMap map;
    uint64_t hash;
    *found = false;
    TRY(staging_final(&job->staging, JOURNAL_NAME, path));
    if (!job->can_go_on || !path_exists(path))
        return OK;
    TRY(file_map(&map, path));
    if (map.n_bytes == sizeof *journal + sizeof hash) {
        memcpy(journal, map.data, sizeof *journal);
        memcpy(&hash, map.data + sizeof *journal, sizeof hash);
        *found = hash == hash_on(0, journal, sizeof *journal) &&
                 journal->fingerprint == job->fingerprint && journal->corpus.file >= 0 &&
                 journal->corpus.file <= job->corpus.n_files;
    }
    file_unmap(&map);
    return OK;
}

static Err open_out(Job *job)
{
    return token_out_open(&job->out, &job->staging, job->args->format, job->name,
                          job->args->shard_tokens);
}

/* The run of a journal goes on, when all that it had is there. */
static Err go_on(Job *job, bool *goes_on)
{
    Journal journal;
    TRY(read_journal(job, &journal, goes_on));
    if (!*goes_on)
        return OK;
    job->staging.unique = journal.unique;
    TRY(open_out(job));
    Err err = token_out_resume(job->out, journal.token);
    if (err) {
        err_free(err);
        token_out_close(job->out);
        job->out = NULL;
        *goes_on = false;
        return staging_init(&job->staging, job->args->out_dir);
    }
    *job->result = journal.result;
    job->result->n_bytes_earlier = journal.result.n_bytes;
    return corpus_seek(job->reader, &journal.corpus);
}

/* ---- what comes back --------------------------------------------------------------------- */

/* How much of the input is read, 0 to 1; -1: its length is not known. */
static double part_read(const Job *job)
{
    double all = (double)job->corpus.n_bytes;
    return all > 0 ? (double)corpus_stored(job->reader) / all : -1;
}

static void show_progress(Job *job)
{
    const CorpusResult *r = job->result;
    double seconds = 1e-9 * (double)(activity_now_ns() - job->begin_ns);
    status_line_show(&job->line, part_read(job), "%s of text, %.1f MB/s",
                     human_bytes(r->n_bytes).text,
                     1e-6 * (double)(r->n_bytes - r->n_bytes_earlier) / seconds);
}

static Err note_bad_lines(Job *job, const Slot *slot)
{
    CorpusResult *result = job->result;
    const Encoded *encoded = &slot->encoded;
    if (encoded->n_bad == 0)
        return OK;
    if (result->n_bad == 0)
        snprintf(result->first_bad, sizeof result->first_bad, "%s:%" PRId64 ": %s",
                 slot->batch.file->path, encoded->first_bad, encoded->why);
    result->n_bad += encoded->n_bad;
    if (job->args->strict)
        FAIL(ERR_DATA, "%s", result->first_bad);
    return OK;
}

static Err take_tokens(Job *job, Slot *slot)
{
    const Encoded *encoded = &slot->encoded;
    Err err = slot->err;
    slot->err = OK;
    TRY(err);
    TRY(note_bad_lines(job, slot));
    for (int split = 0; split < N_SPLITS; split++) {
        TRY(token_out_write(job->out, (CorpusSplit)split, encoded->ids[split],
                            encoded->n_ids[split]));
        job->result->n_documents[split] += encoded->n_documents[split];
    }
    job->result->n_bytes += encoded->n_bytes;
    job->result->n_cuts += slot->batch.is_cut;
    show_progress(job);
    return save_sometimes(job, &slot->batch.end);
}

/* What a slot gives, if anything; then it is empty. */
static Err take_back(Job *job, Slot *slot)
{
    wait_encoded(&job->ring, slot);
    if (slot->state == SLOT_ENCODED)
        TRY(take_tokens(job, slot));
    set_state(&job->ring, slot, SLOT_EMPTY);
    return OK;
}

/* Batch i is read into its slot once the batch that was there has been taken back. */
static Err pass_batches(Job *job)
{
    Ring *ring = &job->ring;
    int64_t i = 0;
    for (bool more = true; more; i++) {
        Slot *slot = slot_of(ring, i);
        TRY(take_back(job, slot));
        TRY(corpus_next(job->reader, &slot->batch, &more));
        if (more)
            set_state(ring, slot, SLOT_FILLED);
    }
    for (int64_t left = ring->n_slots - 1; left > 0; left--, i++)
        TRY(take_back(job, slot_of(ring, i)));
    return OK;
}

static Err run_threads(Job *job)
{
    int32_t n = job->args->n_threads;
    pthread_t *thread = calloc((size_t)n, sizeof *thread);
    if (!thread)
        FAIL(ERR_SYSTEM, "out of memory for %d threads", n);
    Err err = start_threads(&job->ring, thread, n);
    if (!err) {
        err = pass_batches(job);
        stop_threads(&job->ring, thread, n);
    }
    free(thread);
    return err;
}

static void free_slots(Ring *ring)
{
    for (int64_t i = 0; i < ring->n_slots; i++) {
        free(ring->slot[i].batch.data);
        encoded_free(&ring->slot[i].encoded);
        err_free(ring->slot[i].err); /* of batches behind the first error */
    }
    free(ring->slot);
    ring->slot = NULL;
}

static Err encode_all(Job *job)
{
    const CorpusArgs *args = job->args;
    Ring *ring = &job->ring;
    *ring = (Ring){.rules = {.bpe = job->tokenizer.bpe,
                             .text_key = args->text_key ? args->text_key : "text",
                             .val_fraction = args->val_fraction,
                             .eot = args->eot},
                   .n_slots = 2 * (int64_t)args->n_threads + 1,
                   .lock = PTHREAD_MUTEX_INITIALIZER,
                   .changed = PTHREAD_COND_INITIALIZER};
    ring->slot = calloc((size_t)ring->n_slots, sizeof *ring->slot);
    if (!ring->slot)
        FAIL(ERR_SYSTEM, "out of memory for %d threads", args->n_threads);
    Err err = run_threads(job);
    free_slots(ring);
    return err;
}

/* ---- the tokenizer's files --------------------------------------------------------------- */

/* A copy of a small file of the tokenizer; `head` comes first. */
static Err copy_beside(const Job *job, const char *from, const char *name, const char *head)
{
    char source[FILE_PATH_BYTES], path[FILE_PATH_BYTES], *text;
    size_t n_bytes;
    FileWriter *file = NULL;
    TRY(path_join(source, job->args->tokenizer_dir, from));
    TRY(staging_temporary(&job->staging, name, path));
    TRY(file_read_text(source, BPE_MAX_FILE_BYTES, &text, &n_bytes));
    if (head && strncmp(text, head, strlen("#version")) == 0)
        head = NULL;
    Err err = file_create(&file, path);
    if (!err && head)
        err = file_write(file, head, strlen(head));
    if (!err)
        err = file_write(file, text, n_bytes);
    free(text);
    if (!err)
        return file_close(file, NULL);
    file_abandon(file);
    return err;
}

/* Hugging Face's names and shapes, whatever those of tokenizer_dir: its reader of merges.txt takes
 * the first line for the version. */
static Err write_beside(const Job *job)
{
    static const char CONFIG[] =
        "{\"tokenizer_class\": \"GPT2Tokenizer\", \"bos_token\": "
        "\"" BPE_END_OF_TEXT "\", \"eos_token\": \"" BPE_END_OF_TEXT
        "\", \"unk_token\": \"" BPE_END_OF_TEXT "\", \"add_prefix_space\": false}\n";
    char path[FILE_PATH_BYTES];
    TRY(copy_beside(job, job->vocab_name, BESIDE[0], NULL));
    TRY(copy_beside(job, job->merges_name, BESIDE[1], "#version: 0.2\n"));
    TRY(staging_temporary(&job->staging, BESIDE[2], path));
    TRY(file_publish(path, CONFIG, sizeof CONFIG - 1));
    TRY(staging_temporary(&job->staging, BESIDE[3], path));
    return tokenizer_save(&job->tokenizer, path);
}

/* ---- all of it --------------------------------------------------------------------------- */

static Err open_tokenizer(Job *job)
{
    const CorpusArgs *args = job->args;
    TRY(bpe_find_files(args->tokenizer_dir, &job->vocab_name, &job->merges_name));
    TRY(tokenizer_open_bpe(&job->tokenizer, args->tokenizer_dir));
    job->result->vocab_size = job->tokenizer.vocab_size;
    if (args->eot != EOT_NONE && bpe_end_of_text(job->tokenizer.bpe) < 0)
        FAIL(ERR_DATA, "%s: the vocabulary has no " BPE_END_OF_TEXT " to put between documents",
             args->tokenizer_dir);
    return OK;
}

static Err refuse_older(const Job *job)
{
    char name[FILE_PATH_BYTES];
    TRY(token_out_find_foreign(&job->staging, name));
    if (name[0])
        FAIL(ERR_USAGE,
             "%s holds %s, which is not replaced, and training might take it for tokens: name "
             "another folder, or move it",
             job->args->out_dir, name);
    if (job->args->force)
        return OK;
    TRY(token_out_find_older(&job->staging, name));
    if (name[0])
        FAIL(ERR_USAGE, "%s holds %s: name another folder, or replace what is there with --force",
             job->args->out_dir, name);
    return OK;
}

/* Where an earlier run stopped, or at the beginning. */
static Err open_room(Job *job)
{
    bool goes_on = false;
    job->is_ours = true;
    TRY(go_on(job, &goes_on));
    if (goes_on)
        return OK;
    TRY(staging_make_room(&job->staging));
    return open_out(job);
}

static Err open_all(Job *job)
{
    const CorpusArgs *args = job->args;
    const char *slash = strrchr(args->out_dir, '/');
    snprintf(job->name, sizeof job->name, "%s", slash && slash[1] ? slash + 1 : args->out_dir);
    TRY(staging_init(&job->staging, args->out_dir));
    TRY(refuse_older(job));
    TRY(open_tokenizer(job));
    TRY(corpus_list(&job->corpus, args->input, args->n_inputs, args->text_key != NULL));
    TRY(corpus_reader_open(&job->reader, &job->corpus, args->val_fraction, args->tail));
    TRY(find_fingerprint(job));
    return open_room(job);
}

static Err check_split(const Job *job)
{
    const CorpusResult *r = job->result;
    int64_t n = r->n_documents[SPLIT_TRAIN] + r->n_documents[SPLIT_VAL];
    if (n == 0 && r->n_bad > 0)
        FAIL(ERR_DATA, "no document in %" PRId64 " lines, the first: %s", r->n_bad, r->first_bad);
    for (int i = 0; i < N_SPLITS; i++)
        if (r->n_tokens[i] == 0)
            FAIL(ERR_DATA,
                 "%" PRId64 " %s nothing to %s: give more, or another val_fraction, or split one "
                 "text by place (--split=tail)",
                 n, n == 1 ? "document leaves" : "documents leave",
                 i == SPLIT_TRAIN ? "train" : "validate");
    return OK;
}

/* From the moment that older tokens are removed until all is there, there are none, so that a run
 * that is cut off never leaves tokens beside another vocabulary. */
static Err publish(const Job *job)
{
    TRY(token_out_remove_older(job->out));
    for (int i = 0; i < N_BESIDE; i++)
        TRY(staging_publish(&job->staging, BESIDE[i]));
    return token_out_publish(job->out);
}

static Err prepare(Job *job)
{
    CorpusResult *result = job->result;
    TRY(open_all(job));
    job->begin_ns = job->saved_ns = activity_now_ns();
    job->line = status_line_begin(job->args->progress, part_read(job));
    TRY(encode_all(job));
    for (int i = 0; i < N_SPLITS; i++) {
        result->n_tokens[i] = token_out_tokens(job->out, (CorpusSplit)i);
        result->n_files[i] = token_out_files(job->out, (CorpusSplit)i);
    }
    result->n_read = job->corpus.n_files;
    result->n_passed_over = job->corpus.n_passed_over;
    memcpy(result->first_passed_over, job->corpus.first_passed_over, FILE_PATH_BYTES);
    TRY(check_split(job));
    TRY(token_out_finish(job->out));
    TRY(write_beside(job));
    result->seconds = 1e-9 * (double)(activity_now_ns() - job->begin_ns);
    return publish(job);
}

static void clean_up(Job *job, bool failed)
{
    status_line_clear(&job->line);
    if (job->is_ours)
        err_free(staging_remove_final(&job->staging, JOURNAL_NAME));
    token_out_close(job->out);
    for (int i = 0; i < N_BESIDE; i++)
        err_free(staging_discard(&job->staging, BESIDE[i])); /* the first error is on its way */
    if (failed)
        staging_leave(&job->staging);
    corpus_reader_close(job->reader);
    corpus_free(&job->corpus);
    tokenizer_free(&job->tokenizer);
    free(job);
}

Err prepare_corpus(const CorpusArgs *args, CorpusResult *result)
{
    *result = (CorpusResult){0};
    if (!(args->val_fraction > 0.0 && args->val_fraction < 1.0))
        FAIL(ERR_USAGE, "val_fraction is %g: it should be above 0 and below 1", args->val_fraction);
    Job *job = calloc(1, sizeof *job);
    if (!job)
        FAIL(ERR_SYSTEM, "out of memory");
    job->args = args;
    job->result = result;
    Err err = prepare(job);
    clean_up(job, err != OK);
    return err;
}
