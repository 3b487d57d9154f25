/* A small model for the tests of the networks: the demonstration checkpoint in a memory file. */
#ifndef LD_TESTS_NETWORK_FIXTURE_H
#define LD_TESTS_NETWORK_FIXTURE_H

#include "runtime/model/model.h"
#include "tests/tools/network_values.h"

enum { FIXTURE_TOKENS_MAX = 231, FIXTURE_WIDTH = 64, FIXTURE_VOCABULARY = 600 };

struct network_fixture {
    struct ld_backend *backend;
    struct ld_model *model;
};

/* `parts`: mask of LD_PART_BIT. Aborts the test on failure. */
void network_fixture_open(struct network_fixture *fixture, uint32_t threads, uint32_t parts);
/* The same with a UNet of 9 input channels (inpainting) or 8 (instruct-pix2pix). */
void network_fixture_open_extra(struct network_fixture *fixture, uint32_t threads, uint32_t parts,
                                int32_t in_channels);
/* The same on a backend of the caller's, which the fixture takes. */
void network_fixture_open_on(struct network_fixture *fixture, struct ld_backend *backend,
                             uint32_t parts, int32_t in_channels);
/* A ControlNet for that model, of random weights that `seed` names; ld_model_destroy it first. */
struct ld_model *network_fixture_control(const struct network_fixture *fixture, uint64_t seed);
void network_fixture_close(struct network_fixture *fixture);

#endif
