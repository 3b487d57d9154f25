#include "server/store_schema.h"

#include "runtime/base/log.h"

/*
 * Status numbers are enum ld_job_status: 0 queued, 1 running, 2 succeeded, 3 failed, 4 cancelling,
 * 5 cancelled, 6 expired. Times are wall microseconds but lease_until (monotonic: an owner's own).
 * Seeds and tokens are 64 unsigned bits in a signed column.
 */
static const char *const schema_1 =
    "CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE jobs ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " tenant TEXT NOT NULL,"
    " status INTEGER NOT NULL,"
    " priority INTEGER NOT NULL,"
    " work INTEGER NOT NULL,"
    " created INTEGER NOT NULL,"
    " started INTEGER NOT NULL DEFAULT 0,"
    " finished INTEGER NOT NULL DEFAULT 0,"
    " attempt INTEGER NOT NULL DEFAULT 0,"
    " token INTEGER NOT NULL DEFAULT 0,"
    " lease_until INTEGER NOT NULL DEFAULT 0,"
    " suspect INTEGER NOT NULL DEFAULT 0,"
    " keep_partial INTEGER NOT NULL DEFAULT 0,"
    " request TEXT NOT NULL,"
    " warnings TEXT NOT NULL,"
    " adapters TEXT NOT NULL DEFAULT '',"
    " init_sha256 TEXT NOT NULL,"
    " mask_sha256 TEXT NOT NULL,"
    " error_code TEXT NOT NULL DEFAULT '',"
    " error_detail TEXT NOT NULL DEFAULT '',"
    " text_us INTEGER NOT NULL DEFAULT -1,"
    " sample_us INTEGER NOT NULL DEFAULT -1,"
    " decode_us INTEGER NOT NULL DEFAULT -1,"
    " encode_us INTEGER NOT NULL DEFAULT -1,"
    " unet_rows INTEGER NOT NULL DEFAULT 0,"
    " unet_rows_saved INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX jobs_ready ON jobs (priority DESC, seq) WHERE status = 0;"
    "CREATE INDEX jobs_queued_tenant ON jobs (tenant) WHERE status = 0;"
    "CREATE INDEX jobs_active ON jobs (token) WHERE status IN (1, 4);"
    "CREATE INDEX jobs_of_tenant ON jobs (tenant, seq);"
    "CREATE INDEX jobs_finished ON jobs (finished) WHERE status IN (2, 3, 5, 6);"
    "CREATE INDEX jobs_init ON jobs (init_sha256) WHERE init_sha256 <> '';"
    "CREATE INDEX jobs_mask ON jobs (mask_sha256) WHERE mask_sha256 <> '';"
    "CREATE TABLE images ("
    " job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,"
    " number INTEGER NOT NULL,"
    " sha256 TEXT NOT NULL,"
    " bytes INTEGER NOT NULL,"
    " width INTEGER NOT NULL,"
    " height INTEGER NOT NULL,"
    " seed INTEGER NOT NULL,"
    " partial INTEGER NOT NULL,"
    " PRIMARY KEY (job, number)) WITHOUT ROWID;"
    "CREATE INDEX images_sha256 ON images (sha256);"
    "CREATE TABLE events ("
    " id INTEGER PRIMARY KEY,"
    " job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,"
    " kind INTEGER NOT NULL,"
    " json TEXT NOT NULL);"
    "CREATE INDEX events_of_job ON events (job, id);"
    "CREATE TABLE idempotency ("
    " tenant TEXT NOT NULL,"
    " key TEXT NOT NULL,"
    " body_sha256 TEXT NOT NULL,"
    " job_id TEXT NOT NULL,"
    " created INTEGER NOT NULL,"
    " PRIMARY KEY (tenant, key)) WITHOUT ROWID;"
    "CREATE INDEX idempotency_created ON idempotency (created);"
    "CREATE TABLE uploads ("
    " id TEXT NOT NULL," /* the digest's beginning, so equal requests carry equal text */
    " tenant TEXT NOT NULL,"
    " sha256 TEXT NOT NULL,"
    " bytes INTEGER NOT NULL,"
    " width INTEGER NOT NULL,"
    " height INTEGER NOT NULL,"
    " used INTEGER NOT NULL,"
    " UNIQUE (tenant, sha256));"
    "CREATE INDEX uploads_sha256 ON uploads (sha256);"
    "CREATE INDEX uploads_used ON uploads (used);";

