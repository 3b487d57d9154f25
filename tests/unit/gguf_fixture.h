/*
 * GGUF files built in memory, key by key and tensor by tensor, for the tests of their readers.
 *
 *     struct gguf_fixture f = gguf_begin();
 *     gguf_text(&f, "general.architecture", "llama");
 *     gguf_tensor(&f, "output_norm.weight", 0, 1, dims, values, sizeof values);
 *     struct ld_buffer file = gguf_finish(&f);   // the caller's: ld_buffer_deinit
 */
#ifndef LD_TESTS_GGUF_FIXTURE_H
#define LD_TESTS_GGUF_FIXTURE_H

#include "runtime/base/buffer.h"
#include "runtime/tipo/gguf.h"

struct gguf_fixture {
    struct ld_buffer keys, infos, data;
    uint64_t key_count, tensor_count;
    uint32_t version, alignment;
};

struct gguf_fixture gguf_begin(void);

void gguf_u32(struct gguf_fixture *f, const char *key, uint32_t value);
void gguf_f32(struct gguf_fixture *f, const char *key, float value);
void gguf_bool(struct gguf_fixture *f, const char *key, bool value);
void gguf_text(struct gguf_fixture *f, const char *key, const char *value);
void gguf_texts(struct gguf_fixture *f, const char *key, const char *const *values, uint32_t count);
void gguf_f32s(struct gguf_fixture *f, const char *key, const float *values, uint32_t count);
void gguf_i32s(struct gguf_fixture *f, const char *key, const int32_t *values, uint32_t count);
/* Key and kind alone: the value's bytes follow through `f->keys`. */
void gguf_key(struct gguf_fixture *f, const char *key, uint32_t kind);

void gguf_tensor(struct gguf_fixture *f, const char *name, uint32_t type, uint32_t rank,
                 const uint64_t *dims, const void *data, size_t size);

/* The whole file; deinits the fixture. */
struct ld_buffer gguf_finish(struct gguf_fixture *f);

/* One word or number in little-endian order. */
void gguf_put_u32(struct ld_buffer *out, uint32_t value);
void gguf_put_u64(struct ld_buffer *out, uint64_t value);
void gguf_put_text(struct ld_buffer *out, const char *text);

/* ---- Vocabularies ---------------------------------------------------------------------------- */

/* A piece of a vocabulary; the kinds are the file's numbers. */
struct gguf_piece {
    const char *text;
    float score;
    int32_t kind;
};

/* All keys of a tokenizer of these pieces. */
void gguf_vocabulary(struct gguf_fixture *f, const struct gguf_piece *pieces, uint32_t count);

/* <unk>, <s>, </s>, then the 256 byte pieces: where the vocabularies of LLaMA begin. Fills
 * out[259]; `names` holds the texts of the byte pieces. */
void gguf_first_pieces(struct gguf_piece out[259], char names[256][8]);

#endif
