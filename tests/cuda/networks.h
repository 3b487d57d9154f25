/*
 * Whole networks of one checkpoint over the host build of the CUDA kernels beside the CPU backend,
 * for tests that compare the two: opening, inputs and distances, and a line a claim.
 */
#ifndef LD_TESTS_CUDA_NETWORKS_H
#define LD_TESTS_CUDA_NETWORKS_H

#include "runtime/gpu/device.h"
#include "runtime/model/model.h"
#include "tests/tools/network_values.h"

struct network {
    struct ld_backend *backend;
    struct ld_model *model;
};

/* `backend` "cuda" or "cpu", `precision` "fp16", "bf16" or "". Ends the program where that fails;
 * Owner   the caller; network_close. */
void network_open(struct network *on, const char *path, const char *backend, const char *precision);
/* The same on "cuda" in fp16, the weights streamed. */
void network_open_streamed(struct network *on, const char *path);
void network_close(struct network *on);

/* Say what failed, and end the program. */
void network_stop(const char *what, const struct ld_error *err);

/* One line a claim; network_end prints the sums and gives the exit status. */
void network_report(const char *about, const char *claim, bool holds, double figure);
int network_end(void);

#endif
