/* Batches of rows and windows, shared by ranks, against one row at a time. */
#include "score/scorer.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/mpi_main.h"
#include "tests/support/tiny_gpt.h"

enum { B = 3, T = 16, N_ITEMS = 23, MAX_ROW = 20 };

typedef struct {
    TinyGpt tiny;
    int32_t tokens[B * T], targets[B * T];
    float losses[B * T], logits[128];
    Scorer scorer;
} Fixture;

static void open_scorer(Fixture *f, MpiTest *t)
{
    GptShape shape = tiny_shape(B, T);
    shape.training = false;
    shape.head_chunk = 7;
    tiny_open(&f->tiny, tiny_dims(), shape);
    f->scorer = (Scorer){.model = &f->tiny.model,
                         .dev = &f->tiny.dev,
                         .comm = &t->comm,
                         .tokens = f->tiny.tokens,
                         .targets = f->tiny.targets,
                         .host_tokens = f->tokens,
                         .host_targets = f->targets,
                         .losses = f->losses,
                         .logits = f->logits};
}

static uint16_t text_at(int64_t index)
{
    const GptDims dims = tiny_dims();
    return (uint16_t)tiny_token(&dims, index);
}

/* ---- the same, one prediction at a time ---------------------------------------------------- */

/* The loss of `target` after the n tokens at `text`; *greedy: is it the likeliest? */
static double loss_after(Fixture *f, const uint16_t *text, int64_t n, int32_t target, bool *greedy)
{
    int32_t ids[T];
    const int64_t V = f->tiny.model.dims.vocab_size;
    float logits[128];
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        ids[i] = text[i];
    Tensor tokens = tensor_as_2d(tensor_range(f->tiny.tokens, 0, n), 1, n);
    GptBatch batch = {.tokens = tokens, .targets = tensor_none()};
    device_upload(&f->tiny.dev, tokens, ids);
    gpt2_forward(&f->tiny.model, &f->tiny.dev, &batch);
    check_no_err(gpt2_logits(&f->tiny.model, &f->tiny.dev, &batch, 0, n - 1, logits));
    *greedy = true;
    for (int64_t v = 0; v < V; v++) {
        sum += exp((double)logits[v]);
        *greedy = *greedy && logits[v] <= logits[target];
    }
    return log(sum) - (double)logits[target];
}

static RowScore score_alone(Fixture *f, const uint16_t *text, int64_t n_tokens, int64_t n_context)
{
    RowScore score = {.greedy = 1};
    int64_t over = n_tokens - (T + 1);
    if (over > 0) {
        text += over;
        n_tokens -= over;
        n_context -= over;
    }
    for (int64_t i = n_context; i < n_tokens; i++) {
        bool greedy;
        score.nll += loss_after(f, text, i, text[i], &greedy);
        score.n_tokens++;
        score.greedy = score.greedy && greedy;
    }
    return score;
}

/* ---- tasks ------------------------------------------------------------------------------- */

typedef struct {
    ScoreTask task;
    ScoreItem item[N_ITEMS];
    uint16_t token[N_ITEMS * SCORE_MAX_CHOICES * MAX_ROW];
} ToyTask;

/* Rows of 2 to MAX_ROW tokens, some longer than the model's context. */
static void make_task(ToyTask *toy, int32_t n_choices)
{
    *toy = (ToyTask){.task = {.n_choices = n_choices, .n_items = N_ITEMS}};
    toy->task.item = toy->item;
    toy->task.token = toy->token;
    for (int32_t r = 0; r < N_ITEMS * n_choices; r++) {
        ScoreRow *row = &toy->item[r / n_choices].row[r % n_choices];
        int32_t n = 2 + (r * 7) % (MAX_ROW - 1), context = 1 + (r * 5) % (n - 1);
        if (n - context > 6)
            context = n - 6;
        *row = (ScoreRow){.begin = toy->task.n_tokens, .n_tokens = n, .n_context = context};
        for (int32_t i = 0; i < n; i++)
            toy->token[toy->task.n_tokens++] = text_at(100 * r + i);
        toy->item[r / n_choices].label = r / n_choices % n_choices;
    }
}

static void check_task(MpiTest *t, int32_t n_choices)
{
    static ToyTask toy, whole;
    RowScore got[N_ITEMS * SCORE_MAX_CHOICES];
    Fixture f;
    make_task(&toy, n_choices);
    whole = toy;
    open_scorer(&f, t);
    check_no_err(score_task_fit(&toy.task, T, f.tiny.model.dims.vocab_size));
    check_no_err(score_task_run(&f.scorer, &toy.task, got));
    free(toy.task.order);
    for (int32_t r = 0; r < N_ITEMS * n_choices; r++) {
        const ScoreRow *row = &whole.item[r / n_choices].row[r % n_choices];
        RowScore want = score_alone(&f, toy.token + row->begin, row->n_tokens, row->n_context);
        assert_int_equal(got[r].n_tokens, want.n_tokens);
        assert_true(fabs(got[r].nll - want.nll) < 1e-5 * want.nll);
        if (n_choices == 1)
            assert_int_equal(got[r].greedy, want.greedy);
    }
    tiny_close(&f.tiny);
}

