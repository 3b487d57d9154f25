/*
 * Proves the fair queue's promises on its own arithmetic, by simulation with made-up clocks: who
 * floods only delays himself, shares follow weights, nobody saves up by being away, low priorities
 * wait at most eight times as long as in the order of arrival, suspects run alone, a newcomer finds
 * a free place.
 */
#include "server/fair.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t state_of_chance = 88172645463325252U;

/* xorshift64 (Marsaglia 2003): the same numbers at every run. */
static uint64_t chance(uint64_t below)
{
    state_of_chance ^= state_of_chance << 13;
    state_of_chance ^= state_of_chance >> 7;
    state_of_chance ^= state_of_chance << 17;
    return state_of_chance % below;
}

static const struct ld_fair_worker one_place = {.running_max = 1};

/* ---- A simulated server with one place: jobs one after the other ----------------------------- */

enum { KEYS = 10, JOBS = 1000 };

struct sim {
    struct ld_fair_key keys[KEYS];
    int64_t costs[KEYS][JOBS]; /* of waiting jobs, a ring would be more than is needed */
    int64_t arrived[KEYS][JOBS];
    uint32_t first[KEYS], last[KEYS];
    int64_t fair_now, time;
    int64_t served[KEYS], wait_max[KEYS];
};

static void sim_submit(struct sim *sim, uint32_t key, int64_t cost)
{
    struct ld_fair_key *k = &sim->keys[key];
    if (k->queued == 0)
        k->vtime = ld_fair_join(k->vtime, sim->fair_now);
    sim->costs[key][sim->last[key]] = cost;
    sim->arrived[key][sim->last[key]] = sim->time;
    sim->last[key]++;
    k->queued++;
    k->queued_cost += cost;
}

/* Runs one job to its end; -1 when none waits, else its key. */
static int32_t sim_serve(struct sim *sim)
{
    struct ld_fair_key waiting[KEYS];
    uint32_t which[KEYS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        if (sim->keys[i].queued > 0) {
            waiting[count] = sim->keys[i];
            which[count++] = i;
        }
    }
    const int32_t chosen = ld_fair_choose(waiting, count, &one_place);
    if (chosen == LD_FAIR_NONE)
        return -1;
    const uint32_t key = which[chosen];
    struct ld_fair_key *k = &sim->keys[key];
    const int64_t cost = sim->costs[key][sim->first[key]];
    const int64_t waited = sim->time - sim->arrived[key][sim->first[key]];
    if (waited > sim->wait_max[key])
        sim->wait_max[key] = waited;
    sim->first[key]++;
    k->queued--;
    k->queued_cost -= cost;
    sim->fair_now = k->vtime;
    k->vtime += ld_fair_charge(cost, k->weight);
    sim->served[key] += cost;
    sim->time += cost;
    return (int32_t)key;
}

static void sim_start(struct sim *sim)
{
    memset(sim, 0, sizeof *sim);
    for (uint32_t i = 0; i < KEYS; i++) {
        sim->keys[i].weight = LD_FAIR_WEIGHT_DEFAULT;
        sim->keys[i].running_max = 1000;
    }
}

static struct sim sim;

/* A thousand equal jobs of one key, nine others with one job now and then. */
static void a_flood_delays_only_the_flooder(void **state)
{
    (void)state;
    enum { COST = 100 };
    sim_start(&sim);
    for (int i = 0; i < JOBS; i++)
        sim_submit(&sim, 0, COST);
    for (int turn = 0; turn < JOBS; turn++) {
        for (uint32_t light = 1; light < KEYS; light++) {
            if (sim.keys[light].queued == 0 && chance(20) == 0)
                sim_submit(&sim, light, COST);
        }
        (void)sim_serve(&sim);
    }
    int64_t worst = 0;
    for (uint32_t light = 1; light < KEYS; light++)
        worst = sim.wait_max[light] > worst ? sim.wait_max[light] : worst;
    (void)printf("a light user's longest wait: %.2f jobs (bound %d, order of arrival up to %d)\n",
                 (double)worst / COST, KEYS + 1, JOBS);
    assert_true(worst <= (KEYS + 1) * COST);
}

/*
 * Random costs, arrivals and crowds: 10^5 schedules. Whoever has rested waits at most for (active
 * keys + 1) largest jobs: the one that runs, and one of each other key. Who comes back at once
 * still carries his last job, which each of the others may make up for: twice that.
 */
