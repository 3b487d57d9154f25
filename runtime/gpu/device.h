/*
 * What computes: finds out whether there is a GPU that the CUDA backend can use, says in one
 * sentence what is missing if there is none, and opens the backend that was asked for.
 *
 *     struct ld_device_choice choice = {.backend = "auto", .precision = "fp16"};
 *     if (ld_device_open(&backend, &choice, note, sizeof note, &err) != LD_OK) ...
 *     if (note[0]) ...      // auto took the CPU, and why
 */
#ifndef LD_GPU_DEVICE_H
#define LD_GPU_DEVICE_H

#include "kernels/ops.h"

enum { LD_DEVICE_NOTE_SIZE = 256, LD_DEVICE_NAME_SIZE = 96 };

/* ---- What there is --------------------------------------------------------------------------- */

/* As the CUDA runtime tells it. */
struct ld_device_facts {
    bool built;                              /* this program has the CUDA backend */
    int32_t driver_version, runtime_version; /* 13000 = CUDA 13.0; driver 0: none installed */
    int32_t error;                           /* of asking for devices; 0: none */
    int32_t count;                           /* devices */
    int32_t capable;                         /* of these, new enough for this program */
    int32_t device;                          /* the rest is about this one */
    char name[LD_DEVICE_NAME_SIZE];
    int32_t major, minor; /* compute capability */
    bool no_kernels;      /* this program has none that the chip can run */
    bool resident;        /* what was asked for: weights have to fit on the device */
    size_t memory_total, memory_free;
    int32_t sm_count, clock_khz; /* multiprocessors, their highest clock */
};

/*
 * Facts about a device that is fit, or about one that is not if none is. Of several that are new
 * enough, number `turn` is asked first (counted around), then those behind it: processes of
 * different turns share the devices out. `resident`: weights will not be streamed, so they have to
 * fit. Loads the driver; makes a context on each device that it asks for its memory, as few as
 * possible; never fails.
 */
void ld_device_look(struct ld_device_facts *facts, bool resident, uint32_t turn);

/*
 * Whether the CUDA backend can run with these facts. Pure.
 * Errors   LD_E_UNSUPPORTED (not built; no driver, too old a driver, no device, too old a device,
 *          built for other chips),
 *          LD_E_GPU_NOMEM, LD_E_DEVICE (the driver fails in another way); the sentence names what
 *          is needed.
 */
enum ld_code ld_device_judge(const struct ld_device_facts *facts, struct ld_error *err) LD_MUST_USE;

/* ---- Opening --------------------------------------------------------------------------------- */

struct ld_device_choice {
    const char *backend;   /* "auto", "cpu", "cuda"; NULL or "" is auto */
    const char *precision; /* "fp16", "bf16", of the CUDA backend; NULL or "" is fp16 */
    bool fp16_accumulate;  /* CUDA, fp16: sums in fp16 first (docs/numerics.md) */
    uint32_t threads;      /* 0: one per core */
    uint32_t turn;         /* which of several devices: ld_device_look */
    /* "auto", "on", "off": whether weights are streamed, which lowers what a device has to have;
     * NULL or "" is auto. Which ones are is for those who make models (ld_model_stream). */
    const char *stream_weights;
    bool tune;      /* measure kernels that nothing is known of yet; see below */
    bool tune_idle; /* ... when ld_ops.idle is called; needs no folder to write to */
    bool profile;   /* CUDA: no recordings, so that a profiler sees every operator, by name */
};

/*
 * Where the CUDA backend's tuner keeps what it measured: $LATENTD_TUNING, else
 * $XDG_CACHE_HOME/latentd, else ~/.cache/latentd; "" if none of them is set. Without `tune` its
 * decisions are only read, so a worker needs no right to write there.
 */
void ld_device_tuning_folder(char *out, size_t size);

/*
 * auto: CUDA if a fit device is there, else the CPU; then `note` (LD_DEVICE_NOTE_SIZE bytes, may be
 * NULL) says why, otherwise it is "".
 * Errors   those of ld_device_judge with "cuda", LD_E_INVALID (a word that is none of these), those
 *          of creating the backend.
 */
enum ld_code ld_device_open(struct ld_backend **out, const struct ld_device_choice *choice,
                            char *note, struct ld_error *err) LD_MUST_USE;

/*
 * What the tuner of a CUDA backend knew of the latest convolution, linear layer or attention that
 * was walked: names of kernels and their times when they were measured. For reports.
 */
struct ld_device_kernel {
    char chosen[LD_DEVICE_NAME_SIZE], runner_up[LD_DEVICE_NAME_SIZE]; /* "": there was no other */
    double ms, runner_up_ms;
};
/* False: the default was taken, or this backend has no tuner. */
bool ld_device_latest_kernel(const struct ld_backend *backend, struct ld_device_kernel *out);

/* A table of which only `workspace_bytes` may be called: to price plans without a device. NULL in a
 * build without CUDA. */
const struct ld_ops *ld_device_plan_ops(void);
/* Scratch of cuBLASLt and cuDNN in this build, on a device where a choice of the tuner is theirs.
 */
size_t ld_device_plan_library_bytes(void);

#endif
