#include "runtime/gpu/device.h"

#include "runtime/base/bytes.h"
#include "runtime/base/cache_folder.h"

#include <stdlib.h>
#include <string.h>

#ifdef LATENTD_WITH_CUDA
#include "kernels/cuda/backend.h"
#include "kernels/cuda/libs.h"
#include "kernels/cuda/rt.h"
#include "kernels/cuda/tuned.h"
#endif

/* ---- What is needed -------------------------------------------------------------------------- */

enum {
    CAPABILITY_MAJOR_MIN = 8, /* mma.sync with bf16, cp.async: Ampere */
    DRIVER_MIN = 580,         /* the first with CUDA 13.0 */
    /* SD1.5 in 16 bits takes 2041 MiB of weights; a 512x512 step and its decoding fit in the rest.
     */
    MEMORY_MIB_MIN = 2560,
    /* Streamed, it passes through a ring of 157 MiB; a step and its decoding in strips take 30 MiB,
     * what is staged and recorded 70 MiB. */
    MEMORY_MIB_STREAMED_MIN = 512,
    DEVICES_MAX = 64, /* of one machine that are looked at */
    FOLDER_SIZE = 1024
};

static unsigned mebibytes(size_t bytes)
{
    return (unsigned)(bytes >> 20);
}

enum ld_code ld_device_judge(const struct ld_device_facts *facts, struct ld_error *err)
{
    if (!facts->built)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "this build has no CUDA backend; build with LATENTD_CUDA=ON where nvcc is "
                       "installed, or use --backend cpu");
    if (facts->driver_version == 0)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "no NVIDIA driver was found; driver %d or newer is needed", DRIVER_MIN);
    if (facts->driver_version / 1000 < facts->runtime_version / 1000)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the NVIDIA driver supports CUDA %d.%d, CUDA %d.0 is needed; driver %d or "
                       "newer brings it",
                       (int)facts->driver_version / 1000, (int)facts->driver_version % 1000 / 10,
                       (int)facts->runtime_version / 1000, DRIVER_MIN);
    if (facts->count == 0)
        return LD_FAIL_OS(err, LD_E_UNSUPPORTED, facts->error,
                          "the NVIDIA driver shows no GPU; one of compute capability %d.0 or newer "
                          "is needed",
                          CAPABILITY_MAJOR_MIN);
    if (facts->major == 0)
        return LD_FAIL_OS(err, LD_E_DEVICE, facts->error,
                          "the GPU does not answer; it may need a reset or a new driver");
    if (facts->major < CAPABILITY_MAJOR_MIN)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the GPU (%s) has compute capability %d.%d; %d.0 or newer is needed",
                       facts->name, (int)facts->major, (int)facts->minor, CAPABILITY_MAJOR_MIN);
    if (facts->no_kernels)
        return LD_FAIL_OS(err, LD_E_UNSUPPORTED, facts->error,
                          "this build has no kernels for the GPU (%s) of compute capability %d.%d; "
                          "build with -DLATENTD_CUDA_ARCHS=%d%d",
                          facts->name, (int)facts->major, (int)facts->minor, (int)facts->major,
                          (int)facts->minor);
    const unsigned least = facts->resident ? MEMORY_MIB_MIN : MEMORY_MIB_STREAMED_MIN;
    if (mebibytes(facts->memory_free) < least)
        return LD_FAIL(err, LD_E_GPU_NOMEM,
                       "the GPU (%s) has %u of %u MiB of memory free; %u MiB are needed%s",
                       facts->name, mebibytes(facts->memory_free), mebibytes(facts->memory_total),
                       least, facts->resident ? ", fewer where weights may be streamed" : "");
    return LD_OK;
}

/* ---- What there is --------------------------------------------------------------------------- */

#ifdef LATENTD_WITH_CUDA

static void look_at(struct ld_device_facts *facts, int32_t device)
{
    struct ldk_device_info info;
    facts->device = device;
    facts->major = facts->minor = 0;
    facts->no_kernels = false;
    facts->error = ldk_rt_device_info(device, &info);
    if (facts->error != 0)
        return;
    (void)ld_fmt(facts->name, sizeof facts->name, "%s", info.name);
    facts->major = info.major;
    facts->minor = info.minor;
    facts->memory_total = info.memory_total;
    facts->memory_free = info.memory_free;
    facts->sm_count = info.sm_count;
    facts->clock_khz = info.clock_khz;
    if (facts->major >= CAPABILITY_MAJOR_MIN) {
        facts->error = ldk_rt_kernels_load();
        facts->no_kernels = facts->error != LDK_OK;
        (void)ldk_rt_last_error();
    }
}

/* Numbers of the devices that are new enough. */
static void list_capable(struct ld_device_facts *facts, int32_t list[DEVICES_MAX])
{
    for (int32_t device = 0; device < facts->count && facts->capable < DEVICES_MAX; device++) {
        int32_t major;
        int32_t minor;
        if (ldk_rt_device_capability(device, &major, &minor) == LDK_OK &&
            major >= CAPABILITY_MAJOR_MIN)
            list[facts->capable++] = device;
    }
}