static void waits_are_bounded_in_random_schedules(void **state)
{
    (void)state;
    double worst[2] = {0};
    for (int schedule = 0; schedule < 100000; schedule++) {
        const uint32_t keys = 2 + (uint32_t)chance(KEYS - 1);
        const uint32_t light = 1 + (uint32_t)chance(keys - 1);
        const uint64_t largest = 1 + chance(500);
        const bool rested = chance(2) == 0;
        sim.fair_now = (int64_t)chance(1000000);
        sim.time = 0;
        for (uint32_t i = 0; i < KEYS; i++) {
            /* Nobody is further than one job from the last start. */
            const int64_t lead = ld_fair_charge((int64_t)chance(largest + 1), 10);
            sim.keys[i] = (struct ld_fair_key){
                .vtime = sim.fair_now + lead, .weight = LD_FAIR_WEIGHT_DEFAULT, .running_max = 9};
            sim.first[i] = sim.last[i] = 0;
            sim.wait_max[i] = 0;
        }
        if (rested)
            sim.keys[light].vtime = (int64_t)chance((uint64_t)sim.fair_now + 1);
        for (uint32_t i = 0; i < keys; i++) {
            for (uint64_t j = 1 + chance(12); i != light && j > 0; j--)
                sim_submit(&sim, i, 1 + (int64_t)chance(largest));
        }
        const uint64_t served_before = chance(6);
        for (uint64_t j = 0; j < served_before; j++)
            (void)sim_serve(&sim);
        sim_submit(&sim, light, 1 + (int64_t)chance(largest));
        int32_t served;
        do {
            served = sim_serve(&sim);
        } while (served >= 0 && served != (int32_t)light);
        const double jobs = (double)sim.wait_max[light] / (double)(largest * (keys + 1));
        worst[rested] = jobs > worst[rested] ? jobs : worst[rested];
    }
    (void)printf("the longest waits in 100000 schedules, in (active keys + 1) largest jobs: %.2f "
                 "rested (bound 1), %.2f at once (bound 2)\n",
                 worst[1], worst[0]);
    assert_true(worst[1] <= 1 && worst[0] <= 2);
    assert_true(worst[1] > 0.3); /* it was not idle all the time */
}

static double jain(const double *shares, uint32_t count)
{
    double sum = 0;
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += shares[i];
        squares += shares[i] * shares[i];
    }
    return sum * sum / (count * squares);
}

/* `weight_of(i)` keys that always have something waiting: what they get per weight. */
static void check_shares(const int64_t weights[KEYS], uint32_t count, double within)
{
    double shares[KEYS];
    double mean = 0;
    sim_start(&sim);
    for (uint32_t i = 0; i < count; i++)
        sim.keys[i].weight = weights[i];
    for (int turn = 0; turn < 500; turn++) {
        for (uint32_t i = 0; i < count; i++) {
            while (sim.keys[i].queued < 3)
                sim_submit(&sim, i, 10 + (int64_t)chance(20));
        }
        (void)sim_serve(&sim);
    }
    for (uint32_t i = 0; i < count; i++) {
        shares[i] = (double)sim.served[i] / (double)weights[i];
        mean += shares[i] / count;
    }
    const double index = jain(shares, count);
    for (uint32_t i = 0; i < count; i++) {
        if (fabs(shares[i] / mean - 1) > within)
            fail_msg("key %u got %.3f of its share", i, shares[i] / mean);
    }
    (void)printf("500 jobs of %u keys: Jain index %.4f\n", count, index);
    assert_true(index >= 0.98);
}

static void shares_follow_weights(void **state)
{
    (void)state;
    const int64_t equal[KEYS] = {10, 10, 10, 10};
    const int64_t unequal[KEYS] = {10, 20, 40, 10};
    check_shares(equal, 4, 0.05);
    check_shares(unequal, 4, 0.10); /* the light ones have few jobs: one more or less counts */
}

static void who_was_away_has_saved_nothing_up(void **state)
{
    (void)state;
    sim_start(&sim);
    for (int i = 0; i < 400; i++)
        sim_submit(&sim, 0, 10);
    for (int i = 0; i < 200; i++)
        (void)sim_serve(&sim);
    for (int i = 0; i < 100; i++)
        sim_submit(&sim, 1, 10); /* comes with a hundred */
    int32_t ones = 0;
    for (int i = 0; i < 20; i++)
        ones += sim_serve(&sim) == 1 ? 1 : 0;
    assert_in_range(ones, 9, 11);
}

/* ---- Within a key ---------------------------------------------------------------------------- */

/* Jobs of random priorities come as fast as they go; the queue holds 30. */
static void low_priorities_wait_at_most_eight_times_their_fair_wait(void **state)
{
    (void)state;
    enum { HELD = 30 };
    struct {
        int64_t seq, ahead_at_arrival, turn;
        uint64_t priority;
    } queue[HELD];
    int64_t next = 0;
    double worst = 0;
    uint32_t held = 0;
    for (int64_t turn = 0; turn < 200000; turn++) {
        while (held < HELD) {
            queue[held].seq = next++;
            queue[held].priority = turn % 3 ? 9 : chance(10);
            queue[held].ahead_at_arrival = held;
            queue[held].turn = turn;
            held++;
        }
        uint32_t best = 0;
        for (uint32_t i = 1; i < held; i++) {
            const bool older = queue[i].seq < queue[best].seq;
            const bool before = queue[i].priority != queue[best].priority
                                    ? queue[i].priority > queue[best].priority
                                    : older;
            if (ld_fair_is_oldest_turn(turn) ? older : before)
                best = i;
        }
        const double fair = (double)(queue[best].ahead_at_arrival + 1);
        const double waited = (double)(turn - queue[best].turn + 1);
        worst = waited / fair > worst ? waited / fair : worst;
        queue[best] = queue[--held];
    }
    (void)printf("the longest wait within a key: %.2f of that in order of arrival (bound 10)\n",
                 worst);
    assert_true(worst <= 10 && worst > 1);
}

