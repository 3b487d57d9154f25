/* The files behind a set of weights: one checkpoint, or the parts of a diffusers folder. */
#ifndef LD_MODEL_WEIGHTS_FILES_H
#define LD_MODEL_WEIGHTS_FILES_H

#include "runtime/model/safetensors.h"

enum { LD_WEIGHT_FILES_MAX = 64 };

/* Caller's storage; zeroed is empty. */
struct ld_weight_files {
    struct ld_safetensors *files[LD_WEIGHT_FILES_MAX]; /* in the order of their names */
    uint32_t count;
    /* From scheduler/scheduler_config.json; zero where it says nothing. */
    bool v_prediction;
    bool zero_terminal_snr;
    double beta_start, beta_end;
};

/*
 * Open the file or folder at `path`.
 * Owner    fills `out`; ld_weight_files_close on success and on failure.
 * Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_FORMAT, LD_E_TOO_LARGE, LD_E_NOMEM, LD_E_UNSUPPORTED (the
 *          file is something else; the sentence says what).
 */
enum ld_code ld_weight_files_open(struct ld_weight_files *out, const char *path,
                                  struct ld_error *err) LD_MUST_USE;
void ld_weight_files_close(struct ld_weight_files *files);

#endif
