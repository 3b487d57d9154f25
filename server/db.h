/*
 * The few calls of SQLite that the job store needs, with our errors. Implemented in
 * store_sqlite.c, the only file that knows the library.
 *
 * A database is given a table of statements once; ld_db_use prepares one at its first use and
 * keeps it. A statement is used as: use, bind, step until no row, done.
 *
 *     struct ld_db_query *q = ld_db_use(db, SQL_JOB_BY_ID, err);
 *     ld_db_bind_text(q, 1, id);
 *     code = ld_db_step(q, &row, err);
 *     ... ld_db_int(q, 0) ...
 *     ld_db_done(q);
 */
#ifndef LD_SERVER_DB_H
#define LD_SERVER_DB_H

#include "runtime/base/bytes.h"

struct ld_db; /* one connection, one thread at a time */
struct ld_db_query;

/*
 * Open for writing (WAL, synchronous=FULL, foreign keys, secure_delete, no mmap) or for reading
 * only. `statements` is borrowed for the connection's life.
 * Errors   LD_E_IO, LD_E_FORMAT (not a database), LD_E_NOSPACE, LD_E_NOMEM.
 */
enum ld_code ld_db_open(struct ld_db **db, const char *path, bool read_only,
                        const char *const *statements, uint32_t statement_count,
                        struct ld_error *err) LD_MUST_USE;
void ld_db_close(struct ld_db *db);

/*
 * Run statements without results; text is ours, never a request's.
 * Errors of this and of step: LD_E_NOSPACE (disk full), LD_E_CONFLICT (constraint), LD_E_NOMEM,
 * LD_E_FORMAT (corrupt), LD_E_IO. After LD_E_FORMAT, or LD_E_IO from a flush, ld_db_is_broken.
 */
enum ld_code ld_db_exec(struct ld_db *db, const char *sql, struct ld_error *err) LD_MUST_USE;

/* NULL (and `err`) if the statement cannot be prepared. */
struct ld_db_query *ld_db_use(struct ld_db *db, uint32_t statement, struct ld_error *err);
void ld_db_bind_int(struct ld_db_query *query, int index, int64_t value);
/* Copies; NULL binds NULL. */
void ld_db_bind_text(struct ld_db_query *query, int index, const char *text);
enum ld_code ld_db_step(struct ld_db_query *query, bool *row, struct ld_error *err) LD_MUST_USE;
int64_t ld_db_int(struct ld_db_query *query, int column);
/* Borrowed until the next step or done; "" for NULL. */
const char *ld_db_text(struct ld_db_query *query, int column);
/* Whether one of the texts since the last call was "" because there was no memory for it. */
bool ld_db_text_lost(struct ld_db *db);
struct ld_db *ld_db_of(const struct ld_db_query *query);
void ld_db_done(struct ld_db_query *query);

/* Rows that the last statement changed; that all of the connection's have changed. */
int64_t ld_db_changes(const struct ld_db *db);
int64_t ld_db_changes_ever(const struct ld_db *db);
int64_t ld_db_last_row(const struct ld_db *db);

/* The file or the disk under it can no longer be trusted: the process must end and reopen it. */
bool ld_db_is_broken(const struct ld_db *db);

/*
 * Whether commits of a writer wait for the disk (at first they do). Not inside a transaction.
 * Without it a commit survives the death of the process, not that of the machine, until the next
 * one that waits or ld_db_flush. Source: SQLite, PRAGMA synchronous (FULL, NORMAL) in WAL mode.
 */
enum ld_code ld_db_commit_waits(struct ld_db *db, bool waits, struct ld_error *err) LD_MUST_USE;

/* What was committed without waiting reaches the disk. Errors   LD_E_IO: ld_db_is_broken. */
enum ld_code ld_db_flush(struct ld_db *db, struct ld_error *err) LD_MUST_USE;

/* Opening is over: damage found from now on is LD_E_IO, no longer LD_E_FORMAT. */
void ld_db_serve(struct ld_db *db);

#endif
