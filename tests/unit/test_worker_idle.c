/* Proves when a worker uses the times that nobody wants it for: after a second of quiet, bit by
 * bit, never beside a job, again after the next call, and not at all where there is nothing to do.
 * How: a worker with a pipeline that counts, in a child, and the front's end of its socket here. */
#include "runtime/base/clock.h"
#include "runtime/ipc/messages.h"
#include "server/worker_loop.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { QUIET_US = 1000 * 1000, PATIENCE_MS = 20 * 1000, TICKS = 50 };

/* What parent and child share. */
struct shared {
    atomic_int left;     /* pieces that wait for an idle time */
    atomic_int ticks;    /* that the present job still takes */
    atomic_int refusals; /* while another process computes */
    atomic_int idles, models, beside_a_job;
    atomic_llong active_us; /* when something was last done for somebody */
    atomic_llong quiet_us;  /* the shortest time between that and an idle piece */
    bool fails;
};

static struct shared *shared;

/* ---- The pipeline ---------------------------------------------------------------------------- */

static void pause_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&time, NULL);
}

static const char *inventory(void *ctx)
{
    (void)ctx;
    return "{\"backend\":\"cpu\",\"device\":\"none\",\"models\":[]}";
}

static bool busy(void *ctx)
{
    (void)ctx;
    return atomic_load(&shared->ticks) > 0;
}

static enum ld_code tick(void *ctx, struct ld_error *err)
{
    (void)ctx;
    (void)err;
    pause_ms(2);
    atomic_store(&shared->active_us, ld_clock_monotonic_us());
    atomic_fetch_sub(&shared->ticks, 1);
    return LD_OK;
}

/* Stands for a job: it takes some ticks, and leaves something for idle times. */
static enum ld_code model(void *ctx, const char *name, bool load, struct ld_buffer *out,
                          struct ld_error *err)
{
    (void)ctx;
    (void)name;
    (void)load;
    (void)err;
    ld_buffer_text(out, "{}");
    atomic_store(&shared->ticks, TICKS);
    atomic_store(&shared->left, 2);
    atomic_fetch_add(&shared->models, 1);
    return LD_OK;
}

static bool has_news(void *ctx)
{
    (void)ctx;
    return false;
}

static enum ld_code idle(void *ctx, enum ld_idle *left, struct ld_error *err)
{
    const int64_t quiet_us = ld_clock_monotonic_us() - atomic_load(&shared->active_us);
    if (shared->fails)
        return LD_FAIL(err, LD_E_DEVICE, "lost");
    if (quiet_us < atomic_load(&shared->quiet_us))
        atomic_store(&shared->quiet_us, quiet_us);
    atomic_fetch_add(&shared->beside_a_job, busy(ctx));
    if (atomic_load(&shared->refusals) > 0) {
        atomic_store(&shared->active_us, ld_clock_monotonic_us()); /* it asks again after as long */
        atomic_fetch_sub(&shared->refusals, 1);
        *left = LD_IDLE_LATER;
        return LD_OK;
    }
    *left = atomic_fetch_sub(&shared->left, 1) > 1 ? LD_IDLE_MORE : LD_IDLE_DONE;
    atomic_fetch_add(&shared->idles, 1);
    return LD_OK;
}

/* ---- The worker ------------------------------------------------------------------------------ */

static struct {
    pid_t pid;
    int fd;
} worker;

static void start(const struct shared *given, bool with_idle)
{
    int pair[2];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    atomic_store(&shared->left, given->left);
    atomic_store(&shared->refusals, given->refusals);
    shared->fails = given->fails;
    atomic_store(&shared->quiet_us, INT64_MAX);
    atomic_store(&shared->active_us, ld_clock_monotonic_us());
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    worker.pid = fork();
    assert_true(worker.pid >= 0);
    if (worker.pid == 0) {
        const struct ld_worker_options options = {.fd = pair[1], .jobs_max = 1};
        const struct ld_worker_pipeline pipeline = {.inventory = inventory,
                                                    .busy = busy,
                                                    .tick = tick,
                                                    .model = model,
                                                    .has_news = has_news,
                                                    .idle = with_idle ? idle : NULL};
        (void)close(pair[0]);
        (void)fcntl(pair[1], F_SETFL, O_NONBLOCK);
        _exit(ld_worker_run(&options, &pipeline));
    }
    (void)close(pair[1]);
    worker.fd = pair[0];
}

