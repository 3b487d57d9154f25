#include "tests/tools/checkpoint_write.h"

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    TASK_VALUES = 1 << 20,
    HEADER_BYTES_MAX = 1 << 20,
    HEADER_ALIGN = 64 /* so that tensors of even size start at even addresses */
};

/* A stretch of one tensor. */
struct piece {
    const struct ld_key *key;
    size_t first, count;
    uint16_t *out;
};

struct job {
    struct piece *pieces;
    ld_checkpoint_fill fill;
    const void *ctx;
};

static size_t key_values(const struct ld_key *key)
{
    size_t values = 1;
    for (int32_t d = 0; d < key->rank; d++)
        values *= (size_t)key->shape[d];
    return values;
}

static bool wanted(const struct ld_key *key, uint32_t parts)
{
    return (parts & LD_PART_BIT(key->part)) != 0;
}

/* The header, padded with blanks so that the data starts aligned; returns the data's bytes. */
static size_t write_header(struct ld_buffer *header, const struct ld_keymap *map, uint32_t parts,
                           const char *metadata)
{
    size_t offset = 0;
    const char *comma = "";
    ld_buffer_text(header, "{");
    if (metadata) {
        ld_buffer_format(header, "\"__metadata__\":%s", metadata);
        comma = ",";
    }
    for (uint32_t i = 0; i < ld_keymap_count(map); i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        if (!wanted(key, parts))
            continue;
        const size_t end = offset + key_values(key) * sizeof(uint16_t);
        ld_buffer_format(header, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", comma, key->name);
        for (int32_t d = 0; d < key->rank; d++)
            ld_buffer_format(header, "%s%lld", d ? "," : "", (long long)key->shape[d]);
        ld_buffer_format(header, "],\"data_offsets\":[%zu,%zu]}", offset, end);
        offset = end;
        comma = ",";
    }
    ld_buffer_text(header, "}");
    while (!header->failed && (header->size + 8) % HEADER_ALIGN != 0)
        ld_buffer_byte(header, ' ');
    return offset;
}

static uint32_t cut(const struct ld_keymap *map, uint32_t parts, uint16_t *data,
                    struct piece *pieces)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < ld_keymap_count(map); i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        if (!wanted(key, parts))
            continue;
        const size_t values = key_values(key);
        for (size_t first = 0; first < values; first += TASK_VALUES, count++) {
            const size_t left = values - first;
            const size_t taken = left < TASK_VALUES ? left : TASK_VALUES;
            if (pieces)
                pieces[count] = (struct piece){key, first, taken, data + first};
        }
        if (pieces)
            data += values;
    }
    return count;
}

static void run_piece(void *ctx, uint32_t task, uint32_t worker)
{
    const struct job *job = ctx;
    const struct piece *piece = &job->pieces[task];
    (void)worker;
    job->fill(job->ctx, piece->key, piece->first, piece->count, piece->out);
}

enum ld_code ld_checkpoint_write(int fd, const struct ld_keymap *map, uint32_t parts,
                                 const char *metadata, ld_checkpoint_fill fill, const void *ctx,
                                 struct ld_pool *pool, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct ld_buffer header = ld_buffer_make(HEADER_BYTES_MAX);
    struct piece *pieces = NULL;
    uint8_t *file = MAP_FAILED;
    const size_t data_bytes = write_header(&header, map, parts, metadata);
    const size_t file_bytes = 8 + header.size + data_bytes;
    if (header.failed) {
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the checkpoint's header");
        goto done;
    }
    if (ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)file_bytes) == 0)
        file = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) {
        code = LD_FAIL_OS(err, LD_E_IO, errno, "the checkpoint cannot be written");
        goto done;
    }
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)header.size >> (8 * i));
    memcpy(file + 8, header.data, header.size);
    uint16_t *data = (void *)(file + 8 + header.size);
    const uint32_t count = cut(map, parts, data, NULL);
    pieces = ld_heap_calloc(count, sizeof *pieces);
    if (!pieces) {
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to write the checkpoint");
        goto done;
    }
    (void)cut(map, parts, data, pieces);
    struct job job = {pieces, fill, ctx};
    ld_pool_run(pool, count, run_piece, &job);
done:
    if (file != MAP_FAILED && munmap(file, file_bytes) != 0 && code == LD_OK)
        code = LD_FAIL_OS(err, LD_E_IO, errno, "the checkpoint cannot be written");
    ld_heap_free(pieces);
    ld_buffer_deinit(&header);
    return code;
}
