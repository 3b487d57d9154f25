/*
 * The pictures that come with a request or are uploaded: each is looked at, stored by its content
 * and held until a job's row names it.
 */
#include "server/front.h"

#include "runtime/image/picture_header.h"

static enum ld_code check_picture(struct ld_span picture, struct ld_store_upload *upload,
                                  struct ld_error *err)
{
    struct ld_picture_header header;
    if (picture.size > LD_UPLOAD_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the picture must have at most %d bytes",
                       LD_UPLOAD_BYTES_MAX);
    enum ld_code code = ld_picture_check_header(&header, picture, err);
    if (code == LD_E_FORMAT) { /* bytes of another kind are a wrong type, not a malformed request */
        err->code = LD_E_UNSUPPORTED;
        return LD_E_UNSUPPORTED;
    }
    if (code != LD_OK)
        return code;
    upload->width = header.width;
    upload->height = header.height;
    upload->bytes = picture.size;
    return LD_OK;
}

/* Leaves the blob held, so that it stays until the caller's own reference is on disk. */
static enum ld_code store_picture(struct ld_front *front, const char *tenant, struct ld_span png,
                                  struct ld_store_upload *upload, struct ld_error *err)
{
    enum ld_code code = check_picture(png, upload, err);
    if (code == LD_OK)
        code = ld_blob_publish(front->blobs, png, upload->sha256, err);
    if (code != LD_OK)
        return code;
    code = ld_store_upload_add(front->store, tenant, upload, err);
    if (code != LD_OK) {
        ld_blob_let_go(front->blobs, upload->sha256);
        ld_blob_remove(front->blobs, upload->sha256);
    }
    return code;
}

enum ld_code ld_intake_upload(struct ld_front *front, const char *tenant, struct ld_span png,
                              struct ld_store_upload *upload, struct ld_error *err)
{
    const enum ld_code code = store_picture(front, tenant, png, upload, err);
    if (code == LD_OK)
        ld_blob_let_go(front->blobs, upload->sha256);
    return code;
}

/* ---- Those of a request ---------------------------------------------------------------------- */

/* One of its pictures: where its bytes or its id are, and where its digest goes. */
struct place {
    const struct ld_buffer *bytes; /* from the body; empty: none */
    const char **id;
    const char *pointer;
    char *sha256; /* LD_SHA256_HEX_SIZE */
    bool *held;
};

static enum ld_code store_inline(struct ld_intake *intake, const char *tenant,
                                 const struct place *place, struct ld_store_upload *upload,
                                 struct ld_error *err)
{
    if (intake->inline_count++ == LD_JSON_IMAGES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE,
                       "a body may carry at most %d pictures; upload the others first",
                       LD_JSON_IMAGES_MAX);
    const enum ld_code code = store_picture(
        intake->front, tenant, ld_span_of(place->bytes->data, place->bytes->size), upload, err);
    *place->held = code == LD_OK;
    return code;
}

static enum ld_code look_up(const struct ld_intake *intake, const char *tenant, const char *id,
                            struct ld_store_upload *upload, struct ld_error *err)
{
    const enum ld_code code = ld_store_upload_get(intake->front->store, tenant, id, upload, err);
    /* The address is a name here, like a model's: an unknown one makes the value wrong. */
    if (code == LD_E_NOT_FOUND)
        return LD_FAIL(err, LD_E_INVALID, "there is no such uploaded image");
    return code;
}

/* All of them go to a worker in one frame. */
static enum ld_code count_bytes(struct ld_intake *intake, uint64_t bytes, struct ld_error *err)
{
    intake->input_bytes += bytes;
    if (intake->input_bytes > LD_INPUTS_BYTES_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "a job's pictures must have at most %d bytes together",
                       LD_INPUTS_BYTES_MAX);
    return LD_OK;
}