/* The cells of sweeps: `parent` is the sweep's job, `child` the job that paints cell `number`. A
 * row outlives its child, so that a deleted cell is known as such. */
static const char *const schema_2 =
    "CREATE TABLE cells ("
    " parent INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,"
    " number INTEGER NOT NULL,"
    " child INTEGER NOT NULL,"
    " PRIMARY KEY (parent, number)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX cells_child ON cells (child);";

/*
 * shares: how the keys stand in the fair queue (server/fair.h); the counts follow the jobs in the
 * same transactions. usage: what a key had by day (since 1970, UTC).
 */
static const char *const schema_3 =
    "ALTER TABLE jobs ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;"
    "UPDATE jobs SET cost = 2 * work;"
    "DROP INDEX jobs_ready;"
    "DROP INDEX jobs_queued_tenant;"
    "CREATE INDEX jobs_turn ON jobs (tenant, priority DESC, seq) WHERE status = 0;"
    "CREATE TABLE shares ("
    " tenant TEXT PRIMARY KEY,"
    " vtime INTEGER NOT NULL,"
    " turns INTEGER NOT NULL DEFAULT 0,"
    " queued INTEGER NOT NULL DEFAULT 0,"
    " queued_cost INTEGER NOT NULL DEFAULT 0,"
    " running INTEGER NOT NULL DEFAULT 0,"
    " running_cost INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE INDEX shares_waiting ON shares (vtime) WHERE queued > 0;"
    "CREATE TABLE usage ("
    " tenant TEXT NOT NULL,"
    " day INTEGER NOT NULL,"
    " jobs INTEGER NOT NULL DEFAULT 0,"
    " images INTEGER NOT NULL DEFAULT 0,"
    " work INTEGER NOT NULL DEFAULT 0,"
    " compute_us INTEGER NOT NULL DEFAULT 0,"
    " PRIMARY KEY (tenant, day)) WITHOUT ROWID;"
    "CREATE INDEX usage_day ON usage (day);";

/* What computed a job's pictures: the report's `numerics`, and how often bf16 took over. */
static const char *const schema_4 =
    "ALTER TABLE jobs ADD COLUMN numerics TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE jobs ADD COLUMN repainted INTEGER NOT NULL DEFAULT 0;";

/* What lies before a job in its own key's queue is counted and summed over its own rows, found by
 * the index. (SQLite 3.40 reads their cost from the table: 15 ms for 100,000 waiting jobs.) */
static const char *const schema_5 =
    "DROP INDEX jobs_turn;"
    "CREATE INDEX jobs_turn ON jobs (tenant, priority DESC, seq, cost) WHERE status = 0;";

/* The oldest waiting job is found without the others. */
static const char *const schema_6 = "CREATE INDEX jobs_age ON jobs (created) WHERE status = 0;";

/* A key's oldest waiting job is found without its finished ones. */
static const char *const schema_7 =
    "CREATE INDEX jobs_oldest ON jobs (tenant, seq) WHERE status = 0;";

/* What a picture's file is; all were PNGs before. */
static const char *const schema_8 =
    "ALTER TABLE images ADD COLUMN format TEXT NOT NULL DEFAULT 'png';";

/* The pictures of ControlNet units: `number` is the unit's. A unit without one has no row. */
static const char *const schema_9 = "CREATE TABLE controls ("
                                    " job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,"
                                    " number INTEGER NOT NULL,"
                                    " sha256 TEXT NOT NULL,"
                                    " PRIMARY KEY (job, number)) WITHOUT ROWID;"
                                    "CREATE INDEX controls_sha256 ON controls (sha256);";

#define JOB_COLUMNS                                                                                \
    "id, tenant, status, priority, work, created, started, finished, attempt, token, suspect,"     \
    " keep_partial, request, warnings, adapters, init_sha256, mask_sha256, error_code,"            \
    " error_detail, text_us, sample_us, decode_us, encode_us, unet_rows, unet_rows_saved, seq,"    \
    " (SELECT parent.id FROM cells JOIN jobs AS parent ON parent.seq = cells.parent"               \
    "  WHERE cells.child = jobs.seq), cost, numerics, repainted"

