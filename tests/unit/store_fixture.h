/*
 * A job store for tests: a real SQLite file in a temporary folder, jobs that are submitted, claimed
 * and ended in one line, and what the store told of its events. All of it fails the test that it is
 * called from.
 */
#ifndef LD_TESTS_STORE_FIXTURE_H
#define LD_TESTS_STORE_FIXTURE_H

#include "server/store.h"

enum { SEEN_EVENTS_MAX = 4096 };

extern char folder[64], path[128]; /* of the running test */
extern struct ld_arena arena;      /* for what it reads */
extern uint64_t seen_ids[SEEN_EVENTS_MAX];
extern uint32_t seen_count;
extern enum ld_event_kind last_kind;

/* A test's set-up and tear-down. */
int start_store_test(void **state);
int stop_store_test(void **state);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, start_store_test, stop_store_test)

/* Of the folder, however often. */
struct ld_store *open_store(void);
/* The same on a machine whose present run has this name. */
struct ld_store *open_store_on(const char *machine_start);

struct ld_store_submit a_submit(const char *tenant);
void submit(struct ld_store *store, const char *tenant, char id[LD_ID_SIZE]);
/* For a worker with eight places, of which none is taken. */
bool claim(struct ld_store *store, struct ld_store_job *job);
struct ld_store_finish an_end(const struct ld_store_job *job, enum ld_job_status status);
enum ld_code finish(struct ld_store *store, const struct ld_store_job *job,
                    enum ld_job_status status, struct ld_store_freed *freed);
enum ld_code add_image(struct ld_store *store, const struct ld_store_job *job, uint32_t index,
                       const char *sha256);
void get(struct ld_store *store, const char *id, struct ld_store_job *job);

#endif
