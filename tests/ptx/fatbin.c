/*
 * Finds the PTX in a fat binary.
 *
 * A fat binary is a head (magic, version, bytes of the head, bytes behind it) and entries, each
 * with a head of its own (kind, bytes of the head, bytes behind it, flags, file names) before its
 * data, which is padded with zeros. The format has no manual; this is what CUDA 13.0's nvcc writes
 * with and without -no-compress, and cuobjdump says of it.
 */
#include "tests/ptx/ptx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0xBA55ED50u

enum {
    VERSION = 1,
    HEAD_BYTES = 16,
    ENTRY_BYTES = 64, /* the smallest head of an entry */
    KIND_PTX = 1,
    FLAGS_COMPRESSED = 0xF000, /* 0x2000 and 0x8000 are known, for two ways of packing */
};

static uint64_t read_le(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static bool fail(struct ptx_why *why, const char *what)
{
    snprintf(why->text, sizeof why->text, "fat binary: %s", what);
    return false;
}

/* Of an entry's head. */
struct entry {
    uint64_t kind, head_bytes, bytes, packed_bytes, flags;
};

static struct entry read_entry(const unsigned char *at)
{
    return (struct entry){
        .kind = read_le(at, 2),
        .head_bytes = read_le(at + 4, 4),
        .bytes = read_le(at + 8, 8),
        .packed_bytes = read_le(at + 16, 4),
        .flags = read_le(at + 40, 8),
    };
}

static bool copy_text(const unsigned char *data, uint64_t bytes, char **text, size_t *length,
                      struct ptx_why *why)
{
    const unsigned char *zero = memchr(data, 0, bytes);
    size_t count = zero ? (size_t)(zero - data) : (size_t)bytes;
    char *copy = malloc(count + 1);
    if (!copy)
        return fail(why, "no memory");
    memcpy(copy, data, count);
    copy[count] = 0;
    *text = copy;
    *length = count;
    return true;
}

bool ptx_fatbin(const void *data, char **text, size_t *length, struct ptx_why *why)
{
    const unsigned char *at = data;
    *text = NULL;
    *length = 0;
    if (read_le(at, 4) != MAGIC || read_le(at + 4, 2) != VERSION)
        return fail(why, "another format");
    if (read_le(at + 6, 2) != HEAD_BYTES)
        return fail(why, "another size of the head");
    uint64_t left = read_le(at + 8, 8);
    at += HEAD_BYTES;
    while (left > 0) {
        if (left < ENTRY_BYTES)
            return fail(why, "an entry is cut off");
        struct entry entry = read_entry(at);
        if (entry.head_bytes < ENTRY_BYTES || entry.head_bytes > left ||
            entry.bytes > left - entry.head_bytes)
            return fail(why, "an entry is larger than the rest");
        if (entry.kind == KIND_PTX) {
            if (entry.packed_bytes != 0 || (entry.flags & FLAGS_COMPRESSED) != 0)
                return fail(why, "the PTX is compressed: nvcc must be told -no-compress");
            return copy_text(at + entry.head_bytes, entry.bytes, text, length, why);
        }
        at += entry.head_bytes + entry.bytes;
        left -= entry.head_bytes + entry.bytes;
    }
    return fail(why, "no PTX in it");
}
