/*
 * What a file is by its first bytes, for clear sentences about files that are not what their name
 * says. Nothing is parsed beyond the first block.
 */
#ifndef LD_MODEL_MAGIC_H
#define LD_MODEL_MAGIC_H

#include "runtime/base/bytes.h"

enum { LD_MAGIC_BYTES = 512 }; /* enough for every signature */

enum ld_magic {
    LD_MAGIC_UNKNOWN,
    LD_MAGIC_EMPTY,
    LD_MAGIC_SAFETENSORS, /* a plausible length field and '{' */
    LD_MAGIC_PNG,
    LD_MAGIC_JPEG,
    LD_MAGIC_WEBP,
    LD_MAGIC_GIF,
    LD_MAGIC_TORCH_ZIP, /* a zip archive with a pickle inside */
    LD_MAGIC_ZIP,
    LD_MAGIC_PICKLE,
    LD_MAGIC_GGUF,
    LD_MAGIC_HDF5,
    LD_MAGIC_NPY,
    LD_MAGIC_GZIP,
    LD_MAGIC_SEVEN_ZIP,
    LD_MAGIC_HTML,
    LD_MAGIC_LFS_POINTER, /* the stand-in that a git checkout leaves for a large file */
    LD_MAGIC_JSON,
    LD_MAGIC_TEXT,
    LD_MAGIC_COUNT
};

/* `head`: the first LD_MAGIC_BYTES of the file, or all of it. */
enum ld_magic ld_magic_of(struct ld_span head);

/* "png", "pickle", ...; and the same for people: "a PNG picture". */
const char *ld_magic_name(enum ld_magic magic);
const char *ld_magic_words(enum ld_magic magic);

/* Read the first block of the file at `path`; LD_MAGIC_UNKNOWN if it cannot be read. */
enum ld_magic ld_magic_of_file(const char *path);

#endif
