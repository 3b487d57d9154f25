/*
 * The text form of a BPE vocabulary as model files carry it: one merge a line, two parts with a
 * blank between, perhaps a first line with "#version". Only carried from one file to another here;
 * runtime/text/bpe.h makes a tokenizer of it.
 */
#ifndef LD_MODEL_VOCABULARY_H
#define LD_MODEL_VOCABULARY_H

#include "runtime/base/buffer.h"

/* Merges in the text. */
uint32_t ld_vocabulary_count(const char *text);

/* The merges without the version line, one a line. */
void ld_vocabulary_merges(struct ld_buffer *out, const char *text);

/*
 * All tokens with their ids as one JSON object (vocab.json): the byte alphabet, the alphabet with
 * the end-of-word mark, the merges in order, start, end.
 * Source   numbering of the CLIP tokenizer (github.com/openai/CLIP, simple_tokenizer.py).
 */
void ld_vocabulary_json(struct ld_buffer *out, const char *text);

/* Read tokenizer/merges.txt of a diffusers folder. LD_E_NOT_FOUND if it has none. */
enum ld_code ld_vocabulary_of_folder(struct ld_buffer *out, const char *folder,
                                     struct ld_error *err) LD_MUST_USE;

#endif
