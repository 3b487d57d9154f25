#include "server/cmd_generate_inputs.h"

#include "runtime/base/fsx.h"

enum { INIT, MASK, CONTROL, FILE_BYTES_MAX = 32 << 20 };

/* Where the request names the picture, and the field that is then given (NULL: control, which is
 * given with its units). */
static const char **name_of(struct ld_request *request, uint32_t index, const char **field)
{
    *field = index == INIT ? "init.image" : index == MASK ? "init.mask" : NULL;
    return index == INIT   ? &request->init.image
           : index == MASK ? &request->init.mask
                           : &request->controls[index - CONTROL].image;
}

/* ---- Which file is whose --------------------------------------------------------------------- */

static enum ld_code check_init(const struct ld_generate_args *args, struct ld_error *err)
{
    if (args->mask_path && !args->init_path)
        return LD_FAIL(err, LD_E_INVALID, "--mask needs --init");
    if (args->request.init.present && !args->init_path && !args->server[0])
        return LD_FAIL(err, LD_E_INVALID, "the init fields need a picture: --init FILE");
    return LD_OK;
}

/* The file of each unit into `paths`; NULL: the unit follows init's picture. */
static enum ld_code share_out(const struct ld_generate_args *args, const char **paths,
                              struct ld_error *err)
{
    const struct ld_request *request = &args->request;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < request->control_count; i++) {
        const bool had_one = request->controls[i].image[0] != '\0';
        const bool takes = (!args->replay || had_one) && taken < args->control_path_count;
        paths[i] = takes ? args->control_paths[taken++] : NULL;
        if (had_one && !takes && !args->server[0])
            return LD_FAIL(err, LD_E_INVALID,
                           "unit %u of control follows a picture of its own: --control-image FILE",
                           i);
    }
    if (taken < args->control_path_count)
        return LD_FAIL(err, LD_E_INVALID,
                       "--control-image was given %u times; %u of --control's units take a file",
                       args->control_path_count, taken);
    return LD_OK;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static enum ld_code read_file(const char *path, struct ld_buffer *bytes, struct ld_error *err)
{
    if (ld_fsx_read_file(path, bytes, err) != LD_OK)
        return LD_FAIL(err, err->code, "'%.200s' cannot be read as an image of at most 32 MiB",
                       path);
    if (bytes->size == 0)
        return LD_FAIL(err, LD_E_FORMAT, "'%.200s' is empty", path);
    return LD_OK;
}

/* An image has no id here; its hash names it, so that equal runs carry equal metadata. */
static const char *content_id(const struct ld_buffer *bytes, struct ld_arena *arena)
{
    char digest[LD_SHA256_HEX_SIZE];
    ld_sha256_hex(ld_span_of(bytes->data, bytes->size), digest);
    const char *id = ld_arena_strndup(arena, digest, LD_ID_LENGTH);
    return id ? id : "";
}

enum ld_code ld_generate_inputs_open(struct ld_generate_inputs *inputs,
                                     struct ld_generate_args *args, struct ld_arena *arena,
                                     struct ld_error *err)
{
    const char *paths[LD_GENERATE_INPUTS_MAX] = {args->init_path, args->mask_path};
    const char *field;
    for (uint32_t i = 0; i < LD_GENERATE_INPUTS_MAX; i++)
        inputs->files[i] = ld_buffer_make(FILE_BYTES_MAX);
    enum ld_code code = check_init(args, err);
    if (code == LD_OK)
        code = share_out(args, paths + CONTROL, err);
    for (uint32_t i = 0; code == LD_OK && i < LD_GENERATE_INPUTS_MAX; i++)
        if (paths[i])
            code = read_file(paths[i], &inputs->files[i], err);
    if (code != LD_OK)
        return code;
    if (args->init_path) {
        ld_request_set_object(&args->request, ld_field_find("init"), true);
        args->request.init.mask = "";
    }
    for (uint32_t i = 0; i < LD_GENERATE_INPUTS_MAX; i++)
        if (paths[i])
            *name_of(&args->request, i, &field) = content_id(&inputs->files[i], arena);
    return LD_OK;
}

void ld_generate_inputs_close(struct ld_generate_inputs *inputs)
{
    for (uint32_t i = 0; i < LD_GENERATE_INPUTS_MAX; i++)
        ld_buffer_deinit(&inputs->files[i]);
}

/* ---- Handing on ------------------------------------------------------------------------------ */

static struct ld_span bytes_of(const struct ld_generate_inputs *inputs, uint32_t index)
{
    return ld_span_of(inputs->files[index].data, inputs->files[index].size);
}

void ld_generate_inputs_give(const struct ld_generate_inputs *inputs, struct ld_engine_job *job)
{
    job->init_image = bytes_of(inputs, INIT);
    job->init_mask = bytes_of(inputs, MASK);
    for (uint32_t i = 0; i < LD_REQUEST_CONTROLS_MAX; i++)
        job->control_images[i] = bytes_of(inputs, CONTROL + i);
}

enum ld_code ld_generate_inputs_upload(struct ld_generate_inputs *inputs,
                                       const struct ld_remote *remote, struct ld_request *request,
                                       struct ld_error *err)
{
    for (uint32_t i = 0; i < LD_GENERATE_INPUTS_MAX; i++) {
        const char *field;
        const char **name = name_of(request, i, &field);
        if (inputs->files[i].size == 0)
            continue;
        if (ld_remote_upload(remote, bytes_of(inputs, i), inputs->ids[i], err) != LD_OK)
            return err->code;
        *name = inputs->ids[i];
        if (field)
            ld_request_mark(request, ld_field_find(field));
    }
    return LD_OK;
}
