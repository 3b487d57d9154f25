#include "kernels/cuda/tuned.h"

#include "kernels/cuda/libs.h"
#include "kernels/cuda/rt.h"
#include "kernels/cuda/tune_cache.h"
#include "kernels/cuda/tuned_bench.h"
#include "kernels/cuda/tuned_candidates.h"
#include "kernels/cuda/tuned_operands.h"
#include "runtime/base/arena.h"
#include "runtime/base/log.h"

#include <string.h>

/* Set by the build: a hash of the kernels' sources. */
#ifndef LDK_BUILD_ID
#define LDK_BUILD_ID LATENTD_VERSION
#endif

enum { WAYS_MAX = 256, FOLDER_SIZE = 1024, WANTED_MAX = 256 };

/* Stands for the default where it is what was decided; no variant has that name. */
static const char default_name[] = "own:default";

struct ldk_tuner {
    struct ldk_tuner_options options;
    char folder[FOLDER_SIZE]; /* "": none */
    struct ldk_tune_device device;
    struct ldk_tune_identity identity;
    struct ldk_tune_cache cache;
    struct ldk_libs *libs;     /* NULL: not asked for */
    struct ldk_libs_way *ways; /* [WAYS_MAX]: variant LDK_VARIANT_LIBRARY + i */
    bool failed[WAYS_MAX];     /* that way, when it was launched: not chosen again */
    uint32_t way_count;
    size_t l2_bytes;
    bool found; /* `latest` holds something */
    struct ldk_tune_choice latest;

    /* Idle times. */
    struct ldk_work *wanted; /* [WANTED_MAX], oldest first; NULL: they are not used */
    uint32_t wanted_count;
    struct ldk_tune_cache idle; /* what they have decided, by units */
    struct ldk_tune_identity idle_identity;
    bool idle_unsaved; /* the file could not be written: not tried again */
    uint64_t renewed;  /* how often they found another variant than the default */
};

