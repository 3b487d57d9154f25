#include "tests/unit/network_fixture.h"

#include "runtime/base/buffer.h"
#include "runtime/model/arch.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/tools/demo_weights.h"

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

void network_fixture_close(struct network_fixture *fixture)
{
    ld_model_destroy(fixture->model);
    fixture->backend->ops->destroy(fixture->backend);
}
