/* Proves how pictures share passes on a GPU: as many are under way as fill one, a large pass has a
 * multiple of eight rows and what is left over comes next, and nobody's pixels depend on it. How: a
 * demonstration checkpoint on a fake GPU, and the rows that the statistics count tick by tick.
 *
 *     test_engine_company MAKE_CHECKPOINT FOLDER
 */
#include "runtime/engine_state.h"
#include "runtime/ipc/stats.h"
#include "tests/unit/engine_fixture.h"

#include <stdio.h>

enum { JOBS_MAX = 34, PASSES_MAX = TICKS_MAX };

/* Rows of every pass until all jobs have ended. */
struct passes {
    uint32_t rows[PASSES_MAX];
    uint32_t count, most;
};

static uint64_t rows_so_far(void)
{
    static uint64_t values[LD_STAT_COUNT];
    ld_stats_read(values);
    return values[LD_STAT_ROWS];
}

static bool watch(struct ld_engine *engine, struct passes *passes)
{
    struct ld_error err = {0};
    *passes = (struct passes){0};
    for (int i = 0; i < TICKS_MAX && ld_engine_busy(engine); i++) {
        const uint64_t before = rows_so_far();
        if (ld_engine_tick(engine, &err) != LD_OK)
            return false;
        const uint32_t rows = (uint32_t)(rows_so_far() - before);
        if (rows > 0)
            passes->rows[passes->count++] = rows;
        passes->most = rows > passes->most ? rows : passes->most;
    }
    return !ld_engine_busy(engine);
}

/* `count` jobs of one picture each, seeds 0, 1, ...; true if all have ended well. */
static bool paint_together(struct ld_engine *engine, uint32_t count, struct listener *listeners,
                           struct passes *passes)
{
    static struct ld_request requests[JOBS_MAX];
    bool good = engine != NULL;
    for (uint32_t i = 0; good && i < count; i++) {
        ask(&requests[i]);
        requests[i].seed = i;
        good = hand_in(engine, &requests[i], &listeners[i]);
    }
    good = good && watch(engine, passes);
    for (uint32_t i = 0; good && i < count; i++)
        good = listeners[i].done == 1 && listeners[i].code == LD_OK && listeners[i].images == 1;
    return good;
}

static bool all_in_steps_of_eight(const struct passes *passes)
{
    for (uint32_t i = 0; i < passes->count; i++)
        if (passes->rows[i] > 16 && passes->rows[i] % 8 != 0)
            return false;
    return passes->count > 0;
}

static void small_pictures_fill_a_pass(void)
{
    static struct listener company[JOBS_MAX];
    struct listener alone;
    struct ld_request request;
    struct passes passes;
    fake_gpu_reset();
    engine_threads = 3; /* sessions close their calls side by side */
    struct ld_engine *engine = open_engine();
    bool good = paint_together(engine, 13, company, &passes);
    report("thirteen pictures are all painted", good);
    report("24 of their 26 rows share a pass", passes.most == 24);
    report("every large pass has a multiple of eight rows", all_in_steps_of_eight(&passes));
    for (uint32_t i = 0; good && i < 13; i += 6) { /* alone nothing is done side by side */
        ask(&request);
        request.seed = i;
        good = paint(engine, &request, &alone) && alone.digest[0] == company[i].digest[0];
    }
    report("each has the pixels that it has alone", good);
    report("34 pictures are all painted, 64 rows a pass at most",
           paint_together(engine, JOBS_MAX, company, &passes) && passes.most == 64);
    ld_engine_destroy(engine);
}

/* The most passes in a row that went without a picture under way. */
static uint64_t longest_wait(const struct ld_engine *engine)
{
    uint64_t longest = 0;
    for (const struct ld_job *job = engine->jobs; job; job = job->next)
        for (uint32_t i = 0; i < job->session_count; i++) {
            const struct ld_session *session = &job->sessions[i];
            const uint64_t wait = engine->tick - session->served;
            if (session->phase == LD_SESSION_SAMPLING && session->served > 0 && wait > longest)
                longest = wait;
        }
    return longest;
}

/* Fifteen have 30 rows, six of which find no room in a pass of 24. */
static void what_is_left_over_comes_next(void)
{
    enum { PICTURES = 15 };
    static struct listener company[PICTURES];
    static struct ld_request requests[PICTURES];
    struct ld_error err = {0};
    uint64_t longest = 0;
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    bool good = engine != NULL;
    for (uint32_t i = 0; good && i < PICTURES; i++) {
        ask(&requests[i]);
        requests[i].seed = i;
        requests[i].steps = 12;
        good = hand_in(engine, &requests[i], &company[i]);
    }
    for (int i = 0; good && i < TICKS_MAX && ld_engine_busy(engine); i++) {
        good = ld_engine_tick(engine, &err) == LD_OK;
        const uint64_t wait = longest_wait(engine);
        longest = wait > longest ? wait : longest;
    }
    report("fifteen pictures are all painted", good && !ld_engine_busy(engine));
    report("none of them is left over twice in a row", longest == 1);
    ld_engine_destroy(engine);
}

static void what_fills_a_pass_depends_on_sizes(void)
{
    enum { LARGE = 128 * 128, SMALL = 64 * 64 }; /* positions of 1024x1024 and 512x512 */
    struct ld_backend backend = {.act_dtype = LD_DTYPE_F16};
    struct ld_engine engine = {.backend = &backend};
    report("eight pictures are under way whatever their size",
           ld_engine_has_room(&engine, 7, 7 * 4 * LARGE));
    report("eight of 1024x1024 fill a pass", !ld_engine_has_room(&engine, 8, 8 * LARGE));
    report("31 of 512x512 leave room, 32 do not", ld_engine_has_room(&engine, 31, 31 * SMALL) &&
                                                      !ld_engine_has_room(&engine, 32, 32 * SMALL));
    engine.positions_fit = 40 * SMALL;
    report("where a pass found too little memory, fewer do",
           ld_engine_has_room(&engine, 19, 19 * SMALL) &&
               !ld_engine_has_room(&engine, 20, 20 * SMALL));
    engine.positions_fit = 0;
    engine.batch_max = 24;
    report("and where rows are bounded", ld_engine_has_room(&engine, 11, 11 * SMALL) &&
                                             !ld_engine_has_room(&engine, 12, 12 * SMALL));
    engine.batch_max = 0;
    backend.act_dtype = LD_DTYPE_F32;
    report("a CPU has eight under way",
           ld_engine_has_room(&engine, 7, 7) && !ld_engine_has_room(&engine, 8, 8));
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {small_pictures_fill_a_pass, what_is_left_over_comes_next,
                                          what_fills_a_pass_depends_on_sizes};
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