/* Where and for what the libraries' plans are kept, beside the decisions. */
static void keep_plans(const struct ldk_tuner *tuner)
{
    const struct ldk_tune_identity *own = &tuner->identity;
    char device[256];
    if (ld_fmt(device, sizeof device, "%s, sm %d, %d multiprocessors, driver %d", own->device,
               tuner->device.arch, own->sm_count, own->driver))
        ldk_libs_keep_plans(tuner->libs, tuner->folder, device);
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum ld_code ldk_tuner_create(struct ldk_tuner **out, const struct ldk_tuner_options *options,
                              struct ld_error *err)
{
    struct ldk_device_info info;
    struct ldk_tuner *tuner = ld_heap_alloc(sizeof *tuner);
    enum ld_code code = LD_OK;
    *out = tuner;
    if (!tuner)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tuner");
    tuner->options = *options;
    tuner->ways = ld_heap_calloc(WAYS_MAX, sizeof *tuner->ways);
    if (!tuner->ways)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tuner");
    if (options->idle) {
        tuner->wanted = ld_heap_calloc(WANTED_MAX, sizeof *tuner->wanted);
        if (!tuner->wanted)
            code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the tuner");
    }
    if (code == LD_OK && ldk_rt_device_info(options->device, &info) != LDK_OK)
        code = LD_FAIL(err, LD_E_DEVICE, "the device does not answer");
    if (code == LD_OK && options->libraries)
        code = ldk_libs_open(&tuner->libs, err);
    if (code != LD_OK) {
        ldk_tuner_destroy(tuner);
        *out = NULL;
        return code;
    }
    tuner->device = (struct ldk_tune_device){.arch = 10 * info.major + info.minor,
                                             .sm_count = info.sm_count,
                                             .shared_max = info.shared_max};
    tuner->l2_bytes = info.l2_bytes;
    tuner->identity.sm_count = info.sm_count;
    tuner->identity.driver = info.driver_version;
    LD_ASSERT(ld_fmt(tuner->identity.device, sizeof tuner->identity.device, "%s", info.name));
    (void)ld_fmt(tuner->identity.build, sizeof tuner->identity.build, "%.32s", LDK_BUILD_ID);
    tuner->idle_identity = tuner->identity; /* whatever libraries there are */
    tuner->idle_identity.idle = true;
    if (tuner->libs) {
        tuner->identity.cublaslt = ldk_libs_info(tuner->libs)->cublaslt;
        tuner->identity.cudnn = ldk_libs_info(tuner->libs)->cudnn;
    }
    if (options->folder && ld_fmt(tuner->folder, sizeof tuner->folder, "%s", options->folder))
        ldk_tune_cache_read(&tuner->cache, tuner->folder, &tuner->identity);
    else
        tuner->folder[0] = '\0';
    if (options->idle && tuner->folder[0])
        ldk_tune_cache_read(&tuner->idle, tuner->folder, &tuner->idle_identity);
    if (tuner->libs && tuner->folder[0])
        keep_plans(tuner);
    return LD_OK;
}

void ldk_tuner_save(struct ldk_tuner *tuner)
{
    struct ld_error err = {0};
    if (tuner->folder[0] &&
        ldk_tune_cache_write(&tuner->cache, tuner->folder, &tuner->identity, &err) != LD_OK)
        ld_log_error(LD_LOG_WARN, "tune", "the tuning file was not written", &err);
}

void ldk_tuner_destroy(struct ldk_tuner *tuner)
{
    if (!tuner)
        return;
    ldk_tuner_save(tuner);
    ldk_tune_cache_deinit(&tuner->cache);
    ldk_tune_cache_deinit(&tuner->idle);
    ldk_libs_close(tuner->libs);
    ld_heap_free(tuner->wanted);
    ld_heap_free(tuner->ways);
    ld_heap_free(tuner);
}

/* ---- Units ----------------------------------------------------------------------------------- */

static uint32_t flag(bool set, uint32_t bit)
{
    return set ? bit : 0;
}

static uint32_t activation_flag(enum ldk_activation activation)
{
    return flag(activation == LDK_ACT_SILU, LDK_TUNE_SILU) |
           flag(activation == LDK_ACT_QUICK_GELU, LDK_TUNE_QUICK_GELU) |
           flag(activation == LDK_ACT_GEGLU, LDK_TUNE_GEGLU);
}

/* What a library may be asked for is part of the shape too: a weight without a 16-bit bias, or an
 * output over its own residual, has other candidates. */
static struct ldk_tune_unit conv_unit(const struct ldk_tuner *tuner, const struct ldk_conv *c,
                                      bool moments)
{
    return (struct ldk_tune_unit){
        .op = LDK_TUNE_CONV,
        .arch = tuner->device.arch,
        .dtype = c->dtype,
        .epilogue = flag(c->row_add != NULL, LDK_TUNE_ROW_ADD) |
                    flag(c->residual != NULL, LDK_TUNE_RESIDUAL) |
                    flag(c->residual && c->residual == c->y, LDK_TUNE_IN_PLACE) |
                    flag(moments, LDK_TUNE_MOMENTS) | flag(c->w.phase != NULL, LDK_TUNE_PHASE) |
                    flag(c->fp16_accumulate, LDK_TUNE_FP16_ACCUMULATE),
        .batch = c->batch,
        .m = c->out_h * c->out_w,
        .n = c->w.rows,
        .k = (c->c0 + c->c1) * c->w.taps,
        .dims = {c->in_h, c->in_w, c->up_h, c->up_w, c->out_w, c->c0, c->c1, c->w.taps, c->stride,
                 c->pad_before, c->row_add_f32}};
}

static struct ldk_tune_unit linear_unit(const struct ldk_tuner *tuner, const struct ldk_linear *l,
                                        bool moments)
{
    return (struct ldk_tune_unit){
        .op = LDK_TUNE_LINEAR,
        .arch = tuner->device.arch,
        .dtype = l->dtype,
        .epilogue = flag(l->residual != NULL, LDK_TUNE_RESIDUAL) |
                    flag(l->residual && l->residual == l->y, LDK_TUNE_IN_PLACE) |
                    flag(moments, LDK_TUNE_MOMENTS) | flag(l->y_f32, LDK_TUNE_F32_OUT) |
                    flag(l->fp16_accumulate, LDK_TUNE_FP16_ACCUMULATE) |
                    activation_flag(l->activation),
        .batch = l->rows / l->rows_per_image,
        .m = l->rows_per_image,
        .n = l->w.rows,
        .k = l->c0 + l->c1,
        .dims = {l->c0, l->c1, l->w.bias16 != NULL, (int32_t)l->w.dtype}};
}

/* The key tells strides, not addresses: an operand that does not start where the fast kernels want
 * it keeps the default. */
static bool is_aligned(const struct ldk_attention *a)
{
    const uintptr_t bases = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->o;
    return bases % 16 == 0;
}

/* As two products of one shape: a query row against every key, then its weights against every
 * value. How many keys count differs from image to image and is no part of it. */
static struct ldk_tune_unit attention_unit(const struct ldk_tuner *tuner,
                                           const struct ldk_attention *a)
{
    return (struct ldk_tune_unit){
        .op = LDK_TUNE_ATTENTION,
        .arch = tuner->device.arch,
        .dtype = a->dtype,
        .epilogue =
            flag(a->causal, LDK_TUNE_CAUSAL) | flag(a->fp16_accumulate, LDK_TUNE_FP16_ACCUMULATE),
        .batch = a->batch,
        .m = a->q_rows,
        .n = a->heads * a->head_dim,
        .k = 2 * a->kv_rows,
        .dims = {a->heads, a->head_dim, a->kv_rows, a->q_stride, a->k_stride, a->v_stride}};
}

/* ---- Choosing -------------------------------------------------------------------------------- */

/* The number of a library's way; -1 when the table is full. */
static int32_t way_number(struct ldk_tuner *tuner, const char *name)
{
    uint32_t i = 0;
    while (i < tuner->way_count && strcmp(tuner->ways[i].name, name) != 0)
        i++;
    if (i == WAYS_MAX || strlen(name) >= LDK_LIBS_NAME_SIZE)
        return -1;
    if (i == tuner->way_count) {
        (void)ld_fmt(tuner->ways[i].name, LDK_LIBS_NAME_SIZE, "%s", name);
        tuner->way_count++;
    }
    return LDK_VARIANT_LIBRARY + (int32_t)i;
}

/* A candidate's number from its name: libraries' names tell all, ours are looked up among the
 * variants of this shape. AUTO if there is none any more. */
static int32_t number_of(struct ldk_tuner *tuner, const char *name,
                         const struct ldk_tune_candidate *candidates, uint32_t count)
{
    if (strncmp(name, "own:", 4) != 0) {
        const int32_t number = tuner->libs ? way_number(tuner, name) : -1;
        return number >= 0 && !tuner->failed[number - LDK_VARIANT_LIBRARY] ? number
                                                                           : LDK_VARIANT_AUTO;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(candidates[i].name, name) == 0)
            return candidates[i].number;
    }
    return LDK_VARIANT_AUTO;
}

