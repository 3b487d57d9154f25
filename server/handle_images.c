#include "server/handlers.h"

#include "api/multipart.h"
#include "api/respond.h"
#include "config/limits.h"
#include "runtime/image/picture_texts.h"
#include "server/front.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Pictures out ---------------------------------------------------------------------------- */

static const char *format_in(struct ld_arena *arena, const char *format, ...) LD_PRINTF(2, 3);

static const char *quoted_tag(struct ld_arena *arena, const char *sha256)
{
    return format_in(arena, "\"%s\"", sha256);
}

/* If-None-Match: a list of entity tags, or "*"; weak ones compare like strong ones (RFC 9110
 * 13.1.2). */
static bool none_match_hits(const struct ld_exchange *ex, const char *sha256)
{
    const char *list = ld_exchange_header(ex, "If-None-Match");
    if (!list)
        return false;
    return strcmp(list, "*") == 0 || strstr(list, sha256) != NULL;
}

/* One range of bytes; anything else is ignored, as RFC 9110 14.2 allows. False: not satisfiable. */
static bool read_range(const struct ld_exchange *ex, const char *sha256, uint64_t size,
                       uint64_t *first, uint64_t *last)
{
    const char *range = ld_exchange_header(ex, "Range");
    const char *if_range = ld_exchange_header(ex, "If-Range");
    *first = 0;
    *last = size - 1;
    if (!range || strncmp(range, "bytes=", 6) != 0 || strchr(range, ',') ||
        (if_range && !strstr(if_range, sha256)))
        return true;
    const char *from = range + 6;
    const size_t from_size = strspn(from, "0123456789");
    if (from[from_size] != '-')
        return true;
    const char *to = from + from_size + 1;
    const size_t to_size = strspn(to, "0123456789");
    uint64_t start = 0;
    uint64_t end = 0;
    if (to[to_size] || (from_size == 0 && to_size == 0) ||
        (from_size > 0 && !ld_parse_u64(ld_span_of(from, from_size), &start)) ||
        (to_size > 0 && !ld_parse_u64(ld_span_of(to, to_size), &end)))
        return true;
    if (from_size == 0) { /* the last `end` bytes */
        if (end == 0)
            return false;
        *first = end < size ? size - end : 0;
        return true;
    }
    if (start >= size || (to_size > 0 && end < start))
        return false;
    *first = start;
    *last = to_size > 0 && end < size ? end : size - 1;
    return true;
}

static const char *format_in(struct ld_arena *arena, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return ld_arena_strdup(arena, text);
}

static void describe(struct ld_exchange *ex, const struct ld_job_view *job,
                     const struct ld_image_view *image, const char *sha256)
{
    ex->reply.content_type = ld_picture_kind_type(image->kind);
    ld_exchange_set_header(ex, "ETag", quoted_tag(&ex->arena, sha256));
    /* What a URL shows never changes, but it is one key's own. */
    ld_exchange_set_header(ex, "Cache-Control", "private, max-age=31536000, immutable");
    ld_exchange_set_header(ex, "X-Latentd-Job", ld_arena_strdup(&ex->arena, job->id));
    ld_exchange_set_header(ex, "X-Latentd-Seed",
                           format_in(&ex->arena, "%llu", (unsigned long long)image->seed));
    ld_exchange_set_header(ex, "Content-Disposition",
                           format_in(&ex->arena, "inline; filename=\"%s-%u%s\"", job->id,
                                     image->index, ld_picture_kind_ending(image->kind)));
    ld_exchange_set_header(ex, "Content-Security-Policy", "default-src 'none'; sandbox");
}

static enum ld_handled reply_stripped(struct ld_exchange *ex, const struct ld_job_view *job,
                                      const struct ld_image_view *image)
{
    struct ld_error err = {0};
    char sha256[LD_SHA256_HEX_SIZE];
    struct ld_buffer file = ld_buffer_make(LD_FRAME_BYTES_MAX);
    enum ld_code code = ld_blob_read(ex->front->blobs, image->sha256, &file, &err);
    if (code == LD_OK)
        code = ld_picture_strip(&ex->reply.body, ld_span_of(file.data, file.size), &err);
    ld_buffer_deinit(&file);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_sha256_hex(ld_span_of(ex->reply.body.data, ex->reply.body.size), sha256);
    describe(ex, job, image, sha256);
    if (none_match_hits(ex, sha256)) {
        ld_buffer_clear(&ex->reply.body);
        ex->reply.status = 304;
    } else {
        ex->reply.status = 200;
    }
    return LD_HANDLED;
}

