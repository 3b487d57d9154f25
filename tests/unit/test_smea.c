/*
 * Proves that SMEA's weight falls from one to nothing along the timesteps, and that only the coarse
 * part of the second look reaches the first.
 */
#include "runtime/sample/smea.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SIDE = 16, COUNT = 4 * SIDE * SIDE };

static struct ld_sigma_table table;

static void make_table(void)
{
    const struct ld_sigma_table_config config = {
        .profile = LD_PROFILE_COMFY, .beta_start = 0.00085, .beta_end = 0.012};
    ld_sigma_table_init(&table, &config);
}

static void the_weight_falls_along_a_cosine(void **state)
{
    (void)state;
    struct ld_smea smea;
    make_table();
    ld_smea_init(&smea, true, 2, &table);
    assert_true(fabs(ld_smea_weight(&smea, ld_sigma_table_max(&table)) - 1) < 1e-12);
    const double quarter = ld_percent_to_sigma(&table, 0.25);
    assert_true(fabs(ld_smea_weight(&smea, quarter) - 0.5) < 0.01);
    assert_true(ld_smea_weight(&smea, ld_percent_to_sigma(&table, 0.51)) == 0);
    double last = 1;
    for (int i = 0; i <= 50; i++) {
        const double weight = ld_smea_weight(&smea, ld_percent_to_sigma(&table, i / 100.0 + 1e-6));
        assert_true(weight <= last);
        last = weight;
    }
    ld_smea_init(&smea, false, 2, &table);
    assert_true(ld_smea_weight(&smea, ld_sigma_table_max(&table)) == 0);
    ld_smea_init(&smea, true, 1, &table); /* nothing is smaller */
    assert_true(ld_smea_weight(&smea, ld_sigma_table_max(&table)) == 0);
}

static void the_coarse_part_passes_and_the_fine_part_stays(void **state)
{
    (void)state;
    struct ld_smea smea;
    double full[COUNT];
    double small[COUNT];
    ld_smea_init(&smea, true, 2, &table);
    for (int i = 0; i < COUNT; i++) {
        const int x = i % SIDE;
        const int y = i / SIDE % SIDE;
        full[i] = (x + y) % 2 ? 1 : -1; /* the finest pattern there is */
        small[i] = 3;                   /* nothing but a level */
    }
    assert_int_equal(ld_smea_mix(&smea, 0.5, small, SIDE, SIDE, full, NULL), LD_OK);
    for (int i = 0; i < COUNT; i++) {
        const int x = i % SIDE;
        const int y = i / SIDE % SIDE;
        const double fine = (x + y) % 2 ? 1 : -1;
        assert_true(fabs(full[i] - (fine + 0.5 * 3)) < 1e-5);
    }
    /* A checkerboard in the second look has no coarse part: nothing changes. */
    for (int i = 0; i < COUNT; i++) {
        full[i] = 0;
        small[i] = (i % SIDE + i / SIDE % SIDE) % 2 ? 1 : -1;
    }
    assert_int_equal(ld_smea_mix(&smea, 1, small, SIDE, SIDE, full, NULL), LD_OK);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(full[i]) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weight_falls_along_a_cosine),
        cmocka_unit_test(the_coarse_part_passes_and_the_fine_part_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
