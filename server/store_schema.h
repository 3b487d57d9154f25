/*
 * The tables of the job store and every statement that touches them.
 */
#ifndef LD_SERVER_STORE_SCHEMA_H
#define LD_SERVER_STORE_SCHEMA_H

#include "server/db.h"

enum { LD_STORE_SCHEMA_VERSION = 9 };

/* What ld_store_sql[] holds, in order. */
enum ld_store_sql_index {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVE,
    SQL_RELEASE,
    SQL_UNSAVE,
    SQL_VERSION,
    SQL_NOTE_GET,
    SQL_NOTE_PUT,
    SQL_RECOVER_LIST,
    SQL_SHARE_GET,
    SQL_SHARE_JOIN,
    SQL_SHARE_MOVE,
    SQL_SHARES_WAITING,
    SQL_SHARES_SUMS,
    SQL_SHARES_RESET,
    SQL_SHARES_COUNT,
    SQL_SHARES_LEAST,
    SQL_USAGE_ADD,
    SQL_USAGE_DAY,
    SQL_USAGE_TOTAL,
    SQL_USAGE_EXPIRE,
    SQL_IDEMPOTENCY_GET,
    SQL_IDEMPOTENCY_PUT,
    SQL_IDEMPOTENCY_EXPIRE,
    SQL_JOB_INSERT,
    SQL_JOB_BY_ID,
    SQL_JOB_LIST,
    SQL_JOB_STATUS,
    SQL_JOB_FIRST,
    SQL_JOB_OLDEST,
    SQL_JOB_CLAIM,
    SQL_JOB_FINISH,
    SQL_JOB_REQUEUE,
    SQL_JOB_CANCEL,
    SQL_JOB_DELETE,
    SQL_JOBS_AHEAD,
    SQL_LEASE_EXTEND,
    SQL_QUEUE_COUNTS,
    SQL_IMAGE_PUT,
    SQL_IMAGES_OF_JOB,
    SQL_IMAGES_DELETE,
    SQL_CONTROL_INSERT,
    SQL_CONTROLS_OF_JOB,
    SQL_CONTROLS_DELETE,
    SQL_EXPIRE_LIST,
    SQL_EXPIRE_JOB,
    SQL_TENANT_BYTES,
    SQL_TENANT_OLDEST,
    SQL_TOMBSTONES_DELETE,
    SQL_UPLOADS_EXPIRE_LIST,
    SQL_UPLOAD_DELETE,
    SQL_EVENT_INSERT,
    SQL_EVENT_TRIM,
    SQL_EVENTS_DELETE,
    SQL_EVENTS_OF_JOB,
    SQL_EVENTS_OF_TENANT,
    SQL_UPLOAD_PUT,
    SQL_UPLOAD_TOUCH,
    SQL_UPLOAD_BY_SHA,
    SQL_UPLOAD_BY_ID,
    SQL_UPLOADS_OF_TENANT,
    SQL_BLOB_REFERENCED,
    SQL_CELL_INSERT,
    SQL_CELLS_OF_JOB,
    SQL_CELL_PARENT,
    SQL_COUNT
};

extern const char *const ld_store_sql[SQL_COUNT];

/*
 * Bring a database to the present schema (an empty one: create it).
 * Errors   LD_E_UNSUPPORTED (a newer version wrote it), those of ld_db_exec.
 */
enum ld_code ld_store_migrate(struct ld_db *db, struct ld_error *err) LD_MUST_USE;

#endif