/*
 * What the caller has launched ends first: it would be timed too, and it may still use what the
 * measurement takes for itself (the libraries' scratch memory) or wait for (the weights' upload).
 */
static enum ld_code measure(struct ldk_tuner *tuner, struct ldk_work *work,
                            struct ldk_tune_choice *measured, struct ld_error *err)
{
    const struct ldk_tune_bench bench = ldk_work_bench(work);
    if (ldk_rt_stream_synchronize(tuner->options.stream) != LDK_OK)
        return LD_FAIL(err, LD_E_DEVICE, "the device failed before the measurement");
    const enum ld_code code = ldk_tune(&tuner->cache, &work->unit, &tuner->device, &bench,
                                       !tuner->options.any_bits, measured, err);
    ldk_work_deinit(work);
    ldk_tuner_save(
        tuner); /* a network takes a minute or two: who is interrupted goes on from here */
    return code;
}

/* Once a shape; what finds no room runs again another day. */
static void want(struct ldk_tuner *tuner, const struct ldk_work *work)
{
    for (uint32_t i = 0; i < tuner->wanted_count; i++)
        if (memcmp(&tuner->wanted[i].unit, &work->unit, sizeof work->unit) == 0)
            return;
    if (tuner->wanted_count < WANTED_MAX)
        tuner->wanted[tuner->wanted_count++] = *work;
}

/* What an idle time has decided for `work`, as long as it has the default's bits; NULL: nothing, or
 * the default. */
static const struct ldk_tune_choice *idle_choice(struct ldk_tuner *tuner,
                                                 const struct ldk_work *work, bool may_want)
{
    char key[LDK_TUNE_KEY_SIZE];
    const uint32_t signature = ldk_work_default_signature(work);
    if (signature == 0)
        return NULL;
    ldk_tune_key(&work->unit, true, key);
    const struct ldk_tune_choice *choice = ldk_tune_cache_choice(&tuner->idle, key);
    if (!choice && may_want)
        want(tuner, work);
    return choice && choice->signature == signature && strcmp(choice->candidate, default_name) != 0
               ? choice
               : NULL;
}