/* ---- Single choices -------------------------------------------------------------------------- */

static struct ld_fair_key a_key(int64_t vtime, int64_t running, int64_t running_max)
{
    return (struct ld_fair_key){
        .vtime = vtime, .weight = 10, .running = running, .running_max = running_max, .queued = 1};
}

static void the_key_that_is_least_far_goes_where_there_is_room(void **state)
{
    (void)state;
    const struct ld_fair_key keys[] = {a_key(9, 0, 8), a_key(5, 0, 8), a_key(5, 0, 8)};
    const struct ld_fair_worker roomy = {.running = 7, .running_max = 8};
    const struct ld_fair_worker full = {.running = 8, .running_max = 8};
    assert_int_equal(ld_fair_choose(keys, 3, &roomy), 1);
    assert_int_equal(ld_fair_choose(keys, 3, &full), LD_FAIR_NONE);
    assert_int_equal(ld_fair_choose(keys, 0, &roomy), LD_FAIR_NONE);
}

static void running_jobs_of_a_key_are_bounded(void **state)
{
    (void)state;
    const struct ld_fair_worker roomy = {.running = 3, .running_max = 8};
    const struct ld_fair_key below[] = {a_key(1, 1, 2), a_key(2, 0, 8)};
    const struct ld_fair_key at[] = {a_key(1, 2, 2), a_key(2, 0, 8)};
    assert_int_equal(ld_fair_choose(below, 2, &roomy), 0);
    assert_int_equal(ld_fair_choose(at, 2, &roomy), 1);
    assert_int_equal(ld_fair_choose(at, 1, &roomy), LD_FAIR_NONE);
}

static void the_last_place_is_for_somebody_else(void **state)
{
    (void)state;
    const struct ld_fair_key flood[] = {a_key(1, 7, 1024), a_key(900, 0, 1024)};
    const struct ld_fair_worker alone = {.running = 7, .running_max = 8};
    const struct ld_fair_worker shared = {.running = 7, .running_max = 8, .places = 8};
    const struct ld_fair_worker single = {.running_max = 1, .places = 1};
    assert_int_equal(ld_fair_choose(flood, 2, &alone), 0);
    assert_int_equal(ld_fair_choose(flood, 1, &shared), LD_FAIR_NONE);
    assert_int_equal(ld_fair_choose(flood, 2, &shared), 1);
    assert_int_equal(ld_fair_choose(flood + 1, 1, &single), 0); /* one place cannot be halved */
}

static void suspects_run_alone(void **state)
{
    (void)state;
    const struct ld_fair_key key = a_key(1, 0, 8);
    const struct ld_fair_worker empty = {.running_max = 8};
    const struct ld_fair_worker busy = {.running = 1, .running_max = 8};
    const struct ld_fair_worker with_suspect = {
        .running = 1, .running_max = 8, .running_suspect = true};
    assert_true(ld_fair_may_start(true, &empty));
    assert_false(ld_fair_may_start(true, &busy));
    assert_true(ld_fair_may_start(false, &busy));
    assert_int_equal(ld_fair_choose(&key, 1, &with_suspect), LD_FAIR_NONE);
}

static void what_is_ahead_is_counted_by_virtual_time(void **state)
{
    (void)state;
    int64_t cost;
    struct ld_fair_key other = {.vtime = 1000, .weight = 10, .queued = 5, .queued_cost = 50};
    /* its jobs start at 1000, 2000, 3000, 4000, 5000 */
    assert_int_equal(ld_fair_ahead(&other, 1000, &cost), 0);
    assert_int_equal(ld_fair_ahead(&other, 1001, &cost), 1);
    assert_int_equal(ld_fair_ahead(&other, 3000, &cost), 2);
    assert_int_equal(ld_fair_ahead(&other, 3001, &cost), 3);
    assert_int_equal(cost, 30);
    assert_int_equal(ld_fair_ahead(&other, 1000000, &cost), 5);
    other.queued = 0;
    assert_int_equal(ld_fair_ahead(&other, 1000000, &cost), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_delays_only_the_flooder),
        cmocka_unit_test(waits_are_bounded_in_random_schedules),
        cmocka_unit_test(shares_follow_weights),
        cmocka_unit_test(who_was_away_has_saved_nothing_up),
        cmocka_unit_test(low_priorities_wait_at_most_eight_times_their_fair_wait),
        cmocka_unit_test(the_key_that_is_least_far_goes_where_there_is_room),
        cmocka_unit_test(running_jobs_of_a_key_are_bounded),
        cmocka_unit_test(the_last_place_is_for_somebody_else),
        cmocka_unit_test(suspects_run_alone),
        cmocka_unit_test(what_is_ahead_is_counted_by_virtual_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
