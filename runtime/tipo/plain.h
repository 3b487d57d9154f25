/*
 * What a language model may add to a prompt: tags and sentences that mean themselves. What would
 * open syntax is refused, and brackets are escaped for the syntax of the prompt, so that no answer
 * can name an adapter, an embedding or a wildcard, or give anything a weight.
 */
#ifndef LD_TIPO_PLAIN_H
#define LD_TIPO_PLAIN_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_TIPO_SENTENCE_BYTES_MAX = 512 }; /* a longer one is a model gone wrong */

/*
 * True for valid UTF-8 of printable characters without `< > \ { } | $ #`, without `__`,
 * `embedding:` and the words AND and BREAK. Some of these mean something in one syntax only; a
 * prompt may be used again in another, and with wildcards on.
 */
bool ld_tipo_is_plain(struct ld_span text);

/*
 * Append one sentence as ld_sentence_write does. False, and nothing is to be used of `out`, if it
 * is not plain or longer than LD_TIPO_SENTENCE_BYTES_MAX; true only if `out` did not fail.
 */
bool ld_tipo_plain_sentence(struct ld_span sentence, struct ld_buffer *out);

/*
 * Append a plain text so that `syntax` reads it as it stands: `(` `)` `[` `]` escaped in a1111,
 * `(` `)` in comfy, `[` `]` and `::` in novelai, nothing in plain (model.md 4.1, 4.4).
 */
void ld_tipo_escape(enum ld_syntax syntax, struct ld_span text, struct ld_buffer *out);

#ifdef __cplusplus
}
#endif
#endif
