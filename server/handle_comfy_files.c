/* ComfyUI: nodes, lists, pictures in and out. */
#include "api/multipart.h"
#include "config/limits.h"
#include "runtime/image/picture_header.h"
#include "server/handle_comfy.h"
#include "server/handlers.h"
#include "server/names_list.h"

#include <unistd.h>

enum { LIST_BYTES_MAX = LD_COMFY_LIST_BYTES_MAX };

/* ---- Lists ----------------------------------------------------------------------------------- */

static const char *keep(struct ld_exchange *ex, struct ld_buffer *list)
{
    ld_buffer_byte(list, ']');
    const char *kept = list->failed ? NULL : ld_arena_strdup(&ex->arena, list->data);
    ld_buffer_deinit(list);
    return kept;
}

static struct ld_buffer open_list(void)
{
    struct ld_buffer list = ld_buffer_make(LIST_BYTES_MAX);
    ld_buffer_byte(&list, '[');
    return list;
}

static void add(struct ld_buffer *list, const char *name, const char *ending)
{
    struct ld_buffer whole = ld_buffer_make(1024);
    ld_buffer_text(&whole, name);
    ld_buffer_text(&whole, ending);
    ld_buffer_text(list, list->size > 1 ? "," : "");
    ld_buffer_json_string(list, whole.data && !whole.failed ? whole.data : name);
    ld_buffer_deinit(&whole);
}

static bool list_files(struct ld_exchange *ex, struct ld_comfy_lists *lists)
{
    struct ld_buffer models = open_list(), vaes = open_list(), loras = open_list();
    struct ld_buffer controlnets = open_list();
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    for (uint32_t i = 0; inventory && i < inventory->model_count; i++)
        add(&models, inventory->models[i].name, ".safetensors");
    for (uint32_t i = 0; inventory && i < inventory->vae_count; i++)
        add(&vaes, inventory->vaes[i], ".safetensors");
    for (uint32_t i = 0; inventory && i < inventory->adapter_count; i++)
        add(&loras, inventory->adapters[i].name, ".safetensors");
    for (uint32_t i = 0; inventory && i < inventory->controlnet_count; i++)
        add(&controlnets, inventory->controlnets[i].name, ".safetensors");
    ld_inventory_release(ex->front->inventory, inventory);
    lists->models = keep(ex, &models);
    lists->vaes = keep(ex, &vaes);
    lists->loras = keep(ex, &loras);
    lists->controlnets = keep(ex, &controlnets);
    return lists->models && lists->vaes && lists->loras && lists->controlnets;
}

static bool list_names(struct ld_exchange *ex, struct ld_comfy_lists *lists)
{
    struct ld_buffer samplers = open_list(), schedulers = open_list();
    uint32_t sampler_count = 0, scheduler_count = 0;
    const struct ld_sampler_view *sampler = ld_names_samplers(&ex->arena, &sampler_count);
    const struct ld_scheduler_view *scheduler = ld_names_schedulers(&ex->arena, &scheduler_count);
    for (uint32_t i = 0; sampler && i < sampler_count; i++)
        add(&samplers, sampler[i].name, "");
    for (uint32_t i = 0; scheduler && i < scheduler_count; i++)
        add(&schedulers, scheduler[i].name, "");
    lists->samplers = keep(ex, &samplers);
    lists->schedulers = keep(ex, &schedulers);
    return sampler && scheduler && lists->samplers && lists->schedulers;
}

static bool list_images(struct ld_exchange *ex, struct ld_comfy_lists *lists)
{
    struct ld_store_upload *uploads;
    struct ld_error err;
    uint32_t count;
    struct ld_buffer images = open_list();
    if (ld_store_upload_list(ex->front->store, ex->tenant, &ex->arena, &uploads, &count, &err) ==
        LD_OK)
        for (uint32_t i = 0; i < count; i++)
            add(&images, uploads[i].id, ".png");
    lists->images = keep(ex, &images);
    return lists->images != NULL;
}

bool ld_comfy_lists(struct ld_exchange *ex, struct ld_comfy_lists *lists)
{
    memset(lists, 0, sizeof *lists);
    return list_files(ex, lists) && list_names(ex, lists) && list_images(ex, lists);
}

