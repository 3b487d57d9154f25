/*
 * What a file is: checkpoint, diffusers folder, adapter, textual inversion, picture or something
 * that only its first bytes tell. A damaged or foreign file is not an error here but the answer.
 *
 *     struct ld_buffer json = ld_buffer_make(LD_INSPECT_BYTES_MAX);
 *     ld_inspect(path, &json, err);
 *     ld_inspect_text(&text, ld_span_of(json.data, json.size));
 */
#ifndef LD_MODEL_INSPECT_H
#define LD_MODEL_INSPECT_H

#include "runtime/base/buffer.h"

enum { LD_INSPECT_BYTES_MAX = 8 << 20 };

/*
 * Append one JSON object: format, bytes, sha256, short_hash (its first 10 digits), addnet_hash (of
 * safetensors data alone), kind, and the facts of that kind. Reads the whole file for the digests.
 * Errors   LD_E_NOT_FOUND, LD_E_IO, LD_E_NOMEM, LD_E_TOO_LARGE (the answer does not fit).
 */
enum ld_code ld_inspect(const char *path, struct ld_buffer *json, struct ld_error *err) LD_MUST_USE;

/* The same for people: one "name: value" a line, nested facts indented, safe for a terminal. Does
 * nothing for text that is no JSON object. */
void ld_inspect_text(struct ld_buffer *text, struct ld_span json);

#endif
