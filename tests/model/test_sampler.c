#include "model/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { N = 5, DRAWS = 20000 };

static const float LOGITS[N] = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

static int32_t pick(Sampler sampler, const float *logits, uint64_t sample, uint64_t position)
{
    float scratch[N];
    return sampler_pick(&sampler, logits, N, sample, position, scratch);
}

/* How often each token is drawn at DRAWS positions. */
static void count_draws(Sampler sampler, const float *logits, int64_t count[N])
{
    for (int64_t i = 0; i < N; i++)
        count[i] = 0;
    for (uint64_t i = 0; i < DRAWS; i++)
        count[pick(sampler, logits, 0, i)]++;
}

static void zero_temperature_takes_the_first_of_the_largest(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(pick((Sampler){.temperature = 0, .seed = i}, LOGITS, i, i), 1);
}

static void draws_follow_the_softmax(void **state)
{
    (void)state;
    static const double TEMPERATURES[] = {0.5, 1.0, 2.0};
    for (size_t t = 0; t < 3; t++) {
        int64_t count[N];
        count_draws((Sampler){.temperature = TEMPERATURES[t], .seed = 3}, LOGITS, count);
        double total = 0;
        for (int i = 0; i < N; i++)
            total += exp((double)LOGITS[i] / TEMPERATURES[t]);
        for (int i = 0; i < N; i++) {
            double p = exp((double)LOGITS[i] / TEMPERATURES[t]) / total;
            double sigma = sqrt(DRAWS * p * (1 - p));
            assert_true(fabs((double)count[i] - DRAWS * p) < 5 * sigma);
        }
    }
}

static void top_k_draws_only_the_k_largest_and_ties(void **state)
{
    (void)state;
    int64_t count[N];
    count_draws((Sampler){.temperature = 1, .top_k = 1}, LOGITS, count);
    assert_true(count[1] > 0 && count[3] > 0 && count[1] + count[3] == DRAWS);
    count_draws((Sampler){.temperature = 1, .top_k = 3}, LOGITS, count);
    assert_true(count[0] == 0 && count[2] == 0 && count[4] > 0);
}

static void top_k_past_the_vocabulary_is_all_of_it(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(pick((Sampler){.temperature = 1, .top_k = 200}, LOGITS, 1, i),
                         pick((Sampler){.temperature = 1, .top_k = 0}, LOGITS, 1, i));
}

/* Selection among many values with ties, against counting. */
static void top_k_threshold_is_the_kth_largest(void **state)
{
    (void)state;
    enum { MANY = 1009, K = 37 };
    float logits[MANY], scratch[MANY];
    for (int i = 0; i < MANY; i++)
        logits[i] = (float)(i * 7919 % 200);
    Sampler sampler = {.temperature = 1e6, .top_k = K}; /* flat: all that may be drawn, are */
    float least = INFINITY;
    for (uint64_t i = 0; i < 5000; i++) {
        float drawn = logits[sampler_pick(&sampler, logits, MANY, 0, i, scratch)];
        least = drawn < least ? drawn : least;
    }
    int above = 0, equal = 0;
    for (int i = 0; i < MANY; i++) {
        above += logits[i] > least;
        equal += logits[i] == least;
    }
    assert_true(above < K && above + equal >= K);
}

static void a_draw_is_a_function_of_seed_sample_and_position(void **state)
{
    (void)state;
    int n_same[3] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        Sampler one = {.temperature = 1, .seed = 1}, two = {.temperature = 1, .seed = 2};
        int32_t drawn = pick(one, LOGITS, 5, i);
        assert_int_equal(drawn, pick(one, LOGITS, 5, i));
        n_same[0] += drawn == pick(two, LOGITS, 5, i);
        n_same[1] += drawn == pick(one, LOGITS, 6, i);
        n_same[2] += drawn == pick(one, LOGITS, 5, i + 1);
    }
    for (int i = 0; i < 3; i++)
        assert_true(n_same[i] < 600);
}

static void impossible_tokens_are_never_drawn(void **state)
{
    (void)state;
    const float logits[N] = {NAN, -INFINITY, 0.0f, NAN, 0.0f};
    for (int64_t top_k = 0; top_k <= N; top_k++) {
        int64_t count[N];
        count_draws((Sampler){.temperature = 1, .top_k = top_k}, logits, count);
        assert_int_equal(count[2] + count[4], DRAWS);
    }
}

static void a_diverged_model_still_gives_a_token(void **state)
{
    (void)state;
    const float logits[N] = {NAN, NAN, NAN, NAN, NAN};
    int32_t token = pick((Sampler){.temperature = 1, .top_k = 2}, logits, 0, 0);
    assert_true(token >= 0 && token < N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_temperature_takes_the_first_of_the_largest),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(top_k_draws_only_the_k_largest_and_ties),
        cmocka_unit_test(top_k_past_the_vocabulary_is_all_of_it),
        cmocka_unit_test(top_k_threshold_is_the_kth_largest),
        cmocka_unit_test(a_draw_is_a_function_of_seed_sample_and_position),
        cmocka_unit_test(impossible_tokens_are_never_drawn),
        cmocka_unit_test(a_diverged_model_still_gives_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