enum ld_handled ld_front_reply_image(struct ld_exchange *ex, const struct ld_job_view *job,
                                     const struct ld_image_view *image)
{
    struct ld_error err = {0};
    uint64_t size;
    uint64_t first;
    uint64_t last;
    if (none_match_hits(ex, image->sha256)) {
        describe(ex, job, image, image->sha256);
        ex->reply.status = 304;
        return LD_HANDLED;
    }
    if (ld_blob_open(ex->front->blobs, image->sha256, &ex->reply.file_fd, &size, &err) != LD_OK) {
        /* The row says it is there: a reader came between its deletion and ours. */
        return err.code == LD_E_NOT_FOUND
                   ? ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such image")
                   : ld_exchange_fail(ex, &err);
    }
    if (size == 0 || !read_range(ex, image->sha256, size, &first, &last)) {
        ld_exchange_set_header(ex, "Content-Range",
                               format_in(&ex->arena, "bytes */%llu", (unsigned long long)size));
        return ld_exchange_refuse(ex, LD_E_RANGE, 416, "the image has no such range");
    }
    describe(ex, job, image, image->sha256);
    ld_exchange_set_header(ex, "Accept-Ranges", "bytes");
    ex->reply.file_offset = first;
    ex->reply.file_size = last - first + 1;
    ex->reply.status = 200;
    if (ex->reply.file_size != size) {
        ex->reply.status = 206;
        ld_exchange_set_header(ex, "Content-Range",
                               format_in(&ex->arena, "bytes %llu-%llu/%llu",
                                         (unsigned long long)first, (unsigned long long)last,
                                         (unsigned long long)size));
    }
    return LD_HANDLED;
}

enum ld_handled ld_handle_image_get(struct ld_exchange *ex)
{
    struct ld_store_job job;
    struct ld_error err = {0};
    uint64_t wanted = 0;
    const char *metadata = ld_exchange_query(ex, "metadata");
    if (metadata && strcmp(metadata, "none") != 0 && strcmp(metadata, "full") != 0)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "metadata must be full or none");
    if (ld_store_job_get(ex->front->store, ex->tenant, ex->params[0], &ex->arena, &job, &err) !=
        LD_OK)
        return ld_exchange_fail(ex, &err);
    if (job.view.status == LD_JOB_EXPIRED)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 410, "the job has expired");
    (void)ld_parse_u64(ld_span_text(ex->params[1]), &wanted);
    for (uint32_t i = 0; i < job.view.image_count; i++) {
        const struct ld_image_view *image = &job.view.images[i];
        if (image->index != wanted)
            continue;
        return metadata && strcmp(metadata, "none") == 0
                   ? reply_stripped(ex, &job.view, image)
                   : ld_front_reply_image(ex, &job.view, image);
    }
    return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such image");
}

/* ---- Pictures in ----------------------------------------------------------------------------- */

/* The picture in the body: the body itself, or the first part of a form that has a file or is
 * called "image". */
enum ld_code ld_front_body_picture(struct ld_exchange *ex, struct ld_span *file,
                                   struct ld_error *err)
{
    const char *type = ld_exchange_header(ex, "Content-Type");
    struct ld_multipart reader;
    struct ld_multipart_part part;
    *file = ex->body;
    if (!type || strncmp(type, "multipart/", 10) != 0)
        return LD_OK;
    enum ld_code code = ld_multipart_open(&reader, type, ex->body, err);
    while (code == LD_OK && (code = ld_multipart_next(&reader, &part, err)) == LD_OK &&
           part.found) {
        if (!ld_span_is(part.name, "image") && part.file_name.size == 0)
            continue;
        *file = part.data;
        return LD_OK;
    }
    return code == LD_OK ? LD_FAIL(err, LD_E_INVALID, "the form has no field called image") : code;
}

enum ld_handled ld_handle_upload(struct ld_exchange *ex)
{
    struct ld_error err = {0};
    struct ld_span png;
    struct ld_store_upload upload = {0};
    if (ld_front_body_picture(ex, &png, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    if (ld_intake_upload(ex->front, ex->tenant, png, &upload, &err) != LD_OK) {
        struct ld_problem problem;
        ld_problem_init(&problem, &ex->arena);
        (void)ld_problem_add_error(&problem, NULL, &err);
        problem.status = err.code == LD_E_UNSUPPORTED ? 415 : 0;
        return ld_exchange_problem(ex, &problem);
    }
    const struct ld_upload_view view = {upload.id, upload.sha256, upload.width, upload.height};
    ld_respond_upload(&view, &ex->reply.body);
    return ld_exchange_json(ex, 201);
}

enum ld_handled ld_handle_upload_list(struct ld_exchange *ex)
{
    struct ld_store_upload *uploads;
    struct ld_error err = {0};
    uint32_t count;
    if (ld_store_upload_list(ex->front->store, ex->tenant, &ex->arena, &uploads, &count, &err) !=
        LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_text(&ex->reply.body, "{\"images\":[");
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_upload_view view = {uploads[i].id, uploads[i].sha256, uploads[i].width,
                                            uploads[i].height};
        if (i > 0)
            ld_buffer_byte(&ex->reply.body, ',');
        ld_respond_upload(&view, &ex->reply.body);
    }
    ld_buffer_text(&ex->reply.body, "]}");
    return ld_exchange_json(ex, 200);
}
