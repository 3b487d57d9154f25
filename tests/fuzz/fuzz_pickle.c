/*
 * Embedding files that are zip archives with a pickle. The first byte chooses between a raw archive
 * and a pickle program around which an archive with one storage is put, so that mutations reach the
 * machine. Whatever is read must have a sane shape and finite values.
 */
#include "runtime/model/embedding.h"

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"
#include "runtime/model/pickle.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put16(struct ld_buffer *out, uint32_t value)
{
    ld_buffer_byte(out, (char)(value & 0xFF));
    ld_buffer_byte(out, (char)(value >> 8 & 0xFF));
}

static void put32(struct ld_buffer *out, uint32_t value)
{
    put16(out, value & 0xFFFF);
    put16(out, value >> 16);
}

static void put_zeros(struct ld_buffer *out, int count)
{
    for (int i = 0; i < count; i++)
        ld_buffer_byte(out, 0);
}

/* Local header, name and data; the directory record goes to `directory`. */
static void add_entry(struct ld_buffer *out, struct ld_buffer *directory, const char *name,
                      struct ld_span data)
{
    const uint32_t length = (uint32_t)strlen(name);
    put32(directory, 0x02014B50);
    put_zeros(directory, 16);
    put32(directory, (uint32_t)data.size);
    put32(directory, (uint32_t)data.size);
    put16(directory, length);
    put_zeros(directory, 12);
    put32(directory, (uint32_t)out->size);
    ld_buffer_text(directory, name);
    put32(out, 0x04034B50);
    put_zeros(out, 22);
    put16(out, length);
    put_zeros(out, 2);
    ld_buffer_text(out, name);
    ld_buffer_bytes(out, data.data, data.size);
}

static void make_archive(struct ld_buffer *out, struct ld_span program)
{
    static const float numbers[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct ld_buffer directory = ld_buffer_make(4096);
    add_entry(out, &directory, "x/data.pkl", program);
    add_entry(out, &directory, "x/data/0", ld_span_of(numbers, sizeof numbers));
    const uint32_t start = (uint32_t)out->size;
    ld_buffer_bytes(out, directory.data, directory.size);
    put32(out, 0x06054B50);
    put32(out, 0);
    put16(out, 2);
    put16(out, 2);
    put32(out, (uint32_t)directory.size);
    put32(out, start);
    put16(out, 0);
    LD_ASSERT(!out->failed && !directory.failed);
    ld_buffer_deinit(&directory);
}

static void check_embedding(struct ld_span bytes)
{
    struct ld_embedding embedding;
    struct ld_error err = {0};
    if (ld_embedding_open_bytes(&embedding, bytes, 0, &err) == LD_OK) {
        LD_ASSERT(embedding.vectors > 0 && embedding.vectors <= LD_EMBEDDING_VECTORS_MAX);
        LD_ASSERT(embedding.width > 0 && embedding.width <= LD_EMBEDDING_WIDTH_MAX);
        for (int32_t i = 0; i < embedding.vectors * embedding.width; i++)
            LD_ASSERT(isfinite(embedding.values[i]));
    } else {
        LD_ASSERT(err.detail[0]);
    }
    ld_embedding_deinit(&embedding);
}

/* Every tensor of the file, not only the one that an embedding would use. */
static void check_pickle(struct ld_span bytes)
{
    enum { ELEMENTS_MAX = 1 << 16 };
    struct ld_pickle *pickle;
    struct ld_error err = {0};
    if (ld_pickle_open(&pickle, bytes, &err) != LD_OK)
        return;
    for (uint32_t i = 0; i < ld_pickle_count(pickle); i++) {
        const uint64_t count = ld_pickle_at(pickle, i)->count;
        float *values =
            count <= ELEMENTS_MAX ? ld_heap_calloc((size_t)count, sizeof *values) : NULL;
        if (values)
            ld_pickle_decode(pickle, i, values);
        ld_heap_free(values);
    }
    ld_pickle_close(pickle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct ld_span bytes = ld_span_of(data + 1, size - 1);
    struct ld_buffer archive = ld_buffer_make(4 << 20);
    if (data[0] & 1) {
        make_archive(&archive, bytes);
        bytes = ld_span_of(archive.data, archive.size);
    }
    check_embedding(bytes);
    check_pickle(bytes);
    ld_buffer_deinit(&archive);
    return 0;
}