static void send_frame(enum ld_frame_type type, const struct ld_buffer *payload)
{
    struct ld_error err = {0};
    struct ld_buffer bytes = ld_buffer_make(4096);
    const struct ld_frame frame = {.type = type,
                                   .payload = payload ? ld_span_of(payload->data, payload->size)
                                                      : ld_span_text("")};
    assert_int_equal(ld_frame_encode(&bytes, &frame, &err), LD_OK);
    assert_int_equal(write(worker.fd, bytes.data, bytes.size), (ssize_t)bytes.size);
    ld_buffer_deinit(&bytes);
}

static void ask_for_work(void)
{
    struct ld_buffer payload = ld_buffer_make(1024);
    const struct ld_message_model order = {.order = LD_MODEL_LOAD, .name = ld_span_text("m")};
    ld_message_model_encode(&payload, &order);
    send_frame(LD_FRAME_MODEL, &payload);
    ld_buffer_deinit(&payload);
}

/* Until the counter is there, or patience ends. */
static bool reaches(atomic_int *counter, int value)
{
    for (int waited = 0; waited < PATIENCE_MS && atomic_load(counter) < value; waited += 10)
        pause_ms(10);
    return atomic_load(counter) >= value;
}

static int end_of_worker(void)
{
    int status = -1;
    assert_int_equal(waitpid(worker.pid, &status, 0), worker.pid);
    (void)close(worker.fd);
    (void)munmap(shared, sizeof *shared);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int stop(void)
{
    send_frame(LD_FRAME_SHUTDOWN, NULL);
    return end_of_worker();
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void idle_times_begin_after_a_second_and_end_with_the_work(void **state)
{
    (void)state;
    start(&(struct shared){.left = 3}, true);
    assert_true(reaches(&shared->idles, 3));
    assert_true(atomic_load(&shared->quiet_us) >= QUIET_US);
    pause_ms(1500);
    assert_int_equal(atomic_load(&shared->idles), 3); /* nothing is left: it is not asked again */
    assert_int_equal(stop(), 0);
}

static void they_begin_again_after_a_job_and_never_beside_it(void **state)
{
    (void)state;
    start(&(struct shared){.left = 1}, true);
    assert_true(reaches(&shared->idles, 1));
    ask_for_work();
    assert_true(reaches(&shared->models, 1));
    assert_true(reaches(&shared->idles, 3));
    assert_int_equal(atomic_load(&shared->beside_a_job), 0);
    assert_true(atomic_load(&shared->quiet_us) >= QUIET_US);
    assert_int_equal(stop(), 0);
}

static void what_cannot_be_done_now_is_tried_again(void **state)
{
    (void)state;
    start(&(struct shared){.left = 2, .refusals = 2}, true);
    assert_true(reaches(&shared->idles, 2));
    assert_int_equal(atomic_load(&shared->refusals), 0);
    assert_true(atomic_load(&shared->quiet_us) >= QUIET_US);
    assert_int_equal(stop(), 0);
}

static void a_worker_without_such_work_only_waits(void **state)
{
    (void)state;
    start(&(struct shared){.left = 1}, false);
    pause_ms(1500);
    ask_for_work();
    assert_true(reaches(&shared->models, 1));
    assert_int_equal(stop(), 0);
}

static void a_pipeline_lost_in_an_idle_time_ends_the_worker(void **state)
{
    (void)state;
    start(&(struct shared){.left = 1, .fails = true}, true);
    assert_int_equal(end_of_worker(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_times_begin_after_a_second_and_end_with_the_work),
        cmocka_unit_test(they_begin_again_after_a_job_and_never_beside_it),
        cmocka_unit_test(what_cannot_be_done_now_is_tried_again),
        cmocka_unit_test(a_worker_without_such_work_only_waits),
        cmocka_unit_test(a_pipeline_lost_in_an_idle_time_ends_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
