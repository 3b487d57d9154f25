/*
 * Every hard bound of the program (robustness.md 2). Settings may lower a bound, never raise it,
 * and nothing outside this file repeats a number. Units stand at the end of the names.
 */
#ifndef LD_CONFIG_LIMITS_H
#define LD_CONFIG_LIMITS_H

#include <assert.h>
#include <stdint.h>

/* ---- Connections and HTTP -------------------------------------------------------------------- */

enum {
    LD_CONNECTIONS_MAX = 512,
    LD_CONNECTIONS_PER_ADDRESS_MAX = 64,
    LD_REQUESTS_PER_KEY_MAX = 16, /* in flight */
    LD_HEADER_BLOCK_BYTES_MAX = 16 * 1024,
    LD_TARGET_BYTES_MAX = 2 * 1024,
    LD_HEADER_COUNT_MAX = 64,
    LD_HEADER_DEADLINE_S = 10, /* absolute, as are the next three */
    LD_BODY_DEADLINE_S = 15,
    LD_UPLOAD_DEADLINE_S = 60,
    LD_REPLY_DEADLINE_S = 60,
    LD_EVENT_DEADLINE_S = 15, /* to write one event of a stream */
    LD_WAIT_S_MAX = 300,      /* Prefer: wait=N */
    LD_DIALECT_WAIT_S_MAX = 3600,
    LD_UPLOAD_RATE_BYTES_MIN = 16 * 1024, /* per second, after LD_UPLOAD_RATE_GRACE_S */
    LD_UPLOAD_RATE_GRACE_S = 5,
    LD_KEEP_ALIVE_S_MAX = 30,
    LD_REQUESTS_PER_CONNECTION_MAX = 1000,
    LD_BODY_CHUNKS_MAX = 4096
};

/* ---- Bodies ---------------------------------------------------------------------------------- */

enum {
    LD_JSON_BODY_BYTES_MAX = 256 * 1024, /* three prompts of 16 KiB written as \uXXXX fit */
    LD_WEBHOOK_URL_BYTES = 1024,
    LD_JSON_DEPTH = 16,
    LD_JSON_VALUES = 1024,
    LD_JSON_CANONICAL_VALUES =
        2 * LD_JSON_VALUES, /* with all defaults said, between our own parts */
    LD_JSON_IMAGE_BODY_BYTES_MAX = 32 * 1024 * 1024, /* routes that carry base64 images */
    LD_JSON_IMAGES_MAX = 4,
    LD_JSON_GRAPH_VALUES = 8192,
    LD_BODIES_BYTES_MAX = 256 * 1024 * 1024, /* in memory at once, all connections */
    LD_UPLOAD_BYTES_MAX = 32 * 1024 * 1024,
    LD_MULTIPART_PARTS_MAX = 4,       /* of an upload */
    LD_MULTIPART_FORM_PARTS_MAX = 40, /* of a form with fields (OpenAI edits) */
    LD_MULTIPART_HEADER_BYTES_MAX = 1024,
    LD_PNG_TEXT_CHUNKS_MAX = 16,
    LD_PNG_TEXT_BYTES_MAX = 1024 * 1024 /* after inflation */
};

/* ---- What a request may ask for -------------------------------------------------------------- */

enum {
    LD_PROMPT_BYTES_MAX = 16 * 1024,
    LD_TIPO_TEXT_BYTES_MAX = 4 * 1024, /* tipo.text, tipo.avoid */
    LD_PROMPT_CHUNKS_MAX = 16,         /* of 75 tokens */
    LD_PROMPT_NESTING_MAX = 32,
    LD_PROMPT_EXPANSION_BYTES_MAX = 64 * 1024,
    LD_NAME_BYTES_MAX = 128, /* of a model, adapter, embedding, VAE, wildcard */
    LD_TAG_BYTES_MAX = 256,
    LD_USER_DATA_BYTES_MAX = 4 * 1024,
    LD_SIDE_MIN = 64,
    LD_SIDE_MAX = 4096,
    LD_SIDE_STEP = 8,          /* the VAE's reduction */
    LD_SIDE_STEP_ADVISED = 64, /* where no layer of the UNet has an odd size */
    LD_AREA_MAX = 16777216,    /* pixels; a key's limit is at most this */
    LD_AREA_DEFAULT = 3200000,
    LD_UPSCALE_SIDE_MAX = 8192,  /* of an enlarged picture; its area is at most LD_AREA_MAX */
    LD_UPSCALE_MAX = 8,          /* times each side */
    LD_UPSCALE_AREA_FACTOR = 16, /* an enlarged picture may have this much of a key's area limit */
    LD_STEPS_MIN = 1,
    LD_STEPS_MAX = 150,
    LD_IMAGES_MAX = 16,
    LD_CFG_SCALE_MAX = 30,
    LD_CLIP_SKIP_MAX = 12,
    LD_LORAS_MAX = 16,
    LD_CONTROLS_MAX = 3,
    LD_CONTROL_WEIGHT_MAX = 2,
    LD_LORA_WEIGHT_MAX = 4, /* and at least its negative */
    LD_SIGMAS_MIN = 2,
    LD_SIGMAS_MAX = 151,
    LD_WORK_UNIT_PIXELS = 4096, /* a unit is this many pixels for one step */
    LD_WORK_DEFAULT = 120000,
    LD_WORK_MAX = 9830400, /* ceil(LD_AREA_MAX / unit) * LD_STEPS_MAX * LD_IMAGES_MAX */
    LD_SWEEP_CELLS_MAX = 64,
    LD_SWEEP_BYTES_MAX = 64 * 1024, /* the object's JSON */
    LD_WARNINGS_MAX = 32,
    LD_PROBLEM_ITEMS_MAX = 64 /* rejected fields listed in one answer */
};