/* The choice for `work`, measured first where that is allowed and nothing is known. */
static int32_t choose(struct ldk_tuner *tuner, struct ldk_work *work, bool may_measure)
{
    struct ldk_tune_candidate own[LDK_TUNE_CANDIDATES_MAX];
    struct ldk_tune_choice measured;
    struct ld_error err = {0};
    const bool deterministic = !tuner->options.any_bits;
    tuner->found = false;
    work->libs = tuner->libs;
    work->l2_bytes = tuner->l2_bytes;
    const struct ldk_tune_choice *choice =
        ldk_tune_lookup(&tuner->cache, &work->unit, deterministic);
    if (!choice && may_measure && tuner->options.measure) {
        const enum ld_code code = measure(tuner, work, &measured, &err);
        if (code == LD_OK)
            choice = &measured;
        else
            ld_log_error(LD_LOG_INFO, "tune", "the default is used", &err);
    }
    if (!choice)
        choice = ldk_tune_fallback(&tuner->cache, &work->unit, deterministic);
    if (!choice && tuner->wanted)
        choice = idle_choice(tuner, work, may_measure);
    if (!choice)
        return LDK_VARIANT_AUTO;
    tuner->latest = *choice;
    tuner->found = true;
    const uint32_t count = ldk_work_own_candidates(work, own, LDK_TUNE_CANDIDATES_MAX);
    return number_of(tuner, choice->candidate, own, count);
}

void ldk_tuner_conv(struct ldk_tuner *tuner, struct ldk_conv *conv, bool moments, bool may_measure)
{
    if (!tuner)
        return;
    struct ldk_work work = {.unit = conv_unit(tuner, conv, moments), .conv = *conv};
    conv->variant = choose(tuner, &work, may_measure);
}

void ldk_tuner_linear(struct ldk_tuner *tuner, struct ldk_linear *linear, bool moments,
                      bool may_measure)
{
    if (!tuner)
        return;
    struct ldk_work work = {.unit = linear_unit(tuner, linear, moments), .linear = *linear};
    linear->variant = choose(tuner, &work, may_measure);
}

void ldk_tuner_attention(struct ldk_tuner *tuner, struct ldk_attention *attention, bool may_measure)
{
    if (!tuner)
        return;
    tuner->found = false;
    if (!is_aligned(attention))
        return;
    struct ldk_work work = {.unit = attention_unit(tuner, attention), .attention = *attention};
    /* Measured without gaps between output rows: there are none in the networks. */
    work.attention.o_stride = attention->heads * attention->head_dim;
    attention->variant = choose(tuner, &work, may_measure);
}

const struct ldk_tune_choice *ldk_tuner_conv_choice(const struct ldk_tuner *tuner,
                                                    const struct ldk_conv *conv, bool moments)
{
    if (!tuner)
        return NULL;
    const struct ldk_tune_unit unit = conv_unit(tuner, conv, moments);
    return ldk_tune_lookup(&tuner->cache, &unit, !tuner->options.any_bits);
}

const struct ldk_tune_choice *ldk_tuner_linear_choice(const struct ldk_tuner *tuner,
                                                      const struct ldk_linear *linear, bool moments)
{
    if (!tuner)
        return NULL;
    const struct ldk_tune_unit unit = linear_unit(tuner, linear, moments);
    return ldk_tune_lookup(&tuner->cache, &unit, !tuner->options.any_bits);
}

const struct ldk_tune_choice *ldk_tuner_attention_choice(const struct ldk_tuner *tuner,
                                                         const struct ldk_attention *attention)
{
    if (!tuner || !is_aligned(attention))
        return NULL;
    const struct ldk_tune_unit unit = attention_unit(tuner, attention);
    return ldk_tune_lookup(&tuner->cache, &unit, !tuner->options.any_bits);
}

const struct ldk_tune_choice *ldk_tuner_latest(const struct ldk_tuner *tuner)
{
    return tuner && tuner->found ? &tuner->latest : NULL;
}

uint64_t ldk_tuner_lost(const struct ldk_tuner *tuner)
{
    if (!tuner)
        return 0;
    return tuner->renewed + (tuner->libs ? ldk_libs_plans_lost(tuner->libs) : 0);
}

size_t ldk_tuner_library_bytes(const struct ldk_tuner *tuner)
{
    if (!tuner || !tuner->libs)
        return 0;
    const struct ldk_libs_info *info = ldk_libs_info(tuner->libs);
    const bool there = info->cublaslt || info->cudnn;
    const bool wanted = tuner->options.measure || ldk_tune_cache_names_library(&tuner->cache);
    return there && wanted ? ldk_libs_scratch_bytes() : 0;
}

/* ---- Idle times ------------------------------------------------------------------------------ */

/* Beside what others have written meanwhile: the tuner of another type in this process, another
 * process. */
static enum ld_code write_idle(const struct ldk_tuner *tuner, struct ld_error *err)
{
    struct ldk_tune_cache whole = {0};
    enum ld_code code = LD_OK;
    ldk_tune_cache_read(&whole, tuner->folder, &tuner->idle_identity);
    for (uint32_t i = 0; code == LD_OK && i < tuner->idle.entry_count; i++) {
        const struct ldk_tune_entry *entry = &tuner->idle.entries[i];
        code = ldk_tune_cache_put_choice(&whole, entry->key, &entry->choice, err);
    }
    if (code == LD_OK)
        code = ldk_tune_cache_write(&whole, tuner->folder, &tuner->idle_identity, err);
    ldk_tune_cache_deinit(&whole);
    return code;
}

