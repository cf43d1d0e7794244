#include "train/samples.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/sampler.h"
#include "text/utf8.h"
#include "train/eval.h"
#include "train/trainer.h"

/* ---- life -------------------------------------------------------------------------------- */

static Err encode_prompt(Samples *s, const char *prompt)
{
    const char *text = prompt[0] ? prompt : "\n";
    TRY(tokenizer_encode(&s->tokenizer, text, strlen(text), &s->prompt, &s->n_prompt));
    return OK;
}

static Err open_tokenizer(Samples *s, const Config *cfg, const Dataset *data)
{
    int64_t vocab_size = plan_vocab_size(cfg, data->vocab_size);
    TRY(dataset_tokenizer(data, &s->tokenizer));
    if (s->tokenizer.vocab_size > vocab_size)
        FAIL(ERR_DATA, "the tokenizer of dataset %s knows %d tokens, the model %" PRId64,
             cfg->data.dataset, s->tokenizer.vocab_size, vocab_size);
    return OK;
}

Err samples_read(Samples *s, const Config *cfg, const Dataset *data)
{
    *s = (Samples){0};
    if (cfg->run.sample_interval == 0)
        return OK;
    TRY(err_prefix(open_tokenizer(s, cfg, data), "sample_interval"));
    return err_prefix(encode_prompt(s, cfg->run.sample_prompt), "sample_prompt");
}

void samples_close(Samples *s)
{
    if (s->file)
        fclose(s->file);
    decoder_close(&s->decoder);
    gpt2_close(&s->model);
    tokenizer_free(&s->tokenizer);
    free(s->prompt);
    *s = (Samples){0};
}

Err samples_open_file(Samples *s, const char *out_dir, const LogResume *from)
{
    return s->n_prompt > 0 ? log_open_lines(&s->file, out_dir, "samples.jsonl", from) : OK;
}

/* ---- writing ----------------------------------------------------------------------------- */

enum { PIECE_BYTES = 256, BRIEF_BYTES = 64 };

typedef struct {
    FILE *file; /* NULL: nothing is written */
    Utf8Stream stream;
    bool is_brief; /* what comes is shown, too: */
    char brief[BRIEF_BYTES + 1];
    size_t n_brief;
} TextOut;

/* As in a JSON string. */
static void put_escaped(FILE *file, const char *bytes, size_t n_bytes)
{
    unsigned char c = (unsigned char)bytes[0];
    if (c < ' ')
        fprintf(file, "\\u%04x", c);
    else if (c == '"' || c == '\\')
        fprintf(file, "\\%c", c);
    else
        fwrite(bytes, 1, n_bytes, file);
}

/* The beginning, in one line. */
static void put_brief(TextOut *out, const char *bytes, size_t n_bytes)
{
    if (out->n_brief + n_bytes > BRIEF_BYTES) {
        out->is_brief = false;
        return;
    }
    memcpy(out->brief + out->n_brief, bytes, n_bytes);
    if ((unsigned char)bytes[0] < ' ' || bytes[0] == 0x7f)
        out->brief[out->n_brief] = ' ';
    out->n_brief += n_bytes;
}

/* Readers of JSON stumble over a zero; it is no text either. */
static void put_text(TextOut *out, const char *text, size_t n_bytes)
{
    enum { REPLACEMENT = 0xFFFD };
    for (size_t at = 0; at < n_bytes;) {
        char bytes[UTF8_MAX_BYTES];
        uint32_t code_point = 0;
        size_t n_read = utf8_decode(text + at, n_bytes - at, &code_point);
        bool is_text = n_read > 0 && code_point != 0;
        size_t n = (size_t)utf8_encode(is_text ? code_point : REPLACEMENT, bytes);
        if (out->file)
            put_escaped(out->file, bytes, n);
        if (out->is_brief)
            put_brief(out, bytes, n);
        at += n_read > 0 ? n_read : 1;
    }
}

