/* One Plan for each test: it holds a large table, so on the heap. */
#ifndef GPT_TESTS_PLAN_FIXTURE_H
#define GPT_TESTS_PLAN_FIXTURE_H

#include <stdlib.h>

#include "plan/plan.h"
#include "tests/support/check_err.h"

/* *state: a zero-initialised Plan. */
static inline int make_plan(void **state)
{
    *state = calloc(1, sizeof(Plan));
    return *state ? 0 : -1;
}

static inline int drop_plan(void **state)
{
    free(*state);
    return 0;
}

/* plan_build, which must be well. */
static inline void build(Plan *plan, const Config *cfg, PlanTarget target)
{
    check_no_err(plan_build(plan, cfg, &target));
}

#define PLAN_TEST(f) cmocka_unit_test_setup_teardown(f, make_plan, drop_plan)

#endif