static enum ld_handled reply_info(struct ld_exchange *ex, const char *class_type)
{
    struct ld_comfy_lists lists;
    if (!ld_comfy_lists(ex, &lists))
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    if (!ld_comfy_write_object_info(&lists, class_type, &ex->arena, &ex->reply.body)) {
        ld_buffer_clear(&ex->reply.body); /* as the other program does for a class it has not */
        ld_buffer_text(&ex->reply.body, "{}");
    }
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_object_info(struct ld_exchange *ex)
{
    return reply_info(ex, "");
}

enum ld_handled ld_handle_comfy_object_info_one(struct ld_exchange *ex)
{
    return reply_info(ex, ex->params[0]);
}

enum ld_handled ld_handle_comfy_embeddings(struct ld_exchange *ex)
{
    struct ld_buffer list = open_list();
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    for (uint32_t i = 0; inventory && i < inventory->embedding_count; i++)
        add(&list, inventory->embeddings[i].name, "");
    ld_inventory_release(ex->front->inventory, inventory);
    const char *kept = keep(ex, &list);
    ld_buffer_text(&ex->reply.body, kept ? kept : "[]");
    return ld_exchange_json(ex, 200);
}

/* The folders that a client may ask for; an OpenAI client that was given the bare address asks for
 * its own list under the same path. */
enum ld_handled ld_handle_comfy_models(struct ld_exchange *ex)
{
    if (ld_exchange_header(ex, "X-Stainless-Lang"))
        return ld_handle_models(ex);
    ld_buffer_text(&ex->reply.body,
                   "[\"checkpoints\",\"loras\",\"vae\",\"embeddings\",\"controlnet\"]");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_models_in(struct ld_exchange *ex)
{
    struct ld_comfy_lists lists;
    const char *folder = ex->params[0];
    if (strcmp(folder, "embeddings") == 0)
        return ld_handle_comfy_embeddings(ex);
    if (!ld_comfy_lists(ex, &lists))
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    const char *list = strcmp(folder, "checkpoints") == 0  ? lists.models
                       : strcmp(folder, "loras") == 0      ? lists.loras
                       : strcmp(folder, "vae") == 0        ? lists.vaes
                       : strcmp(folder, "controlnet") == 0 ? lists.controlnets
                                                           : NULL;
    if (!list)
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such folder of models");
    ld_buffer_text(&ex->reply.body, list);
    return ld_exchange_json(ex, 200);
}

/* What a client decides by; figures of the machine are the operator's to see. */
enum ld_handled ld_handle_comfy_system_stats(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body,
                   "{\"system\":{\"os\":\"posix\",\"ram_total\":0,\"ram_free\":0,"
                   "\"comfyui_version\":\"latentd " LATENTD_VERSION "\",\"python_version\":\"\","
                   "\"pytorch_version\":\"\",\"embedded_python\":false,\"argv\":[]},"
                   "\"devices\":[{\"name\":\"latentd\",\"type\":\"cpu\",\"index\":0,"
                   "\"vram_total\":0,\"vram_free\":0,\"torch_vram_total\":0,"
                   "\"torch_vram_free\":0}]}");
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_features(struct ld_exchange *ex)
{
    ld_buffer_format(&ex->reply.body,
                     "{\"supports_preview_metadata\":false,\"max_upload_size\":%d}",
                     LD_UPLOAD_BYTES_MAX);
    return ld_exchange_json(ex, 200);
}

enum ld_handled ld_handle_comfy_extensions(struct ld_exchange *ex)
{
    ld_buffer_text(&ex->reply.body, "[]");
    return ld_exchange_json(ex, 200);
}

/* ---- Pictures out ---------------------------------------------------------------------------- */

static enum ld_handled no_picture(struct ld_exchange *ex)
{
    return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "there is no such picture");
}

static const char no_alpha[] = "channel must be rgb or rgba; the pictures' alpha is not cut out";

/* One of the caller's own; the view and what it borrows live in the arena. */
static bool find_output(struct ld_exchange *ex, const char *name, struct ld_store_job *job,
                        const struct ld_image_view **image)
{
    char id[LD_ID_SIZE];
    struct ld_error err = {0};
    uint64_t wanted;
    if (!ld_comfy_output_read(name, id, &wanted) ||
        ld_store_job_get(ex->front->store, ex->tenant, id, &ex->arena, job, &err) != LD_OK)
        return false;
    for (uint32_t i = 0; i < job->view.image_count; i++) {
        *image = &job->view.images[i];
        if ((*image)->index == wanted)
            return true;
    }
    return false;
}

static enum ld_handled view_output(struct ld_exchange *ex, const char *name)
{
    struct ld_store_job job;
    const struct ld_image_view *image;
    return find_output(ex, name, &job, &image) ? ld_front_reply_image(ex, &job.view, image)
                                               : no_picture(ex);
}

/* Uploads are of three kinds, and the store does not say of which. */
static const char *type_of(int fd)
{
    uint8_t head[16];
    const ssize_t size = pread(fd, head, sizeof head, 0);
    return ld_picture_kind_type(ld_picture_kind_of(ld_span_of(head, size > 0 ? (size_t)size : 0)));
}

/* A picture with another one's transparency is not put together here: its colours are the one's
 * bytes, its alpha the other's. */
static enum ld_handled view_input(struct ld_exchange *ex, const char *name, const char *channel)
{
    struct ld_store *store = ex->front->store;
    struct ld_store_upload upload, mask;
    struct ld_comfy_input input;
    struct ld_error err = {0};
    uint64_t size;
    const bool wants_mask = channel && strcmp(channel, "a") == 0;
    const bool wants_colours = channel && strcmp(channel, "rgb") == 0;
    if (!ld_comfy_input_read(name, &input) ||
        ld_store_upload_get(store, ex->tenant, input.image, &upload, &err) != LD_OK ||
        (input.mask[0] && ld_store_upload_get(store, ex->tenant, input.mask, &mask, &err) != LD_OK))
        return no_picture(ex);
    if (input.mask[0] ? !wants_mask && !wants_colours : wants_mask)
        return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0,
                                  input.mask[0]
                                      ? "channel must be rgb (the picture) or a (its mask) "
                                        "for a name of /upload/mask"
                                      : no_alpha);
    if (ld_blob_open(ex->front->blobs, input.mask[0] && wants_mask ? mask.sha256 : upload.sha256,
                     &ex->reply.file_fd, &size, &err) != LD_OK)
        return no_picture(ex);
    ex->reply.file_offset = 0;
    ex->reply.file_size = size;
    ex->reply.status = 200;
    ex->reply.content_type = type_of(ex->reply.file_fd);
    ld_exchange_set_header(ex, "Content-Security-Policy", "default-src 'none'; sandbox");
    return LD_HANDLED;
}