/* A picture in the body is stored like an upload; an id is looked up. Either way the request holds
 * an id afterwards and `sha256` the bytes' address. `found` stays as it is where there is none. */
static bool settle_picture(struct ld_intake *intake, const char *tenant, const struct place *place,
                           struct ld_store_upload *found)
{
    struct ld_store_upload upload = {0};
    struct ld_error err = {0};
    enum ld_code code;
    if (place->bytes->size > 0)
        code = store_inline(intake, tenant, place, &upload, &err);
    else if ((*place->id)[0])
        code = look_up(intake, tenant, *place->id, &upload, &err);
    else
        return true;
    memcpy(place->sha256, upload.sha256, LD_SHA256_HEX_SIZE);
    if (code == LD_OK)
        code = count_bytes(intake, upload.bytes, &err);
    if (code != LD_OK) {
        (void)ld_problem_add_error(&intake->native.problem, place->pointer, &err);
        return false;
    }
    *found = upload;
    *place->id = ld_arena_strdup(intake->arena, upload.id);
    if (!*place->id) {
        (void)ld_problem_add(&intake->native.problem, LD_E_NOMEM, "", "out of memory");
        return false;
    }
    return true;
}

/* How large an enlarged picture becomes is known once its source is. */
static bool settle_upscale(struct ld_intake *intake, const char *tenant)
{
    struct ld_native *native = &intake->native;
    struct ld_store_upload upload = {0};
    const struct place source = {&native->init_image, &native->request.upscale.image,
                                 "/upscale/image", intake->init_sha256, &intake->init_held};
    return settle_picture(intake, tenant, &source, &upload) &&
           ld_request_settle_upscale(&native->request, upload.width, upload.height, &intake->limits,
                                     &native->problem) == LD_OK;
}

static bool settle_init(struct ld_intake *intake, const char *tenant)
{
    struct ld_native *native = &intake->native;
    struct ld_request_init *init = &native->request.init;
    struct ld_store_upload upload = {0};
    const struct place image = {&native->init_image, &init->image, "/init/image",
                                intake->init_sha256, &intake->init_held};
    const struct place mask = {&native->init_mask, &init->mask, "/init/mask", intake->mask_sha256,
                               &intake->mask_held};
    return settle_picture(intake, tenant, &image, &upload) &&
           (init->area != LD_INIT_MASKED || /* else the result has the whole picture's size */
            ld_request_check_sides(&native->request, upload.width, upload.height,
                                   &native->problem)) &&
           settle_picture(intake, tenant, &mask, &upload);
}

/* A unit without a picture of its own follows that of init. */
static bool settle_control(struct ld_intake *intake, const char *tenant, uint32_t unit)
{
    struct ld_native *native = &intake->native;
    struct ld_store_upload upload;
    char pointer[32];
    (void)ld_fmt(pointer, sizeof pointer, "/control/%u/image", unit);
    const struct place image = {&native->control_images[unit],
                                &native->request.controls[unit].image, pointer,
                                intake->control_sha256[unit], &intake->control_held[unit]};
    return settle_picture(intake, tenant, &image, &upload);
}

bool ld_intake_settle_pictures(struct ld_intake *intake, const char *tenant)
{
    const struct ld_request *request = &intake->native.request;
    if (request->upscale.present)
        return settle_upscale(intake, tenant);
    if (request->init.present && !settle_init(intake, tenant))
        return false;
    for (uint32_t i = 0; i < request->control_count; i++)
        if (!settle_control(intake, tenant, i))
            return false;
    return true;
}

void ld_intake_let_go(struct ld_intake *intake)
{
    struct ld_blobs *blobs = intake->front->blobs;
    if (intake->init_held)
        ld_blob_let_go(blobs, intake->init_sha256);
    if (intake->mask_held)
        ld_blob_let_go(blobs, intake->mask_sha256);
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        if (intake->control_held[i])
            ld_blob_let_go(blobs, intake->control_sha256[i]);
}