const char *const ld_store_sql[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_SAVE] = "SAVEPOINT one",
    [SQL_RELEASE] = "RELEASE one",
    [SQL_UNSAVE] = "ROLLBACK TO one",
    [SQL_VERSION] = "PRAGMA user_version",
    [SQL_NOTE_GET] = "SELECT text FROM notes WHERE name = ?1",
    [SQL_NOTE_PUT] = "INSERT INTO notes (name, text) VALUES (?1, ?2)"
                     " ON CONFLICT (name) DO UPDATE SET text = ?2",
    [SQL_RECOVER_LIST] = "SELECT id, token, suspect FROM jobs WHERE status IN (1, 4) AND token <> 0"
                         " ORDER BY seq",
    [SQL_SHARE_GET] = "SELECT vtime, turns, queued, queued_cost, running, running_cost FROM shares"
                      " WHERE tenant = ?1",
    /* a key whose queue was empty goes on at the present virtual time (?2) at the earliest */
    [SQL_SHARE_JOIN] = "INSERT INTO shares (tenant, vtime, queued, queued_cost)"
                       " VALUES (?1, ?2, 1, ?3) ON CONFLICT (tenant) DO UPDATE SET"
                       " vtime = CASE WHEN queued = 0 THEN MAX(vtime, ?2) ELSE vtime END,"
                       " queued = queued + 1, queued_cost = queued_cost + ?3",
    [SQL_SHARE_MOVE] = "UPDATE shares SET queued = queued + ?2, queued_cost = queued_cost + ?3,"
                       " running = running + ?4, running_cost = running_cost + ?5,"
                       " vtime = vtime + ?6, turns = turns + ?7 WHERE tenant = ?1",
    [SQL_SHARES_WAITING] =
        "SELECT tenant, vtime, turns, queued, queued_cost, running FROM (SELECT *"
        " FROM shares WHERE queued > 0 ORDER BY vtime LIMIT ?1) ORDER BY tenant",
    [SQL_SHARES_SUMS] = "SELECT SUM(queued), SUM(running_cost) FROM shares",
    [SQL_SHARES_RESET] = "UPDATE shares SET queued = 0, queued_cost = 0, running = 0,"
                         " running_cost = 0",
    [SQL_SHARES_COUNT] = "INSERT INTO shares (tenant, vtime, queued, queued_cost)"
                         " SELECT tenant, ?1, COUNT(*), SUM(cost) FROM jobs WHERE status = 0"
                         " GROUP BY tenant ON CONFLICT (tenant) DO UPDATE SET"
                         " queued = excluded.queued, queued_cost = excluded.queued_cost",
    [SQL_SHARES_LEAST] = "SELECT COALESCE((SELECT MIN(vtime) FROM shares WHERE tenant IN"
                         " (SELECT tenant FROM jobs WHERE status = 0)),"
                         " (SELECT MAX(vtime) FROM shares), 0)",
    [SQL_USAGE_ADD] = "INSERT INTO usage (tenant, day, jobs, images, work, compute_us)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant, day) DO UPDATE SET"
                      " jobs = jobs + ?3, images = images + ?4, work = work + ?5,"
                      " compute_us = compute_us + ?6",
    [SQL_USAGE_DAY] = "SELECT jobs, images, work, compute_us FROM usage"
                      " WHERE tenant = ?1 AND day = ?2",
    [SQL_USAGE_TOTAL] = "SELECT SUM(jobs), SUM(images), SUM(work), SUM(compute_us) FROM usage"
                        " WHERE tenant = ?1",
    [SQL_USAGE_EXPIRE] = "DELETE FROM usage WHERE day < ?1",
    [SQL_IDEMPOTENCY_GET] = "SELECT body_sha256, job_id FROM idempotency"
                            " WHERE tenant = ?1 AND key = ?2 AND created >= ?3",
    [SQL_IDEMPOTENCY_PUT] = "INSERT OR REPLACE INTO idempotency"
                            " (tenant, key, body_sha256, job_id, created)"
                            " VALUES (?1, ?2, ?3, ?4, ?5)",
    [SQL_IDEMPOTENCY_EXPIRE] = "DELETE FROM idempotency WHERE created < ?1",
    [SQL_JOB_INSERT] = "INSERT INTO jobs (id, tenant, status, priority, work, created, request,"
                       " warnings, init_sha256, mask_sha256, cost)"
                       " VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    /* another tenant's job is left where its tenant is read: that takes as long as an absent one */
    [SQL_JOB_BY_ID] =
        "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)",
    [SQL_JOB_LIST] = "SELECT " JOB_COLUMNS " FROM jobs"
                     " WHERE tenant = ?1 AND seq < ?2 AND (?3 < 0 OR status = ?3)"
                     " AND NOT EXISTS (SELECT 1 FROM cells WHERE child = jobs.seq)"
                     " ORDER BY seq DESC LIMIT ?4",
    [SQL_JOB_STATUS] = "SELECT seq, status, tenant, token, attempt, keep_partial, priority,"
                       " cost, work, created FROM jobs WHERE id = ?1",
    /* A sweep waits for its cells. */
    [SQL_JOB_FIRST] = "SELECT seq, suspect, id FROM jobs WHERE tenant = ?1 AND status = 0"
                      " AND NOT EXISTS (SELECT 1 FROM cells JOIN jobs AS cell"
                      "  ON cell.seq = cells.child WHERE cells.parent = jobs.seq"
                      "  AND cell.status IN (0, 1, 4))"
                      " ORDER BY priority DESC, seq LIMIT 1",
    [SQL_JOB_OLDEST] = "SELECT seq, suspect, id FROM jobs WHERE tenant = ?1 AND status = 0"
                       " AND NOT EXISTS (SELECT 1 FROM cells JOIN jobs AS cell"
                       "  ON cell.seq = cells.child WHERE cells.parent = jobs.seq"
                       "  AND cell.status IN (0, 1, 4))"
                       " ORDER BY seq LIMIT 1",
    [SQL_JOB_CLAIM] = "UPDATE jobs SET status = 1, token = ?2, lease_until = ?3,"
                      " attempt = attempt + 1, started = ?4 WHERE id = ?1 AND status = 0",
    [SQL_JOB_FINISH] = "UPDATE jobs SET status = ?2, finished = ?3, token = 0, suspect = 0,"
                       " error_code = ?4, error_detail = ?5, text_us = ?6, sample_us = ?7,"
                       " decode_us = ?8, encode_us = ?9, unet_rows = ?10, unet_rows_saved = ?11,"
                       " adapters = ?12,"
                       /* the worker's come behind those of the front */
                       " warnings = CASE WHEN ?13 IN ('', '[]') THEN warnings"
                       " WHEN warnings IN ('', '[]') THEN ?13"
                       " ELSE substr(warnings, 1, length(warnings) - 1) || ',' || substr(?13, 2)"
                       " END,"
                       " request = CASE ?14 WHEN '' THEN request ELSE ?14 END,"
                       " numerics = ?15, repainted = ?16"
                       " WHERE id = ?1",
    [SQL_JOB_REQUEUE] = "UPDATE jobs SET status = 0, token = 0, started = 0, attempt = ?2,"
                        " suspect = ?3 WHERE id = ?1",
    [SQL_JOB_CANCEL] =
        "UPDATE jobs SET status = ?2, finished = ?3, keep_partial = ?4 WHERE id = ?1",
    [SQL_JOB_DELETE] = "DELETE FROM jobs WHERE id = ?1",
    /* two ranges of the index, none of which is read beyond the job's own place */
    [SQL_JOBS_AHEAD] = "SELECT COUNT(*), SUM(cost) FROM"
                       " (SELECT cost FROM jobs WHERE tenant = ?1 AND status = 0 AND priority > ?2"
                       "  UNION ALL SELECT cost FROM jobs WHERE tenant = ?1 AND status = 0"
                       "  AND priority = ?2 AND seq < ?3)",
    [SQL_LEASE_EXTEND] = "UPDATE jobs SET lease_until = ?2 WHERE token = ?1 AND status IN (1, 4)",
    /* few run, and the oldest is the first of its index: no matter how many wait */
    [SQL_QUEUE_COUNTS] = "SELECT (SELECT COUNT(*) FROM jobs WHERE status IN (1, 4)),"
                         " (SELECT MIN(created) FROM jobs WHERE status = 0)",
    [SQL_IMAGE_PUT] = "INSERT OR REPLACE INTO images"
                      " (job, number, sha256, bytes, width, height, seed, partial, format)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [SQL_IMAGES_OF_JOB] = "SELECT number, sha256, bytes, width, height, seed, partial, format"
                          " FROM images WHERE job = ?1 ORDER BY number",
    [SQL_IMAGES_DELETE] = "DELETE FROM images WHERE job = ?1",
    [SQL_CONTROL_INSERT] = "INSERT INTO controls (job, number, sha256)"
                           " SELECT seq, ?2, ?3 FROM jobs WHERE id = ?1",
    [SQL_CONTROLS_OF_JOB] = "SELECT number, sha256 FROM controls WHERE job = ?1 ORDER BY number",
    [SQL_CONTROLS_DELETE] = "DELETE FROM controls WHERE job = ?1",
    [SQL_EXPIRE_LIST] = "SELECT seq, init_sha256, mask_sha256 FROM jobs"
                        " WHERE status IN (2, 3, 5, 6) AND finished < ?1 AND status <> 6"
                        " ORDER BY finished LIMIT ?2",
    [SQL_EXPIRE_JOB] = "UPDATE jobs SET status = 6, request = '{}', warnings = '', adapters = '',"
                       " init_sha256 = '', mask_sha256 = '', error_detail = '' WHERE seq = ?1",
    [SQL_TENANT_BYTES] = "SELECT jobs.tenant, SUM(images.bytes) FROM images"
                         " JOIN jobs ON jobs.seq = images.job GROUP BY jobs.tenant"
                         " HAVING SUM(images.bytes) > ?1",
    [SQL_TENANT_OLDEST] = "SELECT jobs.seq, init_sha256, mask_sha256,"
                          " (SELECT SUM(bytes) FROM images WHERE job = jobs.seq) FROM jobs"
                          " WHERE tenant = ?1 AND status IN (2, 3, 5)"
                          " AND EXISTS (SELECT 1 FROM images WHERE job = jobs.seq)"
                          " ORDER BY jobs.seq LIMIT ?2",
    [SQL_TOMBSTONES_DELETE] = "DELETE FROM jobs WHERE status = 6 AND finished < ?1",
    [SQL_UPLOADS_EXPIRE_LIST] = "SELECT id, sha256 FROM uploads WHERE used < ?1 LIMIT ?2",
    [SQL_UPLOAD_DELETE] = "DELETE FROM uploads WHERE id = ?1 AND used < ?2",
    [SQL_EVENT_INSERT] = "INSERT INTO events (id, job, kind, json) VALUES (?1, ?2, ?3, ?4)",
    [SQL_EVENT_TRIM] = "DELETE FROM events WHERE job = ?1 AND id <= (SELECT id FROM events"
                       " WHERE job = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    [SQL_EVENTS_DELETE] = "DELETE FROM events WHERE job = ?1",
    [SQL_EVENTS_OF_JOB] = "SELECT events.id, events.kind, events.json, jobs.id FROM events"
                          " JOIN jobs ON jobs.seq = events.job"
                          " WHERE jobs.id = ?1 AND jobs.tenant = ?2 AND events.id > ?3"
                          " ORDER BY events.id LIMIT ?4",
    [SQL_EVENTS_OF_TENANT] = "SELECT events.id, events.kind, events.json, jobs.id FROM events"
                             " JOIN jobs ON jobs.seq = events.job"
                             " WHERE ?1 = '' AND jobs.tenant = ?2 AND events.id > ?3"
                             " ORDER BY events.id LIMIT ?4",
    [SQL_UPLOAD_PUT] = "INSERT INTO uploads (id, tenant, sha256, bytes, width, height, used)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                       " ON CONFLICT (tenant, sha256) DO UPDATE SET used = ?7",
    [SQL_UPLOAD_TOUCH] = "UPDATE uploads SET used = ?3 WHERE tenant = ?1 AND sha256 = ?2",
    [SQL_UPLOAD_BY_SHA] = "SELECT id, sha256, bytes, width, height FROM uploads"
                          " WHERE tenant = ?1 AND sha256 = ?2",
    [SQL_UPLOAD_BY_ID] = "SELECT id, sha256, bytes, width, height FROM uploads"
                         " WHERE tenant = ?1 AND id = ?2",
    [SQL_UPLOADS_OF_TENANT] = "SELECT id, sha256, bytes, width, height FROM uploads"
                              " WHERE tenant = ?1 ORDER BY used DESC LIMIT ?2",
    [SQL_BLOB_REFERENCED] = "SELECT EXISTS (SELECT 1 FROM images WHERE sha256 = ?1)"
                            " OR EXISTS (SELECT 1 FROM uploads WHERE sha256 = ?1)"
                            " OR EXISTS (SELECT 1 FROM controls WHERE sha256 = ?1)"
                            " OR EXISTS (SELECT 1 FROM jobs WHERE init_sha256 = ?1"
                            "  AND init_sha256 <> '')"
                            " OR EXISTS (SELECT 1 FROM jobs WHERE mask_sha256 = ?1"
                            "  AND mask_sha256 <> '')",
    [SQL_CELL_INSERT] = "INSERT INTO cells (parent, number, child)"
                        " SELECT parent.seq, ?2, child.seq FROM jobs AS parent, jobs AS child"
                        " WHERE parent.id = ?1 AND child.id = ?3",
    [SQL_CELLS_OF_JOB] = "SELECT jobs.id, jobs.status, images.sha256, images.width, images.height,"
                         " jobs.error_code, jobs.error_detail, jobs.unet_rows,"
                         " jobs.unet_rows_saved FROM cells"
                         " LEFT JOIN jobs ON jobs.seq = cells.child"
                         " LEFT JOIN images ON images.job = cells.child AND images.number = 0"
                         " WHERE cells.parent = ?1 ORDER BY cells.number",
    [SQL_CELL_PARENT] = "SELECT parent.id FROM cells JOIN jobs AS parent"
                        " ON parent.seq = cells.parent WHERE cells.child = ?1",
};

