/*
 * What went wrong, as the client is told: the only table from error codes to HTTP statuses, and the
 * RFC 9457 document with every rejected field.
 *
 *     struct ld_problem problem = ld_problem_none(arena);
 *     ld_problem_add(&problem, LD_E_RANGE, "/steps", "steps must be between 1 and 150");
 *     if (problem.code != LD_OK)
 *         ld_problem_write(&problem, instance, &out);   // with status ld_problem_status(&problem)
 */
#ifndef LD_API_PROBLEM_H
#define LD_API_PROBLEM_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

enum { LD_PROBLEM_ITEMS = 64 };

struct ld_problem_item {
    const char *pointer; /* JSON pointer, "" for the whole body */
    const char *message;
};

/* Texts live in `arena`; where it is full the item is counted in `dropped`. */
struct ld_problem {
    struct ld_arena *arena;
    enum ld_code code; /* of the first problem; LD_OK: none */
    int status;        /* 0: from the code; else overrides it (405, 410, 415, ...) */
    const char *name;  /* ends `type`; NULL: from the code */
    char detail[LD_ERROR_DETAIL_SIZE]; /* the first sentence */
    struct ld_problem_item items[LD_PROBLEM_ITEMS];
    uint32_t item_count;
    uint32_t dropped;
    uint32_t retry_after_s; /* 0: none */
};

void ld_problem_init(struct ld_problem *problem, struct ld_arena *arena);

/* Add one rejected field; returns `code`. The message is formatted. */
enum ld_code ld_problem_add(struct ld_problem *problem, enum ld_code code, const char *pointer,
                            const char *format, ...) LD_PRINTF(4, 5);
/* Add an error value; `pointer` NULL: the error's own. Returns err->code. */
enum ld_code ld_problem_add_error(struct ld_problem *problem, const char *pointer,
                                  const struct ld_error *err);

/* ---- Statuses -------------------------------------------------------------------------------- */

/* The one place where a code becomes an HTTP status. */
int ld_code_status(enum ld_code code);
/* Of a job's stored error code ("worker_crash", "storage_full", ...); 500 if unknown. */
int ld_job_error_status(const char *name);
int ld_problem_status(const struct ld_problem *problem);
/* Seconds for Retry-After, 0 where a retry has no use. */
uint32_t ld_problem_retry_after(const struct ld_problem *problem);
/* "Unprocessable Content" for 422; "Error" if unknown. */
const char *ld_status_title(int status);

/* The name that ends `type` and stands in job.error.code: "invalid", "queue_full", ... */
const char *ld_problem_name(const struct ld_problem *problem);

/*
 * {"type","title","status","detail","instance","errors":[{"pointer","message"}]}. `instance` may be
 * NULL. Texts that must not leave (file names, addresses) are kept out by whoever wrote them.
 */
void ld_problem_write(const struct ld_problem *problem, const char *instance,
                      struct ld_buffer *out);
/* The same for a stored job error. */
void ld_problem_write_job_error(const char *name, const char *detail, const char *instance,
                                struct ld_buffer *out);

#endif
