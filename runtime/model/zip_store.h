/*
 * Entries of a zip archive in memory, stored without compression. Only the central directory is
 * believed, and each entry is checked against the bytes that are there.
 *
 * Source   PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16.
 */
#ifndef LD_MODEL_ZIP_STORE_H
#define LD_MODEL_ZIP_STORE_H

#include "runtime/base/bytes.h"

enum { LD_ZIP_ENTRIES_MAX = 4096 };

struct ld_zip {
    struct ld_span bytes; /* borrowed */
    uint32_t directory;   /* offset of the first record */
    uint32_t end;         /* and behind the last one */
};

/* One entry; both spans borrow the archive. */
struct ld_zip_entry {
    struct ld_span name;
    struct ld_span data;
};

/* Errors   LD_E_FORMAT (no archive, cut short, several disks), LD_E_TOO_LARGE (entries). */
enum ld_code ld_zip_open(struct ld_zip *zip, struct ld_span bytes,
                         struct ld_error *err) LD_MUST_USE;

/*
 * Walk the directory: `*position` is 0 at first. `*more` is false behind the last entry.
 * Errors   LD_E_FORMAT, LD_E_UNSUPPORTED (compressed or encrypted).
 */
enum ld_code ld_zip_next(const struct ld_zip *zip, uint32_t *position, struct ld_zip_entry *entry,
                         bool *more, struct ld_error *err) LD_MUST_USE;

#endif
