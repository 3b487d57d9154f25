#define _XOPEN_SOURCE 700
#include "tests/unit/model_fixture.h"

#include "runtime/base/arena.h"
#include "runtime/model/arch.h"
#include "runtime/model/keymap.h"
#include "runtime/model/merge.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const fixture_config =
    "{\"unet\":{\"model_channels\":32,\"channel_mult\":[1,1],\"num_heads\":2,\"context_dim\":32},"
    "\"vae\":{\"ch\":32,\"ch_mult\":[1,1]},"
    "\"clip\":{\"layers\":1,\"heads\":2,\"width\":32,\"intermediate\":64}}";

enum { VOCABULARY = 40 };

void fixture_arch(struct ld_arch *arch)
{
    ld_arch_set_sd15(arch);
    LD_ASSERT(ld_arch_set_test_config(arch, fixture_config, NULL) == LD_OK);
    arch->text_vocabulary = VOCABULARY;
}

float fixture_value(const char *seed, uint64_t index)
{
    return (float)(ld_merge_uniform(ld_merge_name_hash("", seed), index) - 0.5);
}

/* ---- The list -------------------------------------------------------------------------------- */

struct fixture_tensor *fixture_add(struct fixture *fixture, const char *name, enum ld_dtype dtype,
                                   uint32_t rank, const uint64_t *shape)
{
    LD_ASSERT(fixture->count < FIXTURE_TENSORS_MAX);
    struct fixture_tensor *tensor = &fixture->tensors[fixture->count++];
    memset(tensor, 0, sizeof *tensor);
    LD_ASSERT(ld_fmt(tensor->name, sizeof tensor->name, "%s", name));
    memcpy(tensor->seed, tensor->name, sizeof tensor->seed);
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (uint32_t i = 0; i < rank; i++)
        tensor->shape[i] = shape[i];
    return tensor;
}

struct fixture_tensor *fixture_add_matrix(struct fixture *fixture, const char *name,
                                          enum ld_dtype dtype, uint64_t rows, uint64_t columns)
{
    const uint64_t shape[2] = {rows, columns};
    return fixture_add(fixture, name, dtype, columns ? 2 : rows ? 1 : 0, shape);
}

void fixture_model(struct fixture *fixture, enum ld_dtype dtype)
{
    struct ld_arch arch;
    struct ld_keymap *map;
    memset(fixture, 0, sizeof *fixture);
    fixture_arch(&arch);
    LD_ASSERT(ld_keymap_create(&map, &arch, NULL) == LD_OK);
    for (uint32_t i = 0; i < ld_keymap_count(map); i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        uint64_t shape[4];
        for (int32_t d = 0; d < 4; d++)
            shape[d] = (uint64_t)key->shape[d];
        fixture_add(fixture, key->name, dtype, (uint32_t)key->rank, shape);
    }
    ld_keymap_destroy(map);
    fixture_note(fixture, LD_TEST_CONFIG_KEY, fixture_config);
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

struct fixture_tensor *fixture_find(struct fixture *fixture, const char *name)
{
    for (uint32_t i = 0; i < fixture->count; i++) {
        if (strcmp(fixture->tensors[i].name, name) == 0)
            return &fixture->tensors[i];
    }
    return NULL;
}

void fixture_remove(struct fixture *fixture, const char *prefix)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fixture->count; i++) {
        if (!has_prefix(fixture->tensors[i].name, prefix))
            fixture->tensors[kept++] = fixture->tensors[i];
    }
    fixture->count = kept;
}

void fixture_rename(struct fixture *fixture, const char *old_prefix, const char *new_prefix)
{
    for (uint32_t i = 0; i < fixture->count; i++) {
        char name[FIXTURE_NAME_SIZE];
        if (!has_prefix(fixture->tensors[i].name, old_prefix))
            continue;
        LD_ASSERT(ld_fmt(name, sizeof name, "%s%s", new_prefix,
                         fixture->tensors[i].name + strlen(old_prefix)));
        memcpy(fixture->tensors[i].name, name, sizeof name);
    }
}

void fixture_note(struct fixture *fixture, const char *key, const char *value)
{
    LD_ASSERT(fixture->metadata_count < 8);
    fixture->metadata[fixture->metadata_count++] = (struct ld_st_note){key, value};
}

/* ---- Writing --------------------------------------------------------------------------------- */

static enum ld_code fill(void *ctx, uint32_t index, void *dst, size_t bytes, struct ld_error *err)
{
    (void)err;
    const struct fixture_tensor *tensor = &((const struct fixture *)ctx)->tensors[index];
    const size_t size = ld_dtype_size(tensor->dtype);
    for (size_t i = 0; i < bytes / size; i++) {
        const float value = tensor->values ? tensor->values[i] : fixture_value(tensor->seed, i);
        if (ld_dtype_is_float(tensor->dtype))
            ld_dtype_from_f32((uint8_t *)dst + i * size, &value, tensor->dtype, 1);
        else
            memset((uint8_t *)dst + i * size, value != 0, 1); /* flags */
    }
    return LD_OK;
}

void fixture_write(const struct fixture *fixture, const char *path)
{
    struct ld_st_item *items = ld_heap_calloc(fixture->count, sizeof *items);
    LD_ASSERT(items);
    for (uint32_t i = 0; i < fixture->count; i++) {
        items[i].name = fixture->tensors[i].name;
        items[i].dtype = fixture->tensors[i].dtype;
        items[i].rank = fixture->tensors[i].rank;
        memcpy(items[i].shape, fixture->tensors[i].shape, sizeof items[i].shape);
    }
    union {
        const struct fixture *in;
        void *out;
    } ctx = {fixture};
    const struct ld_st_write plan = {
        .items = items,
        .count = fixture->count,
        .metadata = fixture->metadata,
        .metadata_count = fixture->metadata_count,
        .fill = fill,
        .ctx = ctx.out,
    };
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    LD_ASSERT(fd >= 0);
    LD_ASSERT(ld_safetensors_write(fd, &plan, NULL) == LD_OK);
    LD_ASSERT(close(fd) == 0);
    ld_heap_free(items);
}

/* ---- Files ----------------------------------------------------------------------------------- */

void fixture_folder(char out[256])
{
    const char *base = getenv("TMPDIR");
    LD_ASSERT(ld_fmt(out, 256, "%s/latentd-test-XXXXXX", base && base[0] ? base : "/tmp"));
    LD_ASSERT(mkdtemp(out));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)kind, (void)place;
    return remove(path);
}

void fixture_remove_folder(const char *path)
{
    LD_ASSERT(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

const char *fixture_path(const char *folder, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    LD_ASSERT(ld_fmt(path, sizeof paths[0], "%s/%s", folder, name));
    return path;
}

void fixture_text(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    LD_ASSERT(file);
    LD_ASSERT(fwrite(bytes, 1, size, file) == size);
    LD_ASSERT(fclose(file) == 0);
}
