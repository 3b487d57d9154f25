#include "tests/unit/gguf_fixture.h"

#include "runtime/base/arena.h"

#include <string.h>

enum { FILE_MAX = 64 << 20 };

void gguf_put_u32(struct ld_buffer *out, uint32_t value)
{
    uint8_t bytes[4];
    ld_write_u32le(bytes, value);
    ld_buffer_bytes(out, bytes, sizeof bytes);
}

void gguf_put_u64(struct ld_buffer *out, uint64_t value)
{
    uint8_t bytes[8];
    ld_write_u64le(bytes, value);
    ld_buffer_bytes(out, bytes, sizeof bytes);
}

void gguf_put_text(struct ld_buffer *out, const char *text)
{
    gguf_put_u64(out, strlen(text));
    ld_buffer_bytes(out, text, strlen(text));
}

static void put_f32(struct ld_buffer *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    gguf_put_u32(out, bits);
}

struct gguf_fixture gguf_begin(void)
{
    return (struct gguf_fixture){.keys = ld_buffer_make(FILE_MAX),
                                 .infos = ld_buffer_make(FILE_MAX),
                                 .data = ld_buffer_make(FILE_MAX),
                                 .version = 3,
                                 .alignment = 32};
}

void gguf_key(struct gguf_fixture *f, const char *key, uint32_t kind)
{
    gguf_put_text(&f->keys, key);
    gguf_put_u32(&f->keys, kind);
    f->key_count++;
}

void gguf_u32(struct gguf_fixture *f, const char *key, uint32_t value)
{
    gguf_key(f, key, LD_GGUF_U32);
    gguf_put_u32(&f->keys, value);
}

void gguf_f32(struct gguf_fixture *f, const char *key, float value)
{
    gguf_key(f, key, LD_GGUF_F32);
    put_f32(&f->keys, value);
}

void gguf_bool(struct gguf_fixture *f, const char *key, bool value)
{
    gguf_key(f, key, LD_GGUF_BOOL);
    ld_buffer_byte(&f->keys, value ? 1 : 0);
}

void gguf_text(struct gguf_fixture *f, const char *key, const char *value)
{
    gguf_key(f, key, LD_GGUF_STRING);
    gguf_put_text(&f->keys, value);
}

static void array(struct gguf_fixture *f, const char *key, uint32_t element, uint32_t count)
{
    gguf_key(f, key, LD_GGUF_ARRAY);
    gguf_put_u32(&f->keys, element);
    gguf_put_u64(&f->keys, count);
}

void gguf_texts(struct gguf_fixture *f, const char *key, const char *const *values, uint32_t count)
{
    array(f, key, LD_GGUF_STRING, count);
    for (uint32_t i = 0; i < count; i++)
        gguf_put_text(&f->keys, values[i]);
}

void gguf_f32s(struct gguf_fixture *f, const char *key, const float *values, uint32_t count)
{
    array(f, key, LD_GGUF_F32, count);
    for (uint32_t i = 0; i < count; i++)
        put_f32(&f->keys, values[i]);
}

void gguf_i32s(struct gguf_fixture *f, const char *key, const int32_t *values, uint32_t count)
{
    array(f, key, LD_GGUF_I32, count);
    for (uint32_t i = 0; i < count; i++)
        gguf_put_u32(&f->keys, (uint32_t)values[i]);
}

static void align(struct ld_buffer *out, uint32_t alignment)
{
    while (out->size % alignment != 0)
        ld_buffer_byte(out, 0);
}

void gguf_tensor(struct gguf_fixture *f, const char *name, uint32_t type, uint32_t rank,
                 const uint64_t *dims, const void *data, size_t size)
{
    align(&f->data, f->alignment);
    gguf_put_text(&f->infos, name);
    gguf_put_u32(&f->infos, rank);
    for (uint32_t i = 0; i < rank; i++)
        gguf_put_u64(&f->infos, dims[i]);
    gguf_put_u32(&f->infos, type);
    gguf_put_u64(&f->infos, f->data.size);
    ld_buffer_bytes(&f->data, data, size);
    f->tensor_count++;
}

struct ld_buffer gguf_finish(struct gguf_fixture *f)
{
    struct ld_buffer file = ld_buffer_make(FILE_MAX);
    ld_buffer_text(&file, "GGUF");
    gguf_put_u32(&file, f->version);
    gguf_put_u64(&file, f->tensor_count);
    gguf_put_u64(&file, f->key_count);
    ld_buffer_bytes(&file, f->keys.data, f->keys.size);
    ld_buffer_bytes(&file, f->infos.data, f->infos.size);
    if (f->tensor_count > 0)
        align(&file, f->alignment);
    ld_buffer_bytes(&file, f->data.data, f->data.size);
    ld_buffer_deinit(&f->keys);
    ld_buffer_deinit(&f->infos);
    ld_buffer_deinit(&f->data);
    LD_ASSERT(!file.failed);
    return file;
}

/* ---- Vocabularies ---------------------------------------------------------------------------- */

void gguf_vocabulary(struct gguf_fixture *f, const struct gguf_piece *pieces, uint32_t count)
{
    const char **texts = ld_heap_calloc(count, sizeof *texts);
    float *scores = ld_heap_calloc(count, sizeof *scores);
    int32_t *kinds = ld_heap_calloc(count, sizeof *kinds);
    LD_ASSERT(texts && scores && kinds);
    for (uint32_t i = 0; i < count; i++) {
        texts[i] = pieces[i].text;
        scores[i] = pieces[i].score;
        kinds[i] = pieces[i].kind;
    }
    gguf_text(f, "tokenizer.ggml.model", "llama");
    gguf_texts(f, "tokenizer.ggml.tokens", texts, count);
    gguf_f32s(f, "tokenizer.ggml.scores", scores, count);
    gguf_i32s(f, "tokenizer.ggml.token_type", kinds, count);
    gguf_u32(f, "tokenizer.ggml.bos_token_id", 1);
    gguf_u32(f, "tokenizer.ggml.eos_token_id", 2);
    gguf_u32(f, "tokenizer.ggml.unknown_token_id", 0);
    ld_heap_free(texts);
    ld_heap_free(scores);
    ld_heap_free(kinds);
}

void gguf_first_pieces(struct gguf_piece out[259], char names[256][8])
{
    out[0] = (struct gguf_piece){"<unk>", 0.0f, 2};
    out[1] = (struct gguf_piece){"<s>", 0.0f, 3};
    out[2] = (struct gguf_piece){"</s>", 0.0f, 3};
    for (size_t i = 0; i < 256; i++) {
        LD_ASSERT(ld_fmt(names[i], sizeof names[i], "<0x%02X>", (unsigned)i));
        out[3 + i] = (struct gguf_piece){names[i], 0.0f, 6};
    }
}