void ld_device_look(struct ld_device_facts *facts, bool resident, uint32_t turn)
{
    int32_t list[DEVICES_MAX];
    memset(facts, 0, sizeof *facts);
    facts->built = true;
    facts->resident = resident;
    if (ldk_rt_versions(&facts->driver_version, &facts->runtime_version) != 0)
        facts->driver_version = 0;
    if (facts->driver_version == 0)
        return;
    facts->error = ldk_rt_device_count(&facts->count);
    if (facts->error != 0)
        facts->count = 0;
    list_capable(facts, list);
    const uint32_t capable = (uint32_t)facts->capable;
    for (uint32_t i = 0; i < capable; i++) {
        struct ld_error ignored = {0};
        look_at(facts, list[(turn + i) % capable]);
        if (ld_device_judge(facts, &ignored) == LD_OK)
            return;
    }
    if (capable > 0)
        look_at(facts, list[turn % capable]);
    else if (facts->count > 0)
        look_at(facts, 0);
}

static enum ld_code open_cuda(struct ld_backend **out, const struct ld_device_facts *facts,
                              enum ld_dtype dtype, const struct ld_device_choice *choice,
                              struct ld_error *err)
{
    char folder[FOLDER_SIZE];
    ld_device_tuning_folder(folder, sizeof folder);
    const struct ld_cuda_options options = {.device = facts->device,
                                            .dtype = dtype,
                                            .threads = choice->threads,
                                            .fp16_accumulate = choice->fp16_accumulate,
                                            .tuning_folder = folder,
                                            .tune = choice->tune,
                                            .tune_idle = choice->tune_idle,
                                            .no_recording = choice->profile};
    return ld_cuda_backend_create(out, &options, err);
}

bool ld_device_latest_kernel(const struct ld_backend *backend, struct ld_device_kernel *out)
{
    const struct ldk_tune_choice *choice =
        strcmp(backend->name, "cuda") == 0 ? ldk_tuner_latest(ld_cuda_tuner(backend)) : NULL;
    memset(out, 0, sizeof *out);
    if (!choice)
        return false;
    out->ms = choice->ms;
    out->runner_up_ms = choice->runner_up_ms;
    return ld_fmt(out->chosen, sizeof out->chosen, "%s", choice->candidate) &&
           ld_fmt(out->runner_up, sizeof out->runner_up, "%s", choice->runner_up);
}

const struct ld_ops *ld_device_plan_ops(void)
{
    static const struct ld_ops ops = {.workspace_bytes = ld_cuda_workspace_bytes};
    return &ops;
}

size_t ld_device_plan_library_bytes(void)
{
    return ldk_libs_scratch_bytes();
}

#else

void ld_device_look(struct ld_device_facts *facts, bool resident, uint32_t turn)
{
    (void)turn;
    memset(facts, 0, sizeof *facts);
    facts->resident = resident;
}

static enum ld_code open_cuda(struct ld_backend **out, const struct ld_device_facts *facts,
                              enum ld_dtype dtype, const struct ld_device_choice *choice,
                              struct ld_error *err)
{
    (void)out;
    (void)dtype;
    (void)choice;
    return ld_device_judge(facts, err);
}

bool ld_device_latest_kernel(const struct ld_backend *backend, struct ld_device_kernel *out)
{
    (void)backend;
    memset(out, 0, sizeof *out);
    return false;
}

const struct ld_ops *ld_device_plan_ops(void)
{
    return NULL;
}

size_t ld_device_plan_library_bytes(void)
{
    return 0;
}

#endif

void ld_device_tuning_folder(char *out, size_t size)
{
    const char *own = getenv("LATENTD_TUNING");
    if (!own || own[0] != '/')
        ld_cache_folder(out, size);
    else if (!ld_fmt(out, size, "%s", own))
        out[0] = '\0';
}

/* ---- Opening --------------------------------------------------------------------------------- */

static bool word_is(const char *word, const char *by_default, const char *wanted)
{
    return strcmp(word && word[0] ? word : by_default, wanted) == 0;
}

enum ld_code ld_device_open(struct ld_backend **out, const struct ld_device_choice *choice,
                            char *note, struct ld_error *err)
{
    struct ld_device_facts facts;
    struct ld_error why = {0};
    *out = NULL;
    if (note)
        note[0] = '\0';
    const bool automatic = word_is(choice->backend, "auto", "auto");
    const bool cpu = word_is(choice->backend, "auto", "cpu");
    const bool bf16 = word_is(choice->precision, "fp16", "bf16");
    if (!automatic && !cpu && !word_is(choice->backend, "auto", "cuda"))
        return LD_FAIL(err, LD_E_INVALID, "backend must be auto, cpu or cuda");
    const bool resident = word_is(choice->stream_weights, "auto", "off");
    if (!resident && !word_is(choice->stream_weights, "auto", "auto") &&
        !word_is(choice->stream_weights, "auto", "on"))
        return LD_FAIL(err, LD_E_INVALID, "stream_weights must be auto, on or off");
    if (!bf16 && !word_is(choice->precision, "fp16", "fp16"))
        return LD_FAIL(err, LD_E_INVALID, "precision must be fp16 or bf16");
    if (!cpu) {
        ld_device_look(&facts, resident, choice->turn);
        enum ld_code code = ld_device_judge(&facts, &why);
        if (code == LD_OK)
            code = open_cuda(out, &facts, bf16 ? LD_DTYPE_BF16 : LD_DTYPE_F16, choice, &why);
        if (code == LD_OK)
            return LD_OK;
        if (!automatic) {
            if (err)
                *err = why;
            return code;
        }
        /* A build without CUDA has nothing to explain. */
        if (note && facts.built)
            (void)ld_fmt(note, LD_DEVICE_NOTE_SIZE, "%s", why.detail);
    }
    return ld_cpu_backend_create(out, choice->threads, LD_CPU_AUTO, err);
}
