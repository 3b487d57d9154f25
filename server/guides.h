/*
 * What manifests and tag lists say about models and words: the shipped ones with those of
 * models.manifest_dir over them, and read again when its files have changed. Any thread.
 *
 *     const struct ld_guides *guides = ld_guides_now(front->guides);
 *     manifest = ld_manifests_for(&guides->manifests, model);
 */
#ifndef LD_SERVER_GUIDES_H
#define LD_SERVER_GUIDES_H

#include "config/manifest.h"
#include "config/tags.h"

struct ld_guides {
    struct ld_manifests manifests;
    struct ld_tags *tags;
};

struct ld_guide_shelf;

/* `folder` may be ""; borrowed. Errors   those of ld_manifests_load and ld_tags_load. */
enum ld_code ld_guides_open(struct ld_guide_shelf **out, const char *folder,
                            struct ld_error *err) LD_MUST_USE;
void ld_guides_close(struct ld_guide_shelf *shelf);

/* As they were read last. What is handed out lives until the shelf is closed. */
const struct ld_guides *ld_guides_now(struct ld_guide_shelf *shelf);

/*
 * Read them again if a file of the folder is another one than before; what cannot be read leaves
 * the old ones in place.
 * Errors   those of opening, LD_E_CONFLICT (after 32 changes, as none is forgotten: restart).
 */
enum ld_code ld_guides_reread(struct ld_guide_shelf *shelf, struct ld_error *err) LD_MUST_USE;

#endif
