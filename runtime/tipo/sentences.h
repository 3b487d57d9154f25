/*
 * Sentences of a text: what TIPO counts, and what is compared so that nothing is said twice.
 */
#ifndef LD_TIPO_SENTENCES_H
#define LD_TIPO_SENTENCES_H

#include "runtime/base/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The next sentence of *rest without white space around it, and *rest behind it; false at the end.
 * A sentence ends at `.`, `!` or `?`, with any closing quotes and brackets behind, where white
 * space or the text's end follows; the last may lack that.
 */
bool ld_sentence_next(struct ld_span *rest, struct ld_span *sentence);

/* It ends as sentences do. */
bool ld_sentence_is_finished(struct ld_span sentence);

/* Append the sentence with single blanks for white space, and with a full stop if it has no end. */
void ld_sentence_write(struct ld_span sentence, struct ld_buffer *out);

/* Runs of characters that are no white space. */
uint32_t ld_sentence_words(struct ld_span text);

#ifdef __cplusplus
}
#endif
#endif
