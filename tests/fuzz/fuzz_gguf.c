/*
 * The GGUF reader, the tokenizer and the decoder over the same bytes. The first byte says how many
 * of the last bytes are a text, which is encoded where the file has a vocabulary; where it has a
 * decoder, one token is computed. What is accepted lies within the file.
 */
#include "runtime/base/arena.h"
#include "runtime/tipo/llama.h"
#include "runtime/tipo/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IDS_MAX = 3 * 256 + 8 };

static void check_file(const struct ld_gguf *file, struct ld_span bytes)
{
    for (uint32_t i = 0; i < ld_gguf_tensor_count(file); i++) {
        const struct ld_gguf_tensor *tensor = ld_gguf_tensor_at(file, i);
        const uint8_t *at = ld_gguf_data(file, tensor);
        LD_ASSERT(tensor->bytes > 0 && at >= bytes.data &&
                  tensor->bytes <= bytes.size - (size_t)(at - bytes.data));
        LD_ASSERT(tensor->rank >= 1 && tensor->rank <= LD_GGUF_RANK_MAX && tensor->elements > 0);
    }
    for (uint32_t i = 0; i < ld_gguf_key_count(file); i++) {
        const struct ld_gguf_value *value = ld_gguf_value_at(file, i);
        struct ld_span rest = value->bytes;
        struct ld_span text;
        uint32_t strings = 0;
        while (value->element == LD_GGUF_STRING && ld_gguf_next_string(&rest, &text))
            strings++;
        LD_ASSERT(value->element != LD_GGUF_STRING || (strings == value->count && rest.size == 0));
        LD_ASSERT(i == 0 || !ld_span_equal(value->key, ld_gguf_value_at(file, i - 1)->key));
    }
}

static void check_text(const struct ld_pieces *pieces, struct ld_span text)
{
    uint32_t ids[IDS_MAX];
    uint32_t count;
    uint32_t again;
    struct ld_error err = {0};
    struct ld_buffer back = ld_buffer_make(1 << 20);
    LD_ASSERT(ld_pieces_encode(pieces, text, ids, IDS_MAX, &count, &err) == LD_OK);
    LD_ASSERT(count <= 3 * text.size + 2);
    LD_ASSERT(ld_pieces_encode(pieces, text, NULL, 0, &again, &err) == LD_OK && again == count);
    for (uint32_t i = 0; i < count; i++) {
        LD_ASSERT(ids[i] < ld_pieces_count(pieces));
        ld_pieces_write(pieces, ids[i], &back);
    }
    LD_ASSERT(back.size <= (size_t)count * LD_PIECE_BYTES_MAX);
    ld_buffer_deinit(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size - 1 < data[0])
        return 0;
    const struct ld_span text = ld_span_of(data + size - data[0], data[0]);
    const size_t file_size = size - 1 - text.size;
    uint8_t *copy = ld_heap_alloc(file_size); /* aligned, and of that size for the sanitizer */
    LD_ASSERT(copy);
    memcpy(copy, data + 1, file_size);
    struct ld_gguf *file;
    struct ld_pieces *pieces;
    struct ld_llama *llama;
    struct ld_error err = {0};
    const enum ld_code code = ld_gguf_open_bytes(&file, ld_span_of(copy, file_size), &err);
    LD_ASSERT((code == LD_OK) == (file != NULL) && (code == LD_OK) == (err.detail[0] == '\0'));
    if (code == LD_OK) {
        check_file(file, ld_span_of(copy, file_size));
        if (ld_pieces_create(&pieces, file, &err) == LD_OK)
            check_text(pieces, text);
        ld_pieces_destroy(pieces);
        if (ld_llama_create(&llama, file, 1, &err) == LD_OK) {
            const uint32_t last = ld_llama_sizes(llama)->vocabulary - 1;
            LD_ASSERT(ld_llama_feed(llama, &last, 1, NULL, &err) == LD_OK);
        }
        ld_llama_destroy(llama);
    }
    ld_gguf_close(file);
    ld_heap_free(copy);
    return 0;
}