static void test_rows_of_one_choice(void **state)
{
    check_task(*state, 1);
}

static void test_rows_of_four_choices(void **state)
{
    check_task(*state, 4);
}

static void test_a_token_outside_the_vocabulary(void **state)
{
    static ToyTask toy;
    (void)state;
    make_task(&toy, 1);
    toy.token[5] = 65;
    check_err(score_task_fit(&toy.task, T, 65), ERR_DATA, "token 65, but the model's");
}

static void test_a_continuation_without_room(void **state)
{
    static ToyTask toy;
    (void)state;
    make_task(&toy, 1);
    toy.item[3].row[0] = (ScoreRow){.begin = 0, .n_tokens = T + 2, .n_context = 1};
    check_err(score_task_fit(&toy.task, T, 65), ERR_DATA,
              "item 3: a continuation of 17 tokens, and the model sees 16");
}

static void test_the_summary(void **state)
{
    (void)state;
    ScoreItem item[2] = {{.label = 1}, {.label = 3}};
    const ScoreTask task = {.n_choices = 4, .n_items = 2, .item = item};
    const RowScore score[8] = {{6, 6, 0}, {4, 2, 0}, {9, 3, 0}, {8, 4, 0},
                               {9, 3, 0}, {5, 1, 0}, {7, 2, 0}, {8, 8, 0}};
    ScoreSummary sum = score_summary(&task, score);
    assert_true(sum.acc == 0.5);      /* 1 right; 1 in place of 3 */
    assert_true(sum.acc_norm == 0.5); /* 0 in place of 1; 3 right */
    assert_true(fabs(sum.perplexity - exp((4 + 8) / 2.0)) < 1e-9);
}

/* ---- files ------------------------------------------------------------------------------- */

static void check_file(Fixture *f, int64_t n_tokens, int64_t stride)
{
    uint16_t text[80];
    TokenFile file = {.tokens = text, .n_tokens = n_tokens};
    const TokenFiles files = {.file = &file, .n_files = 1, .n_tokens = n_tokens};
    double loss, want = 0;
    int64_t n;
    for (int64_t i = 0; i < n_tokens; i++)
        text[i] = text_at(i);
    check_no_err(score_file_run(&f->scorer, &files, stride, &loss, &n));
    assert_int_equal(n, n_tokens - 1);
    for (int64_t i = 1; i < n_tokens; i++) {
        /* the end of the window that predicts token i, and its beginning */
        int64_t end = i <= T ? T + 1 : T + 1 + (i - T - 1 + stride) / stride * stride;
        end = end < n_tokens ? end : n_tokens;
        int64_t begin = end > T + 1 ? end - (T + 1) : 0;
        bool greedy;
        want += loss_after(f, text + begin, i - begin, text[i], &greedy);
    }
    want /= (double)(n_tokens - 1);
    assert_true(fabs(loss - want) < 1e-5 * want);
}

static void test_every_token_is_predicted_once(void **state)
{
    static const int64_t N[] = {2, 9, 17, 18, 33, 61}, STRIDE[] = {16, 5, 1};
    Fixture f;
    open_scorer(&f, *state);
    for (size_t i = 0; i < sizeof N / sizeof *N; i++)
        for (size_t s = 0; s < sizeof STRIDE / sizeof *STRIDE; s++)
            check_file(&f, N[i], STRIDE[s]);
    tiny_close(&f.tiny);
}

static void test_a_file_of_one_token(void **state)
{
    uint16_t text[1] = {3};
    TokenFile file = {.tokens = text, .n_tokens = 1};
    const TokenFiles files = {.file = &file, .n_files = 1, .n_tokens = 1};
    double loss;
    int64_t n;
    Fixture f;
    open_scorer(&f, *state);
    check_err(score_file_run(&f.scorer, &files, 1, &loss, &n), ERR_DATA, "one token");
    tiny_close(&f.tiny);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_one_choice),
        cmocka_unit_test(test_rows_of_four_choices),
        cmocka_unit_test(test_a_token_outside_the_vocabulary),
        cmocka_unit_test(test_a_continuation_without_room),
        cmocka_unit_test(test_the_summary),
        cmocka_unit_test(test_every_token_is_predicted_once),
        cmocka_unit_test(test_a_file_of_one_token),
    };
    return MPI_MAIN(tests);
}