/* Names are ours, never paths: a job and a number, or an upload. A smaller preview is not made; the
 * picture itself is. */
enum ld_handled ld_handle_comfy_view(struct ld_exchange *ex)
{
    const char *name = ld_exchange_query(ex, "filename");
    const char *type = ld_exchange_query(ex, "type");
    const char *folder = ld_exchange_query(ex, "subfolder");
    const char *channel = ld_exchange_query(ex, "channel");
    if (!name || !*name)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "filename is required");
    if (folder && *folder)
        return no_picture(ex);
    const bool is_input = type && strcmp(type, "input") == 0;
    if (channel && strcmp(channel, "rgb") != 0 && strcmp(channel, "rgba") != 0 &&
        !(is_input && strcmp(channel, "a") == 0))
        return ld_exchange_refuse(ex, LD_E_UNSUPPORTED, 0, no_alpha);
    if (strlen(name) > 64)
        return no_picture(ex);
    return is_input ? view_input(ex, name, channel) : view_output(ex, name);
}

/* ---- Pictures in ----------------------------------------------------------------------------- */

struct form {
    struct ld_span png, original;
};

static enum ld_code read_form(struct ld_exchange *ex, struct form *form, struct ld_error *err)
{
    struct ld_multipart reader;
    struct ld_multipart_part part;
    const char *type = ld_exchange_header(ex, "Content-Type");
    enum ld_code code = ld_multipart_open(&reader, type ? type : "", ex->body, err);
    reader.parts_max = LD_MULTIPART_FORM_PARTS_MAX;
    memset(form, 0, sizeof *form);
    while (code == LD_OK && (code = ld_multipart_next(&reader, &part, err)) == LD_OK && part.found)
        if (ld_span_is(part.name, "image"))
            form->png = part.data;
        else if (ld_span_is(part.name, "original_ref"))
            form->original = part.data;
    if (code == LD_OK && !form->png.data)
        return LD_FAIL(err, LD_E_INVALID, "the form has no field called image");
    return code;
}

static enum ld_handled reply_name(struct ld_exchange *ex, const struct ld_comfy_input *input)
{
    ld_buffer_text(&ex->reply.body, "{\"name\":\"");
    ld_comfy_input_write(input, &ex->reply.body);
    ld_buffer_text(&ex->reply.body, "\",\"subfolder\":\"\",\"type\":\"input\"}");
    return ld_exchange_json(ex, 200);
}

