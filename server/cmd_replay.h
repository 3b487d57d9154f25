/*
 * `latentd generate --replay FILE`: the request out of a picture, and what differs between that
 * picture and the one painted from it.
 */
#ifndef LD_SERVER_CMD_REPLAY_H
#define LD_SERVER_CMD_REPLAY_H

#include "runtime/image/png_meta.h"
#include "runtime/params.h"

struct ld_replay {
    struct ld_arena arena;
    struct ld_buffer file;
    struct ld_png_texts texts;
    struct ld_recipe recipe;
};

/*
 * Owner    ld_replay_close, also after an error.
 * Errors   LD_E_IO, LD_E_FORMAT (no picture, or its recipe is damaged), LD_E_NOT_FOUND (it does not
 * say how it was made), LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_replay_open(struct ld_replay *replay, const char *path,
                            struct ld_error *err) LD_MUST_USE;
void ld_replay_close(struct ld_replay *replay);

/* The picture's request over `request`, which holds defaults. Texts live in the replay. Errors the
 * first field that is refused. */
enum ld_code ld_replay_request(struct ld_replay *replay, struct ld_request *request,
                               struct ld_error *err) LD_MUST_USE;

/* Sentence `index` of what the picture said and no field could take; false behind the last. */
bool ld_replay_unmapped(const struct ld_replay *replay, uint32_t index, char *out, size_t size);

/*
 * Compare with the picture painted anew. Each difference becomes a sentence, appended to `out` as
 * JSON strings with commas between.
 * Errors   those of reading pictures.
 */
enum ld_code ld_replay_compare(const struct ld_replay *replay, struct ld_span painted,
                               bool *identical, struct ld_buffer *out,
                               struct ld_error *err) LD_MUST_USE;

#endif