static void put_token(TextOut *out, const Tokenizer *tokenizer, int32_t id)
{
    char spare[TOKENIZER_BYTES_PER_ID], whole[PIECE_BYTES + UTF8_MAX_BYTES];
    size_t n_bytes, n_whole;
    const char *bytes = tokenizer_text(tokenizer, id, spare, &n_bytes);
    for (size_t n; n_bytes > 0; bytes += n, n_bytes -= n) {
        n = n_bytes < PIECE_BYTES ? n_bytes : PIECE_BYTES;
        utf8_stream_push(&out->stream, bytes, n, whole, &n_whole);
        put_text(out, whole, n_whole);
    }
}

static void end_text(TextOut *out)
{
    char rest[UTF8_MAX_BYTES];
    size_t n_rest;
    utf8_stream_end(&out->stream, rest, &n_rest);
    put_text(out, rest, n_rest);
}

/* A file that cannot be written any more is given up; training goes on. */
static void end_line(Trainer *t)
{
    Samples *s = &t->samples;
    fputs("\"}\n", s->file);
    if (!ferror(s->file) && fflush(s->file) == 0)
        return;
    log_say(&t->log, "warning: samples.jsonl cannot be written any more: %s", strerror(errno));
    fclose(s->file);
    s->file = NULL;
}

static void write_sample(Trainer *t, const int32_t *ids, int64_t n_ids)
{
    Samples *s = &t->samples;
    TextOut out = {.file = s->file};
    if (out.file)
        fprintf(out.file, "{\"iter\":%" PRId64 ",\"text\":\"", t->progress.step);
    for (int64_t i = 0; i < n_ids; i++) {
        out.is_brief = out.is_brief || i == s->n_prompt;
        put_token(&out, &s->tokenizer, ids[i]);
    }
    end_text(&out);
    if (out.file)
        end_line(t);
    out.brief[out.n_brief] = '\0';
    log_say(&t->log, "step %" PRId64 ": sample \"%s\"", t->progress.step, out.brief);
}

/* ---- drawing ----------------------------------------------------------------------------- */

bool samples_due(const Trainer *t)
{
    int64_t interval = t->cfg->run.sample_interval;
    return interval > 0 && !t->cfg->run.eval_only &&
           (trainer_is_last(t) || t->progress.step % interval == 0);
}

/* The token that ends a text; -1: none does. */
static int32_t end_of_text(const Samples *s)
{
    return s->tokenizer.kind == TOKENIZER_BPE ? bpe_end_of_text(s->tokenizer.bpe) : -1;
}

/* One token more behind n_ids; *ended: it would be the end of the text. */
static Err draw(Trainer *t, int64_t n_ids, bool *ended)
{
    Samples *s = &t->samples;
    int32_t *ids = t->mem.sample_ids.data;
    float *logits = t->mem.sample_logits.data, *scratch = logits + t->plan->dims.vocab_size;
    const Sampler sampler = sampler_default((uint64_t)t->cfg->run.seed);
    TRY(decoder_next(&s->decoder, t->dev, ids, n_ids, logits));
    ids[n_ids] = sampler_pick(&sampler, logits, s->tokenizer.vocab_size, 0,
                              (uint64_t)(n_ids - s->n_prompt), scratch);
    *ended = ids[n_ids] == end_of_text(s);
    return OK;
}

Err samples_run(Trainer *t)
{
    Samples *s = &t->samples;
    int32_t *ids = t->mem.sample_ids.data;
    const int64_t most = s->n_prompt + t->cfg->run.sample_tokens;
    int64_t n_ids = s->n_prompt;
    bool ended = false;
    TRY(eval_begin(t));
    memcpy(ids, s->prompt, (size_t)s->n_prompt * sizeof *ids);
    decoder_forget(&s->decoder);
    while (n_ids < most && !t->stop) {
        trainer_enter(t, PHASE_EVAL, "sample", 0);
        activity_do(t->comm->activity, "sample, token", n_ids - s->n_prompt);
        Err mine = t->comm->rank == 0 ? draw(t, n_ids, &ended) : OK;
        TRY(eval_exchange(t, mine, &ended));
        if (ended)
            break;
        n_ids++;
    }
    if (!t->stop && t->comm->rank == 0)
        write_sample(t, ids, n_ids);
    return OK;
}
