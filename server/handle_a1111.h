/*
 * What the files of the A1111 dialect share.
 */
#ifndef LD_SERVER_HANDLE_A1111_H
#define LD_SERVER_HANDLE_A1111_H

#include "api/dialect_a1111.h"
#include "server/dialect_call.h"

/* What the caller has set by POST /options. Texts in ex->arena. */
void ld_a1111_options_load(struct ld_exchange *ex, struct ld_a1111_options *options);

/* "name.safetensors [hash]" as its clients show models; in the arena, NULL without memory. */
const char *ld_a1111_model_title(struct ld_arena *arena, const struct ld_model_view *model);

/* The text "parameters" of a picture, "" without one; in the arena. */
const char *ld_a1111_infotext(struct ld_arena *arena, struct ld_span file);

#endif
