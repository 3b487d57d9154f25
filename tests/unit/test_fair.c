/*
 * Proves the choice of the next job: the first by priority and age, a suspect only into an empty
 * worker, nothing beside a running suspect, nothing past a waiting one. A pure function, so tables.
 */
#include "server/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_first_job_goes_where_there_is_room(void **state)
{
    (void)state;
    const struct ld_fair_job jobs[] = {{3, 9, 1, false}, {1, 5, 1, false}};
    const struct ld_fair_worker roomy = {7, 8, false};
    const struct ld_fair_worker full = {8, 8, false};
    assert_int_equal(ld_fair_choose(jobs, 2, &roomy), 0);
    assert_int_equal(ld_fair_choose(jobs, 2, &full), LD_FAIR_NONE);
    assert_int_equal(ld_fair_choose(jobs, 0, &roomy), LD_FAIR_NONE);
}

static void suspects_run_alone_and_are_not_overtaken(void **state)
{
    (void)state;
    const struct ld_fair_job jobs[] = {{1, 5, 1, true}, {2, 5, 1, false}};
    const struct ld_fair_worker empty = {0, 8, false};
    const struct ld_fair_worker busy = {1, 8, false};
    const struct ld_fair_worker with_suspect = {1, 8, true};
    assert_int_equal(ld_fair_choose(jobs, 2, &empty), 0);
    assert_int_equal(ld_fair_choose(jobs, 2, &busy), LD_FAIR_NONE);
    assert_int_equal(ld_fair_choose(jobs + 1, 1, &with_suspect), LD_FAIR_NONE);
    assert_int_equal(ld_fair_choose(jobs + 1, 1, &busy), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_job_goes_where_there_is_room),
        cmocka_unit_test(suspects_run_alone_and_are_not_overtaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