/* ---- Queue, store, worker -------------------------------------------------------------------- */

enum {
    LD_QUEUED_PER_KEY_MAX = 200,
    LD_QUEUED_MAX = 10000,
    LD_RUNNING_PER_KEY_MAX = 1024, /* 16 workers of 64 jobs */
    LD_MEGAPIXEL_STEPS_PER_DAY_MAX = 1000000000,
    LD_PRIORITY_MAX = 9,
    LD_PRIORITY_DEFAULT = 5,
    LD_EVENT_STREAMS_PER_KEY_MAX = 8,
    LD_EVENTS_KEPT_PER_JOB = 256,
    LD_RETENTION_DAYS_DEFAULT = 7,
    LD_RETENTION_DAYS_MAX = 3650,
    LD_ATTEMPTS_MAX = 3,
    LD_LEASE_S = 30,
    LD_HEARTBEAT_S = 5,
    LD_FRAME_BYTES_MAX = 64 * 1024 * 1024,
    LD_INPUTS_BYTES_MAX = 62 * 1024 * 1024, /* all pictures that one job starts from or follows */
    LD_LOG_LINE_BYTES_MAX = 4 * 1024
};
#define LD_RESULT_BYTES_PER_KEY_MAX (INT64_C(5) * 1024 * 1024 * 1024)

/* ---- Model files ----------------------------------------------------------------------------- */

enum {
    LD_SAFETENSORS_HEADER_BYTES_MAX = 100000000,
    LD_SAFETENSORS_TENSORS_MAX = 100000,
    LD_ADAPTER_RANK_MAX = 1024
};
#define LD_SAFETENSORS_FILE_BYTES_MAX (INT64_C(16) * 1024 * 1024 * 1024)

/* ---- Arenas (style.md 7) --------------------------------------------------------------------- */

enum {
    LD_ARENA_PROCESS_BYTES = 16 * 1024 * 1024,
    LD_ARENA_CONNECTION_BYTES = 64 * 1024,
    LD_ARENA_REQUEST_BYTES = 1024 * 1024, /* a decoded request; the body itself lies outside */
    LD_ARENA_JOB_BYTES = 64 * 1024 * 1024
};

/* ---- Bounds that depend on one another ------------------------------------------------------- */

static_assert(LD_JSON_BODY_BYTES_MAX >= 3 * 3 * (LD_PROMPT_BYTES_MAX + 0),
              "three prompts of two-byte characters written as \\uXXXX fit a body");
static_assert(LD_CONNECTIONS_PER_ADDRESS_MAX <= LD_CONNECTIONS_MAX, "one address, all addresses");
static_assert(LD_QUEUED_PER_KEY_MAX <= LD_QUEUED_MAX, "one key, all keys");
static_assert(LD_JSON_IMAGE_BODY_BYTES_MAX <= LD_BODIES_BYTES_MAX, "one body, all bodies");
static_assert(LD_UPLOAD_BYTES_MAX + 0 < LD_FRAME_BYTES_MAX + 0,
              "an uploaded image fits a worker frame");
static_assert(LD_UPLOAD_BYTES_MAX + 0 <= LD_INPUTS_BYTES_MAX + 0, "an uploaded image fits a job");
static_assert(LD_INPUTS_BYTES_MAX + 2 * 1024 * 1024 <= LD_FRAME_BYTES_MAX + 0,
              "a job's images and its request fit a worker frame");
static_assert(LD_SIDE_MIN % LD_SIDE_STEP == 0 && LD_SIDE_MAX % LD_SIDE_STEP == 0,
              "the smallest and the largest side are themselves legal");
static_assert(LD_SIDE_MAX * LD_SIDE_MAX == LD_AREA_MAX, "the largest square is the largest area");
static_assert(LD_AREA_DEFAULT <= LD_AREA_MAX, "a default lies below its ceiling");
static_assert((LD_AREA_MAX / LD_WORK_UNIT_PIXELS) * LD_STEPS_MAX * LD_IMAGES_MAX == LD_WORK_MAX,
              "the work ceiling is the largest request");
static_assert(LD_WORK_DEFAULT <= LD_WORK_MAX, "a default lies below its ceiling");
static_assert(LD_SIGMAS_MAX == LD_STEPS_MAX + 1, "a sigma list has one value more than steps");
static_assert(2 * LD_HEARTBEAT_S < LD_LEASE_S, "a lease survives one lost heartbeat");
static_assert(LD_JSON_DEPTH <= 64, "the tokenizer's own ceiling");
static_assert(LD_PROMPT_BYTES_MAX <= LD_PROMPT_EXPANSION_BYTES_MAX, "expansion may be a no-op");

#endif
