/*
 * Proves that samplers end where the mathematics says and that options change what they should.
 * Works on Gaussian data, whose probability flow and spread have closed forms.
 */
#include "tests/unit/sampler_run.h"

#include "runtime/sample/lincomb.h"

/* ---- Where a run must end -------------------------------------------------------------------- */

/* For Gaussian data x / sqrt(s^2 + sigma^2) is constant along the flow. */
static void deterministic_samplers_follow_the_exact_flow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double room;
    } samplers[] = {
        {"euler", 0.04},         {"heun", 2e-3},
        {"heunpp2", 0.04},       {"dpm_2", 3e-3},
        {"lms", 2e-3},           {"dpmpp_2m", 2e-3},
        {"ipndm", 5e-3},         {"ipndm_v", 5e-3},
        {"deis", 2e-3},          {"res_multistep", 0.04},
        {"uni_pc", 2e-3},        {"uni_pc_bh2", 2e-3},
        {"dpm_fast", 2e-3},      {"gradient_estimation", 0.04},
        {"ddim_trailing", 0.04}, {"plms", 0.04},
    };
    for (size_t k = 0; k < sizeof samplers / sizeof samplers[0]; k++) {
        struct run run;
        run_scheduled(&run, samplers[k].name, 60, false, GAUSSIAN);
        const bool vp = (ld_sampler_info_find(run.name)->traits & LD_SAMPLER_VP) != 0;
        const double sigma_first =
            vp ? (strcmp(run.name, "plms") == 0 ? 14.3776 : 14.6146) : 14.6146;
        const double gain =
            data_spread / sqrt(data_spread * data_spread + sigma_first * sigma_first);
        for (size_t i = 0; i < COUNT; i++) {
            const double exact = sigma_first * value_at(1000, i) * gain;
            if (!(fabs(run.x[i] - exact) <= samplers[k].room))
                print_message("%s: %g instead of %g\n", run.name, run.x[i], exact);
            assert_true(fabs(run.x[i] - exact) <= samplers[k].room);
        }
    }
}

static void dpm_adaptive_gets_closer_with_a_tighter_tolerance(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 5, 0.03, 0};
    static const struct {
        double rtol, room;
    } cases[] = {{0.05, 0.05}, {0.005, 0.03}, {0.0005, 0.01}};
    uint32_t calls = 0;
    for (size_t k = 0; k < 3; k++) {
        struct run run = run_of("dpm_adaptive", sigmas, 4);
        run.model = GAUSSIAN;
        run.options.rtol = cases[k].rtol;
        run.options.atol = cases[k].rtol / 10;
        run_sampler(&run);
        assert_int_equal(run.code, LD_OK);
        assert_true(run.calls > calls);
        calls = run.calls;
        const double variance = data_spread * data_spread;
        const double gain = sqrt((variance + 0.03 * 0.03) / (variance + 14.6 * 14.6));
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabs(run.x[i] / (14.6 * value_at(1000, i) * gain) - 1) < cases[k].room);
    }
}

/* Stochastic samplers must leave data of the right spread. */
static void stochastic_samplers_keep_the_spread(void **state)
{
    (void)state;
    static const char *const samplers[] = {"euler_ancestral",
                                           "dpm_2_ancestral",
                                           "dpmpp_2s_ancestral",
                                           "dpmpp_2m_sde",
                                           "dpmpp_2m_sde_heun",
                                           "dpmpp_3m_sde",
                                           "ddpm",
                                           "res_multistep_ancestral",
                                           "er_sde",
                                           "seeds_2",
                                           "seeds_3",
                                           "sa_solver",
                                           "sa_solver_pece",
                                           "restart"};
    for (size_t k = 0; k < sizeof samplers / sizeof samplers[0]; k++) {
        struct run run;
        run_scheduled(&run, samplers[k], 60, false, GAUSSIAN);
        double sum = 0;
        for (size_t i = 0; i < COUNT; i++)
            sum += run.x[i] * run.x[i];
        const double spread = sqrt(sum / COUNT);
        if (!(fabs(spread / data_spread - 1) < 0.3))
            print_message("%s: spread %g\n", samplers[k], spread);
        assert_true(fabs(spread / data_spread - 1) < 0.3);
    }
}

