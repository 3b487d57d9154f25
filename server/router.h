/*
 * Which handler a method and a path belong to. Paths are split at '/', each segment is decoded once
 * and compared as a whole; nothing here touches a file.
 */
#ifndef LD_SERVER_ROUTER_H
#define LD_SERVER_ROUTER_H

#include "server/exchange.h"

enum ld_body_kind {
    LD_BODY_NONE,     /* a body is refused */
    LD_BODY_JSON,     /* at most LD_JSON_BODY_BYTES_MAX */
    LD_BODY_JSON_BIG, /* JSON that may carry base64 images */
    LD_BODY_IMAGE,    /* raw PNG or multipart */
    LD_BODY_FORM      /* multipart/form-data with fields and pictures */
};

struct ld_route {
    const char *method;  /* GET also answers HEAD */
    const char *pattern; /* "/v1/jobs/{id}": {id} is an id, {n} a number, {name} any word,
                          * {model} any segment, as on the wire */
    enum ld_scope scope; /* what its key must allow */
    enum ld_body_kind body;
    bool body_optional;
    ld_handler handler;
};

struct ld_route_match {
    const struct ld_route *route;             /* NULL: no such path, or not with this method */
    bool path_known;                          /* with another method: 405 */
    char allow[64];                           /* for that */
    char params[LD_EXCHANGE_PARAMS_MAX][256]; /* as on the wire */
    uint32_t param_count;
};

/* `path` as on the wire, query removed; the guard has accepted it. */
void ld_route_find(const struct ld_route *routes, uint32_t count, const char *method,
                   const char *path, struct ld_route_match *match);

/* The server's own table (routes.c). */
const struct ld_route *ld_routes(uint32_t *count);

#endif
