#include "base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *const KNOWN[] = {"n_layer", "n_head", "min_lr", "learning_rate"};
enum { N_KNOWN = sizeof KNOWN / sizeof *KNOWN };

static const char *find(const char *word)
{
    Nearest nearest = nearest_begin(word);
    for (int32_t i = 0; i < N_KNOWN; i++)
        nearest_try(&nearest, KNOWN[i]);
    return nearest.known;
}

static void a_few_wrong_letters_are_forgiven(void **state)
{
    (void)state;
    assert_string_equal(find("n_layers"), "n_layer");
    assert_string_equal(find("N-HEAD"), "n_head");
    assert_string_equal(find("lerning_rte"), "learning_rate");
}

static void another_word_is_not_near(void **state)
{
    char word[1000];
    (void)state;
    assert_null(find("dropout"));
    assert_null(find(""));
    memset(word, 'n', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(find(word));
}

static void the_nearest_counts(void **state)
{
    (void)state;
    assert_string_equal(find("n_hlyer"), "n_layer");
    assert_string_equal(find("n_heard"), "n_head");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_wrong_letters_are_forgiven),
        cmocka_unit_test(another_word_is_not_near),
        cmocka_unit_test(the_nearest_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
