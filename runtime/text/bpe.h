/*
 * Byte-pair encoding of CLIP's text encoder: a vocabulary of merges and the way from text to ids.
 *
 *     struct ld_bpe *bpe;
 *     ld_bpe_load(&bpe, &arena, "clip/bpe_simple_vocab_16e6.txt.gz", 0, &err);
 *     struct ld_list ids = ld_list_make(4096);
 *     ld_bpe_encode(bpe, LD_CLEAN_COMFY, ld_span_text("1girl, solo"), &ids, &err);
 *     // ids: 272 1611 267 5797
 *
 * Ids: 0..255 the byte alphabet, 256..511 the same at the end of a word, 512.. the merges in order,
 * then the start and the end token. A vocabulary of m merges has 512 + m + 2 ids.
 * Source   openai/CLIP, clip/simple_tokenizer.py (layout of the file and of the ids).
 */
#ifndef LD_TEXT_BPE_H
#define LD_TEXT_BPE_H

#include "runtime/base/arena.h"
#include "runtime/text/clean.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_BPE_CLIP_MERGES = 48894, /* merges of CLIP; its file holds 262,144, the rest is not used */
    LD_BPE_COMMA_ID = 267,      /* `,</w>`: byte alphabet, so the same in every vocabulary */
    LD_BPE_FIRST_MERGE = 512,
    LD_BPE_FILE_LIMIT = 16 << 20 /* bytes, plain or unpacked; CLIP's has 3.2 MB */
};

/* Immutable after creation; any number of threads may use it. */
struct ld_bpe;

/*
 * A vocabulary from the bytes of a file: `bpe_simple_vocab_16e6.txt`, the same gzipped, or
 * `merges.txt`; a first line with `#version` is skipped, then one merge a line, two parts with a
 * blank between. `merge_count` merges are taken (fewer in the file is an error); 0 takes all, at
 * most LD_BPE_CLIP_MERGES.
 * Owner    borrows `file`; *out lives in `arena` (about 2.2 MB for CLIP).
 * Errors   LD_E_FORMAT (a line that is no merge of known parts, too few merges, damaged gzip),
 *          LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_bpe_create(struct ld_bpe **out, struct ld_arena *arena, struct ld_span file,
                           uint32_t merge_count, struct ld_error *err) LD_MUST_USE;

/*
 * The same from a path: a file, or a folder that holds one of `bpe_simple_vocab_16e6.txt.gz`,
 * `bpe_simple_vocab_16e6.txt`, `merges.txt`, `tokenizer/merges.txt` (first found wins).
 * Errors   as ld_bpe_create, LD_E_NOT_FOUND, LD_E_IO.
 */
enum ld_code ld_bpe_load(struct ld_bpe **out, struct ld_arena *arena, const char *path,
                         uint32_t merge_count, struct ld_error *err) LD_MUST_USE;

uint32_t ld_bpe_merge_count(const struct ld_bpe *bpe);
uint32_t ld_bpe_start_id(const struct ld_bpe *bpe);
uint32_t ld_bpe_end_id(const struct ld_bpe *bpe); /* also the padding */

/*
 * Append the ids of `text` (no start or end token around them) to `ids`.
 * Literal `<|startoftext|>` and `<|endoftext|>` become single ids.
 * Time     O(n log n) for every input, one huge word included.
 * Errors   LD_E_TOO_LARGE (ids reached its ceiling), LD_E_NOMEM.
 */
enum ld_code ld_bpe_encode(const struct ld_bpe *bpe, enum ld_clean profile, struct ld_span text,
                           struct ld_list *ids, struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