/* ---- Options and profiles -------------------------------------------------------------------- */

static void churn_draws_as_the_profile_does(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    struct run run = run_of("euler", sigmas, 6);
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 0);
    run = run_of("euler", sigmas, 6);
    run.options.a1111 = true; /* draws and discards on every step */
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 5);
    run = run_of("euler", sigmas, 6);
    run.options.s_churn = 2;
    run.options.s_tmin = 0.5;
    run.options.s_tmax = 10;
    run_sampler(&run);
    assert_int_equal(run.noise.draws, 3); /* sigmas 7, 3, 1 */
}

static void restart_jumps_back_once_or_twice(void **state)
{
    (void)state;
    static const struct {
        uint32_t steps, jumps;
    } cases[] = {{19, 0}, {20, 1}, {35, 1}, {36, 2}, {60, 2}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct run run;
        run_scheduled(&run, "restart", cases[k].steps, true, GAUSSIAN);
        assert_int_equal(run.noise.draws, cases[k].jumps);
        assert_int_equal(run.calls, 2 * cases[k].steps - 1);
    }
}

static void extrapolating_the_last_step_is_an_option(void **state)
{
    (void)state;
    static const double sigmas[] = {14.6, 7, 3, 1, 0.3, 0};
    static const char *const samplers[] = {"gradient_estimation", "lms", "ipndm", "ipndm_v"};
    for (size_t k = 0; k < 4; k++) {
        struct run plain = run_of(samplers[k], sigmas, 6);
        struct run old = plain;
        old.options.extrapolate_last = true;
        run_sampler(&plain);
        run_sampler(&old);
        assert_memory_not_equal(plain.x, old.x, sizeof plain.x);
    }
    /* gradient_estimation: x += (g d + (1 - g) d_prev)(0 - sigma), on a constant estimate. */
    struct run run = run_of("gradient_estimation", (const double[]){2, 1, 0}, 3);
    const double start = run.x[0];
    run.model = CONSTANT;
    run.options.extrapolate_last = true;
    run_sampler(&run);
    const double d0 = (start - value_at(0, 0)) / 2;
    const double middle = start - d0;
    const double d1 = middle - value_at(0, 0);
    assert_true(fabs(run.x[0] - (middle - (2 * d1 - d0))) < 1e-12);
}

/* ---- Arithmetic ------------------------------------------------------------------------------ */

static void lincomb_sums_in_order_and_in_place(void **state)
{
    (void)state;
    enum { SIZE = 1300 }; /* two chunks and a rest */
    static double a[SIZE];
    static double b[SIZE];
    static double whole[SIZE];
    static double cut[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        a[i] = value_at(1, i);
        b[i] = value_at(2, i);
    }
    const struct ld_term terms[] = {{0.3, a}, {-1.7, b}, {2.5, a}};
    ld_lincomb(whole, terms, 3, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        assert_true(whole[i] == 0.3 * a[i] + -1.7 * b[i] + 2.5 * a[i]);
    for (size_t start = 0; start < SIZE;) {
        const size_t size = SIZE - start < 77 ? SIZE - start : 77;
        const struct ld_term part[] = {{0.3, a + start}, {-1.7, b + start}, {2.5, a + start}};
        ld_lincomb(cut + start, part, 3, size);
        start += size;
    }
    assert_memory_equal(whole, cut, sizeof whole);
    ld_lincomb(a, terms, 3, SIZE);
    assert_memory_equal(whole, a, sizeof whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deterministic_samplers_follow_the_exact_flow),
        cmocka_unit_test(dpm_adaptive_gets_closer_with_a_tighter_tolerance),
        cmocka_unit_test(stochastic_samplers_keep_the_spread),
        cmocka_unit_test(churn_draws_as_the_profile_does),
        cmocka_unit_test(restart_jumps_back_once_or_twice),
        cmocka_unit_test(extrapolating_the_last_step_is_an_option),
        cmocka_unit_test(lincomb_sums_in_order_and_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
