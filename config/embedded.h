/*
 * Data files that are part of the program, so that it works before and after installation alike.
 * config/embed.cmake turns them into arrays at build time.
 */
#ifndef LD_CONFIG_EMBEDDED_H
#define LD_CONFIG_EMBEDDED_H

#include <stddef.h>
#include <stdint.h>

struct ld_embedded {
    const char *name; /* file name without folders */
    const uint8_t *data;
    size_t size;
};

extern const struct ld_embedded ld_embedded_manifests[];
extern const uint32_t ld_embedded_manifests_count;
extern const struct ld_embedded ld_embedded_recipes[];
extern const uint32_t ld_embedded_recipes_count;
extern const struct ld_embedded ld_embedded_tags[];
extern const uint32_t ld_embedded_tags_count;
extern const struct ld_embedded ld_embedded_openapi[];
extern const uint32_t ld_embedded_openapi_count;
extern const struct ld_embedded ld_embedded_page[];
extern const uint32_t ld_embedded_page_count;

#endif
