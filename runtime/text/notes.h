/*
 * Warnings about a prompt: sentences for its author that are no errors. At most LD_WARNINGS_MAX,
 * each once.
 */
#ifndef LD_TEXT_NOTES_H
#define LD_TEXT_NOTES_H

#include "config/limits.h"
#include "runtime/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ld_notes {
    struct ld_arena *arena; /* owns the sentences */
    const char *items[LD_WARNINGS_MAX];
    uint32_t count;
};

/* A sentence that does not fit any more, or for which there is no memory, is dropped. `notes` may
 * be NULL. */
void ld_notes_add(struct ld_notes *notes, const char *format, ...) LD_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
