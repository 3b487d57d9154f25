/*
 * What makes two jobs the same work, so that one of them is enough: everything that decides what a
 * job makes and tells, and who may share it. The front places equal jobs together by it, a worker
 * lets them take one result.
 *
 *     ld_equal_hash(digest, &(struct ld_equal){.request = &request, .share = share});
 */
#ifndef LD_SERVER_EQUAL_H
#define LD_SERVER_EQUAL_H

#include "runtime/base/id.h"
#include "runtime/params.h"

/* Spans are the input pictures or what names them; the same kind on both sides of a comparison. */
struct ld_equal {
    const struct ld_request *request;
    uint64_t share; /* who may share */
    struct ld_span init_image, init_mask;
    struct ld_span control_images[LD_REQUEST_CONTROLS_MAX];
    bool with_tag; /* the scripted pipeline takes its orders from there */
};

/* False without memory. */
bool ld_equal_hash(uint8_t out[LD_SHA256_BYTES], const struct ld_equal *job) LD_MUST_USE;

#endif
