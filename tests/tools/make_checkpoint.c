/*
 * make_checkpoint --tiny OUT.safetensors     a demonstration model with a vocabulary of its own
 * make_checkpoint --full OUT.safetensors     SD1.5's shapes, random weights, 2.13 GB
 *
 * Both are float16 in the single-file layout and the same bytes on every machine.
 */
#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"
#include "runtime/model/arch.h"
#include "tests/tools/checkpoint_write.h"
#include "tests/tools/demo_vocabulary.h"
#include "tests/tools/demo_weights.h"
#include "tests/tools/genweights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { METADATA_BYTES_MAX = 1 << 20, ID_BASE = 512 + 2 };

/* The demonstration model's metadata and widths. */
static enum ld_code describe_tiny(struct ld_arch *arch, struct ld_buffer *metadata,
                                  struct ld_error *err)
{
    struct ld_buffer merges = ld_buffer_make(METADATA_BYTES_MAX);
    const uint32_t count = ld_demo_vocabulary(&merges);
    enum ld_code code = ld_arch_set_test_config(arch, LD_DEMO_CONFIG, err);
    if (code == LD_OK && count == 0)
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the vocabulary");
    if (code == LD_OK) {
        arch->text_vocabulary = ID_BASE + (int32_t)count;
        ld_buffer_text(metadata, "{\"format\":\"pt\",\"latentd.test_config\":");
        ld_buffer_json_string(metadata, LD_DEMO_CONFIG);
        ld_buffer_text(metadata, ",\"" LD_VOCABULARY_KEY "\":");
        ld_buffer_json_string(metadata, merges.data);
        ld_buffer_text(metadata, "}");
        if (metadata->failed)
            code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the metadata");
    }
    ld_buffer_deinit(&merges);
    return code;
}

static enum ld_code write_model(int fd, bool tiny, struct ld_error *err)
{
    struct ld_arch arch;
    struct ld_keymap *map = NULL;
    struct ld_pool *pool = NULL;
    struct ld_buffer metadata = ld_buffer_make(METADATA_BYTES_MAX);
    enum ld_code code = LD_OK;
    ld_arch_set_sd15(&arch);
    if (tiny)
        code = describe_tiny(&arch, &metadata, err);
    if (code == LD_OK)
        code = ld_keymap_create(&map, &arch, err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, 0, err);
    if (code == LD_OK)
        code =
            ld_checkpoint_write(fd, map, LD_PARTS_ALL, tiny ? metadata.data : NULL,
                                tiny ? ld_demo_weights_fill : ld_genweights_fill, NULL, pool, err);
    ld_pool_destroy(pool);
    ld_keymap_destroy(map);
    ld_buffer_deinit(&metadata);
    return code;
}

int main(int argc, char **argv)
{
    struct ld_error err = {0};
    const bool tiny = argc == 3 && strcmp(argv[1], "--tiny") == 0;
    if (!tiny && !(argc == 3 && strcmp(argv[1], "--full") == 0)) {
        fprintf(stderr, "usage: make_checkpoint --tiny|--full OUT.safetensors\n");
        return 2;
    }
    const int fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        fprintf(stderr, "make_checkpoint: %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    enum ld_code code = write_model(fd, tiny, &err);
    if (close(fd) != 0 && code == LD_OK)
        code = LD_FAIL_OS(&err, LD_E_IO, errno, "the checkpoint cannot be written");
    if (code != LD_OK) {
        fprintf(stderr, "make_checkpoint: %s\n", err.detail);
        (void)unlink(argv[2]);
        return 1;
    }
    return 0;
}
