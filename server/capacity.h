/*
 * Which jobs can never fit: what the device of every worker has, and what a picture of each size
 * takes there at least, as the workers' inventories tell it (runtime/library_memory.c). Numbers and
 * names only; no device is asked.
 *
 *     ld_capacity_set(capacity, worker, inventory_json);            // whenever a worker has told
 * it if (ld_capacity_check(capacity, &request, &err) != LD_OK) ... // LD_E_GPU_NOMEM: refuse
 *
 * A wrong refusal is worse than none, so whatever is not known speaks for the job: a worker that
 * has not spoken yet or tells no bound, a model without a table, sizes between two steps (the lower
 * one counts). A worker that has died keeps what it told, as it will be back.
 */
#ifndef LD_SERVER_CAPACITY_H
#define LD_SERVER_CAPACITY_H

#include "runtime/params.h"

/* Shared by all threads. */
struct ld_capacity;

/* For `workers` workers (1..LD_WORKERS_MAX), none of which has spoken. Errors   LD_E_NOMEM. */
enum ld_code ld_capacity_create(struct ld_capacity **out, uint32_t workers,
                                struct ld_error *err) LD_MUST_USE;
void ld_capacity_destroy(struct ld_capacity *capacity);

/* What worker `index` told last. An inventory without a readable "memory" has no bound. */
void ld_capacity_set(struct ld_capacity *capacity, uint32_t index, const char *inventory_json);

/*
 * Can a request, resolved as a job, be painted by any worker? Each of its passes counts by itself,
 * with its model and size. Pictures that are only enlarged fit everywhere; of one under deep shrink
 * only the weights and the least picture are sure, as its maps are smaller.
 * Errors   LD_E_GPU_NOMEM: no worker's device has so much. The sentence names the size, what it
 *          takes, what the largest worker has and what fits there; the pointer names the field.
 */
enum ld_code ld_capacity_check(struct ld_capacity *capacity, const struct ld_request *request,
                               struct ld_error *err) LD_MUST_USE;

#endif
