/*
 * One gzip member in memory to plain bytes, with a ceiling. The vocabulary file is the only user.
 */
#ifndef LD_TEXT_GUNZIP_H
#define LD_TEXT_GUNZIP_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True when `file` starts like a gzip file (RFC 1952, 2.3.1). */
bool ld_gunzip_detect(struct ld_span file);

/*
 * Owner    returns *out owned (ld_heap_free) on success, NULL on failure.
 * Errors   LD_E_FORMAT (damaged), LD_E_TOO_LARGE (more than `limit` bytes), LD_E_NOMEM.
 */
enum ld_code ld_gunzip(struct ld_span file, size_t limit, uint8_t **out, size_t *out_size,
                       struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