enum ld_code ld_store_migrate(struct ld_db *db, struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_db_use(db, SQL_VERSION, err);
    if (!query)
        return err->code;
    enum ld_code code = ld_db_step(query, &row, err);
    const int64_t version = code == LD_OK && row ? ld_db_int(query, 0) : 0;
    ld_db_done(query);
    if (code != LD_OK)
        return code;
    if (version > LD_STORE_SCHEMA_VERSION)
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the job store was written by a newer version (schema %lld, known %d)",
                       (long long)version, LD_STORE_SCHEMA_VERSION);
    if (version == LD_STORE_SCHEMA_VERSION)
        return LD_OK;
    static const struct {
        const char *tables, *mark;
    } steps[LD_STORE_SCHEMA_VERSION] = {
        {schema_1, "PRAGMA user_version = 1"}, {schema_2, "PRAGMA user_version = 2"},
        {schema_3, "PRAGMA user_version = 3"}, {schema_4, "PRAGMA user_version = 4"},
        {schema_5, "PRAGMA user_version = 5"}, {schema_6, "PRAGMA user_version = 6"},
        {schema_7, "PRAGMA user_version = 7"}, {schema_8, "PRAGMA user_version = 8"},
        {schema_9, "PRAGMA user_version = 9"}};
    /* All or nothing: a start that is killed here finds the old state again. */
    if ((code = ld_db_exec(db, "BEGIN EXCLUSIVE", err)) != LD_OK)
        return code;
    for (int64_t i = version; code == LD_OK && i < LD_STORE_SCHEMA_VERSION; i++)
        if ((code = ld_db_exec(db, steps[i].tables, err)) == LD_OK)
            code = ld_db_exec(db, steps[i].mark, err);
    if (code == LD_OK)
        code = ld_db_exec(db, "COMMIT", err);
    if (code != LD_OK && ld_db_exec(db, "ROLLBACK", NULL) != LD_OK)
        LD_LOG(LD_LOG_WARN, "store", "the schema could not be taken back");
    if (code == LD_OK)
        LD_LOG(LD_LOG_INFO, "store", "schema brought up to date",
               ld_log_int("version", LD_STORE_SCHEMA_VERSION));
    return code;
}
