/*
 * The tokenizer of LLaMA files: texts to ids of SentencePiece pieces and back, with the vocabulary
 * that stands in the GGUF file itself.
 *
 *     struct ld_pieces *pieces;
 *     code = ld_pieces_create(&pieces, file, &err);
 *     uint32_t ids[1024], count;
 *     code = ld_pieces_encode(pieces, ld_span_text("tag: 1girl"), ids, 1024, &count, &err);
 *     ld_pieces_write(pieces, ids[1], &out);   // appends " tag"
 *
 * Encoding: control and user-defined pieces in the text are found first, the leftmost and of those
 * at one place the longest. Each stretch between them gets a blank in front, blanks become U+2581,
 * and then of all neighbours that together are a piece those with the highest score are joined
 * (leftmost first among equals) until none are left. A character that is no piece becomes its
 * bytes' pieces, or the unknown piece where the vocabulary has none; malformed UTF-8 takes the same
 * way byte by byte.
 *
 * Source   google/sentencepiece, src/bpe_model.cc (the order of joining), and the "legacy" LLaMA
 *          tokenizer of huggingface/transformers (a blank in front of each stretch).
 */
#ifndef LD_TIPO_PIECES_H
#define LD_TIPO_PIECES_H

#include "runtime/base/buffer.h"
#include "runtime/tipo/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_PIECES_TEXT_MAX = 1 << 16, /* bytes of a text */
    LD_PIECE_BYTES_MAX = 256      /* of one piece; LLaMA's longest has 48 */
};

/* Immutable after creation; any number of threads may use it. */
struct ld_pieces;

/*
 * Owner    returns owned; ld_pieces_destroy. Keeps nothing of `file`.
 * Errors   LD_E_FORMAT, LD_E_UNSUPPORTED (another kind of tokenizer), LD_E_NOMEM.
 */
enum ld_code ld_pieces_create(struct ld_pieces **out, const struct ld_gguf *file,
                              struct ld_error *err) LD_MUST_USE;
void ld_pieces_destroy(struct ld_pieces *pieces); /* NULL is fine */

uint32_t ld_pieces_count(const struct ld_pieces *pieces);
uint32_t ld_pieces_begin(const struct ld_pieces *pieces);
uint32_t ld_pieces_end(const struct ld_pieces *pieces);
uint32_t ld_pieces_unknown(const struct ld_pieces *pieces);

/*
 * The ids of `text`, after the begin token where the file asks for it. *count is how many there
 * are, of which the first `ids_max` are written. Time     O(n log n) for every text. Errors
 * LD_E_TOO_LARGE (LD_PIECES_TEXT_MAX), LD_E_NOMEM.
 */
enum ld_code ld_pieces_encode(const struct ld_pieces *pieces, struct ld_span text, uint32_t *ids,
                              uint32_t ids_max, uint32_t *count, struct ld_error *err) LD_MUST_USE;

/*
 * Append what a piece stands for: U+2581 becomes a blank, a byte's piece that byte (so that the
 * whole may be UTF-8 where a part is not). Control pieces are written out; the begin, end and
 * unknown ones are nothing.
 */
void ld_pieces_write(const struct ld_pieces *pieces, uint32_t id, struct ld_buffer *out);

#ifdef __cplusplus
}
#endif
#endif
