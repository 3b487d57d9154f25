/*
 * A launch: its blocks are dealt out to threads of the host, and what goes wrong is put into a
 * sentence.
 *
 * A failing block jumps out of whatever it was doing (ptx_fail); its host thread stops, the others
 * before their next block. The first failure is the launch's.
 */
#include "tests/ptx/machine.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_THREADS_MAX = 1024, HOST_THREADS_MAX = 256, SHARED_ALIGN = 1024 };

/* ---- Options and counts ---------------------------------------------------------------------- */

static struct ptx_options options;
static pthread_once_t options_once = PTHREAD_ONCE_INIT;

uint64_t ptx_environment(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static void read_options(void)
{
    const uint64_t threads = ptx_environment("PTX_THREADS");
    const uint64_t blocks = ptx_environment("PTX_BLOCKS");
    options.threads = threads < HOST_THREADS_MAX ? (int32_t)threads : HOST_THREADS_MAX;
    options.blocks = blocks < INT32_MAX ? (int32_t)blocks : 0;
    options.order = ptx_environment("PTX_ORDER");
    options.races = ptx_environment("PTX_RACES") != 0;
}

struct ptx_options *ptx_options(void)
{
    pthread_once(&options_once, read_options);
    return &options;
}

static struct ptx_counts total;
static pthread_mutex_t total_lock = PTHREAD_MUTEX_INITIALIZER;

void ptx_count_reset(void)
{
    pthread_mutex_lock(&total_lock);
    total = (struct ptx_counts){0};
    pthread_mutex_unlock(&total_lock);
}

void ptx_counts(struct ptx_counts *out)
{
    pthread_mutex_lock(&total_lock);
    *out = total;
    pthread_mutex_unlock(&total_lock);
}

static void add_counts(const struct ptx_counts *c)
{
    pthread_mutex_lock(&total_lock);
    total.launches += c->launches;
    total.blocks += c->blocks;
    total.instructions += c->instructions;
    total.mma += c->mma;
    total.ldmatrix += c->ldmatrix;
    total.cp_async += c->cp_async;
    total.shared_access += c->shared_access;
    total.shared_passes += c->shared_passes;
    total.global_access += c->global_access;
    total.global_sectors += c->global_sectors;
    pthread_mutex_unlock(&total_lock);
}

/* ---- Failing --------------------------------------------------------------------------------- */

void ptx_thread_text(const struct ptx_launch *launch, uint32_t thread, char *text, size_t size)
{
    const uint32_t x = launch->block[0], y = launch->block[1];
    snprintf(text, size, "thread (%u,%u,%u)", thread % x, thread / x % y, thread / x / y);
}

/* "KERNEL, block (x,y,z), thread (x,y,z): PTX line N `opcode` (file.cu:LINE): " */
static void put_place(char *text, size_t size, const struct ptx_warp *w, int lane)
{
    const struct ptx_launch *launch = w->block->launch;
    const struct ptx_module *module = launch->kernel->module;
    const struct ptx_inst *inst = w->op->inst;
    const uint32_t *block = w->block->index;
    char who[48], line[96] = "", source[96] = "";
    if (lane >= 0)
        ptx_thread_text(launch, (uint32_t)(w->index * PTX_LANES + lane), who, sizeof who);
    else
        snprintf(who, sizeof who, "warp %d", w->index);
    if (inst != NULL)
        snprintf(line, sizeof line, "PTX line %d `%s`", inst->line, inst->name);
    if (inst != NULL && inst->source_line > 0 && module != NULL && inst->source_file >= 0 &&
        inst->source_file < module->file_count && module->files[inst->source_file] != NULL) {
        const char *file = module->files[inst->source_file];
        const char *slash = strrchr(file, '/');
        snprintf(source, sizeof source, " (%s:%d)", slash != NULL ? slash + 1 : file,
                 inst->source_line);
    }
    snprintf(text, size, "%s, block (%u,%u,%u), %s: %s%s: ", launch->kernel->name, block[0],
             block[1], block[2], who, line, source);
}

void ptx_fail(struct ptx_warp *w, int lane, const char *format, ...)
{
    /* Kernels' names can be long: what is wrong must be there all the same. */
    char place[sizeof w->block->why->text / 2], what[sizeof w->block->why->text / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    put_place(place, sizeof place, w, lane);
    snprintf(w->block->why->text, sizeof w->block->why->text, "%s%s", place, what);
    longjmp(w->block->fail, 1);
}

/* ---- Host threads ---------------------------------------------------------------------------- */

static const struct ptx_why short_memory = {"no memory to run a block in"};

struct run {
    const struct ptx_launch *launch;
    struct ptx_options options;
    uint32_t shared_bytes;
    uint64_t blocks;           /* of the grid that run */
    struct ptx_site *sites;    /* of all of them, or NULL */
    atomic_uint_fast64_t next; /* block to be dealt out */
    atomic_bool stop;
    pthread_mutex_t lock; /* of why and failed */
    struct ptx_why *why;
    bool failed;
};

struct worker {
    struct ptx_block block;
    struct ptx_warp warps[PTX_BLOCK_WARPS];
    struct ptx_why why;
    struct ptx_site *sites; /* one more than instructions; NULL: nobody watches */
    unsigned char *files;   /* registers of all warps */
};

static uint64_t grid_blocks(const struct ptx_launch *launch)
{
    return (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
}

/* NULL if memory is short. */
static struct worker *make_worker(const struct run *r)
{
    const struct ptx_launch *launch = r->launch;
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        return NULL;
    struct ptx_block *block = &worker->block;
    block->launch = launch;
    block->threads = launch->block[0] * launch->block[1] * launch->block[2];
    block->warp_count = (int32_t)((block->threads + PTX_LANES - 1) / PTX_LANES);
    block->warps = worker->warps;
    block->order = r->options.order;
    block->budget = r->options.budget != 0 ? r->options.budget : (uint64_t)1 << 32;
    block->why = &worker->why;
    block->shared_bytes = r->shared_bytes;
    const size_t file = ((size_t)launch->kernel->file_bytes + 63) / 64 * 64;
    const size_t shared = ((size_t)r->shared_bytes / SHARED_ALIGN + 1) * SHARED_ALIGN;
    worker->files = aligned_alloc(64, file * (size_t)block->warp_count + 64);
    block->shared = aligned_alloc(SHARED_ALIGN, shared);
    if (r->sites != NULL)
        worker->sites = calloc((size_t)launch->kernel->inst_count + 1, sizeof *worker->sites);
    block->sites = worker->sites;
    if (worker->files == NULL || block->shared == NULL ||
        (r->sites != NULL && worker->sites == NULL)) {
        free(worker->sites);
        free(worker->files);
        free(block->shared);
        free(worker);
        return NULL;
    }
    for (int32_t i = 0; i < block->warp_count; i++) {
        worker->warps[i].index = i;
        worker->warps[i].block = block;
        worker->warps[i].file = worker->files + file * (size_t)i;
    }
    return worker;
}

static void free_worker(struct worker *worker)
{
    for (int32_t i = 0; i < worker->block.warp_count; i++)
        ptx_copies_free(&worker->warps[i]);
    ptx_shadow_free(&worker->block);
    free(worker->sites);
    free(worker->files);
    free(worker->block.shared);
    free(worker);
}

static void fail_run(struct run *r, const struct ptx_why *why)
{
    pthread_mutex_lock(&r->lock);
    if (!r->failed)
        *r->why = *why;
    r->failed = true;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->stop, true);
}

/* The block whose turn it is: the first, the last, and as many between them as are to run. */
static uint64_t block_of(const struct run *r, uint64_t turn)
{
    const uint64_t last = grid_blocks(r->launch) - 1;
    return r->blocks > 1 ? (last * turn + (r->blocks - 1) / 2) / (r->blocks - 1) : 0;
}

static void add_sites(struct run *r, const struct worker *worker)
{
    if (r->sites == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    for (int32_t i = 0; i <= r->launch->kernel->inst_count; i++) {
        const struct ptx_site *site = &worker->sites[i];
        struct ptx_site *sum = &r->sites[i];
        sum->executed += site->executed;
        sum->passes += site->passes;
        sum->passes_least += site->passes_least;
        sum->sectors += site->sectors;
        sum->sectors_least += site->sectors_least;
    }
    pthread_mutex_unlock(&r->lock);
}

/* Runs blocks until there are none left. What it needs is here before the first and goes after the
 * last. */
static void run_blocks(struct run *r, struct worker *worker)
{
    struct ptx_block *block = &worker->block;
    const uint32_t *grid = r->launch->grid;
    while (!atomic_load(&r->stop)) {
        const uint64_t turn = atomic_fetch_add(&r->next, 1);
        if (turn >= r->blocks)
            return;
        const uint64_t n = block_of(r, turn);
        block->index[0] = (uint32_t)(n % grid[0]);
        block->index[1] = (uint32_t)(n / grid[0] % grid[1]);
        block->index[2] = (uint32_t)(n / grid[0] / grid[1]);
        block->counts.blocks++;
        /* What a kernel reads before it writes is different in every order. */
        memset(block->shared, block->order == 0 ? 0 : 0xff, block->shared_bytes);
        if (setjmp(block->fail) != 0) {
            fail_run(r, &worker->why);
            return;
        }
        ptx_block_run(block);
    }
}

static void *work(void *context)
{
    struct run *r = context;
    struct worker *worker = make_worker(r);
    if (worker == NULL || (r->options.races && !ptx_shadow_make(&worker->block))) {
        fail_run(r, &short_memory);
        if (worker != NULL)
            free_worker(worker);
        return NULL;
    }
    run_blocks(r, worker);
    add_counts(&worker->block.counts);
    add_sites(r, worker);
    free_worker(worker);
    return NULL;
}

static void run_threads(struct run *r)
{
    int64_t count = r->options.threads > 0 ? r->options.threads : sysconf(_SC_NPROCESSORS_ONLN);
    if (count > HOST_THREADS_MAX)
        count = HOST_THREADS_MAX;
    if ((uint64_t)count > r->blocks)
        count = (int64_t)r->blocks;
    pthread_t threads[HOST_THREADS_MAX];
    int64_t started = 0;
    while (started < count - 1 && pthread_create(&threads[started], NULL, work, r) == 0)
        started++;
    work(r); /* this thread is one of them */
    for (int64_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Launching ------------------------------------------------------------------------------- */

static bool check_launch(const struct ptx_launch *launch, struct ptx_why *why)
{
    const struct ptx_kernel *kernel = launch->kernel;
    uint64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        threads *= launch->block[i];
        if (launch->grid[i] == 0 || launch->block[i] == 0 || threads > BLOCK_THREADS_MAX ||
            launch->grid[i] > (i == 0 ? (uint32_t)INT32_MAX : 65535u)) {
            snprintf(why->text, sizeof why->text, "%s: no grid (%u,%u,%u) of blocks (%u,%u,%u)",
                     kernel->name, launch->grid[0], launch->grid[1], launch->grid[2],
                     launch->block[0], launch->block[1], launch->block[2]);
            return false;
        }
    }
    if (kernel->threads_max != 0 && threads > kernel->threads_max) {
        snprintf(why->text, sizeof why->text, "%s: %llu threads a block, .maxntid is %u",
                 kernel->name, (unsigned long long)threads, kernel->threads_max);
        return false;
    }
    return true;
}

static bool decode_once(struct ptx_kernel *kernel, struct ptx_why *why)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    const bool decoded = kernel->ops != NULL || ptx_decode(kernel, why);
    pthread_mutex_unlock(&lock);
    return decoded;
}

bool ptx_run(const struct ptx_launch *launch, struct ptx_why *why)
{
    struct ptx_kernel *kernel = launch->kernel;
    if (!check_launch(launch, why) || !decode_once(kernel, why))
        return false;
    const uint32_t align = kernel->dynamic_align != 0 ? kernel->dynamic_align : 1;
    const uint64_t shared =
        (uint64_t)(kernel->shared_bytes + align - 1) / align * align + launch->dynamic_bytes;
    if (shared > PTX_SHARED_BYTES) {
        snprintf(why->text, sizeof why->text, "%s: %llu bytes of shared memory", kernel->name,
                 (unsigned long long)shared);
        return false;
    }
    struct run r = {
        .launch = launch,
        .options = *ptx_options(),
        .shared_bytes = (uint32_t)shared,
        .blocks = grid_blocks(launch),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .why = why,
    };
    if (r.options.blocks > 0 && (uint64_t)r.options.blocks < r.blocks)
        r.blocks = (uint64_t)r.options.blocks;
    if (r.options.watch != NULL) {
        r.sites = calloc((size_t)kernel->inst_count + 1, sizeof *r.sites);
        if (r.sites == NULL) {
            *why = short_memory;
            return false;
        }
    }
    run_threads(&r);
    pthread_mutex_destroy(&r.lock);
    const struct ptx_counts one = {.launches = 1};
    add_counts(&one);
    if (r.options.watch != NULL && !r.failed) {
        pthread_mutex_lock(&total_lock);
        r.options.watch(r.options.watch_context, launch, r.blocks, r.sites);
        pthread_mutex_unlock(&total_lock);
    }
    free(r.sites);
    return !r.failed;
}

/* ---- Control --------------------------------------------------------------------------------- */

static void trap(struct ptx_warp *w, const struct ptx_op *op)
{
    (void)op;
    ptx_fail(w, __builtin_ctz(w->active), "a trap");
}

const struct ptx_rule ptx_rules_control[] = {
    {"bra", NULL, "l", PTX_BRANCH, 0},
    {"bra.uni", NULL, "l", PTX_BRANCH, 0},
    {"ret", NULL, "", PTX_EXIT, 0},
    {"ret.uni", NULL, "", PTX_EXIT, 0},
    {"exit", NULL, "", PTX_EXIT, 0},
    {"trap", trap, "", PTX_PLAIN, 0},
    {"bar.sync", NULL, "wW", PTX_BARRIER, 0},
    {"bar.cta.sync", NULL, "wW", PTX_BARRIER, 0},
    {"barrier.sync", NULL, "wW", PTX_BARRIER, 0},
    {"barrier.sync.aligned", NULL, "wW", PTX_BARRIER, 0},
    {"barrier.cta.sync", NULL, "wW", PTX_BARRIER, 0},
    {"barrier.cta.sync.aligned", NULL, "wW", PTX_BARRIER, 0},
    {"bar.arrive", NULL, "ww", PTX_ARRIVE, 0},
    {"bar.cta.arrive", NULL, "ww", PTX_ARRIVE, 0},
    {"barrier.arrive", NULL, "ww", PTX_ARRIVE, 0},
    {"barrier.arrive.aligned", NULL, "ww", PTX_ARRIVE, 0},
    {"barrier.cta.arrive", NULL, "ww", PTX_ARRIVE, 0},
    {"barrier.cta.arrive.aligned", NULL, "ww", PTX_ARRIVE, 0},
    {NULL, NULL, NULL, 0, 0},
};