/* The name that it answers with is the upload's id: what LoadImage wants. */
enum ld_handled ld_handle_comfy_upload(struct ld_exchange *ex)
{
    struct form form;
    struct ld_store_upload upload = {0};
    struct ld_comfy_input input = {.image = "", .mask = ""};
    struct ld_error err = {0};
    if (read_form(ex, &form, &err) != LD_OK ||
        ld_intake_upload(ex->front, ex->tenant, form.png, &upload, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    memcpy(input.image, upload.id, sizeof input.image);
    return reply_name(ex, &input);
}

/* ---- A mask for a picture -------------------------------------------------------------------- */

static enum ld_code no_original(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_INVALID, "original_ref names no picture of yours");
}

/* A finished job's picture becomes an upload too: the request that starts from it names one. */
static enum ld_code upload_output(struct ld_exchange *ex, const char *name,
                                  struct ld_store_upload *upload, struct ld_error *err)
{
    struct ld_store_job job;
    const struct ld_image_view *image;
    if (!find_output(ex, name, &job, &image))
        return no_original(err);
    struct ld_buffer bytes = ld_buffer_make(LD_UPLOAD_BYTES_MAX);
    enum ld_code code = ld_blob_read(ex->front->blobs, image->sha256, &bytes, err);
    if (code == LD_OK)
        code = ld_intake_upload(ex->front, ex->tenant, ld_span_of(bytes.data, bytes.size), upload,
                                err);
    ld_buffer_deinit(&bytes);
    return code;
}

/* {"filename", "subfolder": "", "type": "output"}; of a picture that has a mask, the picture. */
static enum ld_code find_original(struct ld_exchange *ex, struct ld_span reference,
                                  struct ld_store_upload *upload, struct ld_error *err)
{
    enum { REFERENCE_DEPTH = 2, REFERENCE_VALUES = 16 };
    struct ld_json_tree tree;
    struct ld_comfy_input input;
    if (!reference.data)
        return LD_FAIL(err, LD_E_INVALID, "the form has no field called original_ref");
    if (ld_json_scan(&tree, reference, REFERENCE_DEPTH, REFERENCE_VALUES, &ex->arena, err) !=
            LD_OK ||
        ld_json_root(&tree)->kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_INVALID,
                       "original_ref must be an object with filename, subfolder and type");
    const char *texts[3] = {"", "", "output"};
    static const char *const names[] = {"filename", "subfolder", "type"};
    for (size_t i = 0; i < 3; i++) {
        const struct ld_json_node *node = ld_lenient_member(&tree, ld_json_root(&tree), names[i]);
        texts[i] = node ? ld_lenient_text(node, &ex->arena) : texts[i];
        if (!texts[i])
            return LD_FAIL(err, LD_E_INVALID, "original_ref.%s must be a string", names[i]);
    }
    if (!texts[0][0])
        return LD_FAIL(err, LD_E_INVALID, "original_ref.filename is required");
    if (texts[1][0])
        return no_original(err);
    if (strcmp(texts[2], "output") == 0 || strcmp(texts[2], "temp") == 0)
        return upload_output(ex, texts[0], upload, err);
    if (strcmp(texts[2], "input") != 0)
        return LD_FAIL(err, LD_E_INVALID, "original_ref.type must be input, output or temp");
    if (!ld_comfy_input_read(texts[0], &input))
        return no_original(err);
    const enum ld_code code =
        ld_store_upload_get(ex->front->store, ex->tenant, input.image, upload, err);
    return code == LD_E_NOT_FOUND ? no_original(err) : code;
}

/* Nothing is decoded here: the kind, the size and PNG's colour type (byte 25; 4 and 6 have alpha)
 * stand at the beginning of the file. */
static enum ld_code check_mask(struct ld_span png, const struct ld_store_upload *original,
                               struct ld_error *err)
{
    enum { COLOUR_TYPE = 25, GREY_ALPHA = 4, RGB_ALPHA = 6 };
    struct ld_picture_header header;
    const enum ld_code code = ld_picture_check_header(&header, png, err);
    if (code != LD_OK)
        return code;
    if (header.kind != LD_PICTURE_PNG ||
        (png.data[COLOUR_TYPE] != GREY_ALPHA && png.data[COLOUR_TYPE] != RGB_ALPHA))
        return LD_FAIL(err, LD_E_INVALID, "image must be a PNG with alpha, which is the mask");
    if (header.width != original->width || header.height != original->height)
        return LD_FAIL(err, LD_E_INVALID, "image must have the original's size, %dx%d, not %dx%d",
                       original->width, original->height, header.width, header.height);
    return LD_OK;
}

/* The picture of original_ref with the alpha of this one, as a name of both: the job that loads it
 * gets the picture and the mask. */
enum ld_handled ld_handle_comfy_upload_mask(struct ld_exchange *ex)
{
    struct form form;
    struct ld_store_upload original = {0}, mask = {0};
    struct ld_comfy_input input = {.image = "", .mask = ""};
    struct ld_error err = {0};
    if (read_form(ex, &form, &err) != LD_OK ||
        find_original(ex, form.original, &original, &err) != LD_OK ||
        check_mask(form.png, &original, &err) != LD_OK ||
        ld_intake_upload(ex->front, ex->tenant, form.png, &mask, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    memcpy(input.image, original.id, sizeof input.image);
    memcpy(input.mask, mask.id, sizeof input.mask);
    return reply_name(ex, &input);
}
