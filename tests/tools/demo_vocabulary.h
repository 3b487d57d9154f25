/*
 * A small byte-pair vocabulary of our own for demonstration checkpoints: merges learned from a
 * short list of words that people type into prompts, so no published vocabulary is needed to run.
 */
#ifndef LD_TESTS_DEMO_VOCABULARY_H
#define LD_TESTS_DEMO_VOCABULARY_H

#include "runtime/base/buffer.h"

/*
 * Append the merges as a text file: a "#version" line, then "left right" lines; all ASCII. The
 * result is the same on every machine.
 * Returns  the number of merges m (the vocabulary has 512 + m + 2 ids), 0 when out of memory.
 */
uint32_t ld_demo_vocabulary(struct ld_buffer *out);

#endif
