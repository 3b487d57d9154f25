/*
 * The pictures that a run of `latentd generate` starts from or follows: read from the files of the
 * command line, then given to the engine or sent to a server before the request.
 *
 *     ld_generate_inputs_open(&inputs, &args, arena, &err);
 *     ld_generate_inputs_give(&inputs, &job);   // or ld_generate_inputs_upload
 *     ld_generate_inputs_close(&inputs);
 */
#ifndef LD_SERVER_CMD_GENERATE_INPUTS_H
#define LD_SERVER_CMD_GENERATE_INPUTS_H

#include "server/cmd_generate_args.h"
#include "server/remote.h"

enum { LD_GENERATE_INPUTS_MAX = 2 + LD_REQUEST_CONTROLS_MAX };

/* The bytes of each, empty where there is none, and the id that a server gave it. */
struct ld_generate_inputs {
    struct ld_buffer files[LD_GENERATE_INPUTS_MAX]; /* init, mask, of each unit of control */
    char ids[LD_GENERATE_INPUTS_MAX][LD_ID_SIZE];
};

/*
 * Reads them and names them in args->request by what they hold, so that equal runs carry equal
 * metadata. The units of `control` take the files of --control-image in their order; in a replay
 * those units take them that did not follow the picture of init.
 * Owner    ld_generate_inputs_close, also after an error. The names lie in `arena`.
 * Errors   LD_E_INVALID (a picture is missing, or is too many), LD_E_FORMAT (an empty file), those
 *          of ld_fsx_read_file.
 */
enum ld_code ld_generate_inputs_open(struct ld_generate_inputs *inputs,
                                     struct ld_generate_args *args, struct ld_arena *arena,
                                     struct ld_error *err) LD_MUST_USE;
void ld_generate_inputs_close(struct ld_generate_inputs *inputs);

/* `job` borrows them. */
void ld_generate_inputs_give(const struct ld_generate_inputs *inputs, struct ld_engine_job *job);

/* The request then names them by the ids that the server gave, which lie in `inputs`. Errors those
 * of ld_remote_upload. */
enum ld_code ld_generate_inputs_upload(struct ld_generate_inputs *inputs,
                                       const struct ld_remote *remote, struct ld_request *request,
                                       struct ld_error *err) LD_MUST_USE;

#endif