static void keep_idle(struct ldk_tuner *tuner, const char *key,
                      const struct ldk_tune_choice *choice)
{
    struct ld_error err = {0};
    enum ld_code code = ldk_tune_cache_put_choice(&tuner->idle, key, choice, &err);
    if (code == LD_OK && tuner->folder[0] && !tuner->idle_unsaved) {
        code = write_idle(tuner, &err);
        tuner->idle_unsaved = code != LD_OK;
    }
    if (code != LD_OK)
        ld_log_error(LD_LOG_WARN, "tune", "what an idle time decided is lost with this process",
                     &err);
}

/* `work` is ours: the oldest of those that wait. */
static void measure_idle(struct ldk_tuner *tuner, struct ldk_work *work)
{
    char key[LDK_TUNE_KEY_SIZE];
    struct ldk_tune_candidate own[LDK_TUNE_CANDIDATES_MAX];
    const uint32_t signature = ldk_work_default_signature(work);
    struct ldk_tune_choice choice = {.signature = signature};
    const struct ldk_tune_bench bench = ldk_work_bench(work);
    ldk_tune_key(&work->unit, true, key);
    (void)ld_fmt(choice.candidate, sizeof choice.candidate, "%s", default_name);
    keep_idle(tuner, key, &choice);
    work->libs = NULL; /* none of theirs has the default's bits */
    work->same_bits = true;
    if (ldk_rt_stream_synchronize(tuner->options.stream) == LDK_OK &&
        ldk_work_own_weight(work) == LDK_OK &&
        ldk_tune_decide(&work->unit, &tuner->device, &bench, signature, true, &choice)) {
        keep_idle(tuner, key, &choice);
        const uint32_t count = ldk_work_own_candidates(work, own, LDK_TUNE_CANDIDATES_MAX);
        tuner->renewed +=
            number_of(tuner, choice.candidate, own, count) != ldk_work_default_number(work);
    }
    ldk_work_deinit(work);
    (void)ldk_rt_last_error();
}

bool ldk_tuner_waits(const struct ldk_tuner *tuner)
{
    return tuner && tuner->wanted_count > 0;
}

bool ldk_tuner_idle(struct ldk_tuner *tuner)
{
    if (!ldk_tuner_waits(tuner))
        return false;
    struct ldk_work work = tuner->wanted[0];
    tuner->wanted_count--;
    memmove(tuner->wanted, tuner->wanted + 1, tuner->wanted_count * sizeof *tuner->wanted);
    measure_idle(tuner, &work);
    return tuner->wanted_count > 0;
}

/* ---- Running --------------------------------------------------------------------------------- */

static const struct ldk_libs_way *way_of(const struct ldk_tuner *tuner, int32_t variant)
{
    const int32_t place = variant - LDK_VARIANT_LIBRARY;
    return tuner && place >= 0 && (uint32_t)place < tuner->way_count ? &tuner->ways[place] : NULL;
}

/* What was right when it was measured need not run today: memory, another batch. */
static int note_failure(struct ldk_tuner *tuner, int32_t variant, int code)
{
    if (code != LDK_E_UNSUPPORTED)
        return code;
    const int32_t place = variant - LDK_VARIANT_LIBRARY;
    tuner->failed[place] = true;
    LD_LOG(LD_LOG_WARN, "tune", "a library's way failed and is not used any more",
           ld_log_text("way", tuner->ways[place].name));
    return code;
}

int ldk_tuned_conv2d(struct ldk_tuner *tuner, const struct ldk_conv *conv, ldk_stream stream)
{
    if (conv->variant < LDK_VARIANT_LIBRARY)
        return ldk_conv2d(conv, stream);
    const struct ldk_libs_way *way = way_of(tuner, conv->variant);
    return way ? note_failure(tuner, conv->variant, ldk_libs_conv(tuner->libs, way, conv, stream))
               : LDK_E_INVALID;
}

int ldk_tuned_linear(struct ldk_tuner *tuner, const struct ldk_linear *linear, ldk_stream stream)
{
    if (linear->variant < LDK_VARIANT_LIBRARY)
        return ldk_linear(linear, stream);
    const struct ldk_libs_way *way = way_of(tuner, linear->variant);
    return way ? note_failure(tuner, linear->variant,
                              ldk_libs_linear(tuner->libs, way, linear, stream))
               : LDK_E_INVALID;
}
