/*
 * make_golden_model FOLDER     writes FOLDER/tiny.safetensors
 *
 * The checkpoint that the golden cases of adapters and of the three networks run on. It follows
 * from a rule (tests/golden/README.md, "The tiny model"), so the tree need not carry its 5.6 MB:
 * generated values, and those of matrices rounded further to F8_E4M3. The file stores float16,
 * which holds every E4M3 value exactly.
 */
#include "kernels/tensor.h"
#include "runtime/base/buffer.h"
#include "runtime/model/arch.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/tools/genweights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, METADATA_BYTES_MAX = 1 << 12 };

/* The widths of the golden data's own tiny checkpoint. */
static const char TINY_CONFIG[] =
    "{\"unet\":{\"model_channels\":32,\"channel_mult\":[1,1,2,2],\"num_heads\":2,"
    "\"context_dim\":32},\"vae\":{\"ch\":32,\"ch_mult\":[1,1,2,2]},"
    "\"clip\":{\"layers\":4,\"heads\":2,\"width\":32,\"intermediate\":128}}";

static void fill(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                 uint16_t *out)
{
    ld_genweights_fill(ctx, key, first, count, out);
    if (key->rank < 2)
        return;
    for (size_t i = 0; i < count; i++) {
        uint8_t code;
        float value = ld_f16_to_f32(out[i]);
        ld_dtype_from_f32(&code, &value, LD_DTYPE_F8_E4M3, 1);
        ld_dtype_to_f32(&value, &code, LD_DTYPE_F8_E4M3, 1);
        out[i] = ld_f16_from_f32(value);
    }
}

static enum ld_code write_model(int fd, struct ld_error *err)
{
    struct ld_arch arch;
    struct ld_keymap *map = NULL;
    struct ld_pool *pool = NULL;
    struct ld_buffer metadata = ld_buffer_make(METADATA_BYTES_MAX);
    ld_buffer_text(&metadata, "{\"format\":\"pt\",\"" LD_TEST_CONFIG_KEY "\":");
    ld_buffer_json_string(&metadata, TINY_CONFIG);
    ld_buffer_text(&metadata, "}");
    ld_arch_set_sd15(&arch);
    enum ld_code code = LD_OK;
    if (metadata.failed)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the metadata");
    if (code == LD_OK)
        code = ld_arch_set_test_config(&arch, TINY_CONFIG, err);
    if (code == LD_OK)
        code = ld_keymap_create(&map, &arch, err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, 0, err);
    if (code == LD_OK)
        code = ld_checkpoint_write(fd, map, LD_PARTS_ALL, metadata.data, fill, NULL, pool, err);
    ld_pool_destroy(pool);
    ld_keymap_destroy(map);
    ld_buffer_deinit(&metadata);
    return code;
}

int main(int argc, char **argv)
{
    struct ld_error err = {0};
    char path[PATH_SIZE];
    if (argc != 2) {
        fprintf(stderr, "usage: make_golden_model FOLDER\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/tiny.safetensors", argv[1]);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        fprintf(stderr, "make_golden_model: %s: %s\n", path, strerror(errno));
        return 1;
    }
    enum ld_code code = write_model(fd, &err);
    if (close(fd) != 0 && code == LD_OK)
        code = LD_FAIL_OS(&err, LD_E_IO, errno, "the checkpoint cannot be written");
    if (code != LD_OK) {
        fprintf(stderr, "make_golden_model: %s\n", err.detail);
        (void)unlink(path);
        return 1;
    }
    return 0;
}
