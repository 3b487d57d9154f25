#include "tests/unit/network_fixture.h"

#include "runtime/base/buffer.h"
#include "runtime/model/arch.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/tools/demo_weights.h"
#include "tests/tools/genweights.h"

#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static enum ld_code write_demo(int fd, uint32_t parts, int32_t in_channels, struct ld_error *err)
{
    struct ld_arch arch;
    struct ld_keymap *map = NULL;
    struct ld_pool *pool = NULL;
    struct ld_buffer metadata = ld_buffer_make(4096);
    ld_buffer_text(&metadata, "{\"latentd.test_config\":");
    ld_buffer_json_string(&metadata, LD_DEMO_CONFIG);
    ld_buffer_text(&metadata, "}");
    ld_arch_set_sd15(&arch);
    enum ld_code code = ld_arch_set_test_config(&arch, LD_DEMO_CONFIG, err);
    arch.text_vocabulary = FIXTURE_VOCABULARY;
    arch.unet_in_channels = in_channels;
    if (code == LD_OK)
        code = ld_keymap_create(&map, &arch, err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, 1, err);
    if (code == LD_OK)
        code = ld_checkpoint_write(fd, map, parts, metadata.data, ld_demo_weights_fill, NULL, pool,
                                   err);
    ld_pool_destroy(pool);
    ld_keymap_destroy(map);
    ld_buffer_deinit(&metadata);
    return code;
}

void network_fixture_open(struct network_fixture *fixture, uint32_t threads, uint32_t parts)
{
    network_fixture_open_extra(fixture, threads, parts, LD_LATENT_CHANNELS);
}

void network_fixture_open_extra(struct network_fixture *fixture, uint32_t threads, uint32_t parts,
                                int32_t in_channels)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    const enum ld_code code = ld_cpu_backend_create(&backend, threads, LD_CPU_AUTO, &err);
    LD_ASSERT(code == LD_OK);
    network_fixture_open_on(fixture, backend, parts, in_channels);
}

void network_fixture_open_on(struct network_fixture *fixture, struct ld_backend *backend,
                             uint32_t parts, int32_t in_channels)
{
    struct ld_error err = {0};
    char path[64];
    const int fd = memfd_create("fixture", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fixture->backend = backend;
    enum ld_code code = write_demo(fd, parts, in_channels, &err);
    if (code == LD_OK)
        code = ld_model_open(&fixture->model, fixture->backend, path, NULL, &err);
    if (code != LD_OK)
        fprintf(stderr, "fixture: %s\n", err.detail);
    LD_ASSERT(code == LD_OK);
    close(fd);
}

/* Norms as they begin, everything else normal with a variance that keeps maps as large as they
 * were. */
static void fill_control(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                         uint16_t *out)
{
    const uint64_t name = ld_genweights_hash(key->name) ^ *(const uint64_t *)ctx;
    double fan_in = 1;
    for (int32_t i = 1; i < key->rank; i++)
        fan_in *= (double)key->shape[i];
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (uint64_t k = 0; k < 3; k++)
            sum += ld_genweights_uniform(name, 3 * (first + i) + k);
        const double value = key->kind == LD_KEY_NORM   ? 1 + 0.1 * sum
                             : key->kind == LD_KEY_BIAS ? 0.1 * sum
                                                        : sum / sqrt(fan_in);
        out[i] = ld_genweights_f16(value);
    }
}

struct ld_model *network_fixture_control(const struct network_fixture *fixture, uint64_t seed)
{
    const struct ld_weights_options options = {.control = true, .prediction = -1};
    struct ld_arch arch;
    struct ld_error err = {0};
    struct ld_keymap *map = NULL;
    struct ld_pool *pool = NULL;
    struct ld_model *model = NULL;
    struct ld_buffer metadata = ld_buffer_make(4096);
    char path[64];
    const int fd = memfd_create("control", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ld_buffer_text(&metadata, "{\"latentd.test_config\":");
    ld_buffer_json_string(&metadata, LD_DEMO_CONFIG);
    ld_buffer_text(&metadata, "}");
    ld_arch_set_sd15(&arch);
    enum ld_code code = ld_arch_set_test_config(&arch, LD_DEMO_CONFIG, &err);
    arch.has_control = true;
    if (code == LD_OK)
        code = ld_keymap_create(&map, &arch, &err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, 1, &err);
    if (code == LD_OK)
        code = ld_checkpoint_write(fd, map, LD_PART_BIT(LD_PART_CONTROL), metadata.data,
                                   fill_control, &seed, pool, &err);
    if (code == LD_OK)
        code = ld_model_open(&model, fixture->backend, path, &options, &err);
    if (code != LD_OK)
        fprintf(stderr, "fixture: %s\n", err.detail);
    LD_ASSERT(code == LD_OK);
    close(fd);
    ld_pool_destroy(pool);
    ld_keymap_destroy(map);
    ld_buffer_deinit(&metadata);
    return model;
}

void network_fixture_close(struct network_fixture *fixture)
{
    ld_model_destroy(fixture->model);
    fixture->backend->ops->destroy(fixture->backend);
}
