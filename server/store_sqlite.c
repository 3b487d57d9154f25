#include "server/db.h"

#include "runtime/base/arena.h"
#include "runtime/base/log.h"

#include <sqlite3.h>

struct ld_db_query {
    sqlite3_stmt *statement;
    struct ld_db *db;
    bool unbound; /* a value was lost on its way in */
};

struct ld_db {
    sqlite3 *handle;
    const char *const *statements;
    uint32_t statement_count;
    struct ld_db_query *queries; /* one a statement, prepared at first use */
    bool broken, serving;
    bool text_lost; /* since ld_db_text_lost */
};

/* The library's own text may name files and SQL: it goes to the log, not into the sentence. */
static enum ld_code fail(struct ld_db *db, int result, struct ld_error *err)
{
    const int extended = db->handle ? sqlite3_extended_errcode(db->handle) : result;
    enum ld_code code = LD_E_IO;
    const char *sentence = "the job store could not be read or written";
    switch (result & 0xFF) {
    case SQLITE_FULL:
        code = LD_E_NOSPACE;
        sentence = "the disk of the job store is full";
        break;
    case SQLITE_CONSTRAINT:
        code = LD_E_CONFLICT;
        sentence = "the job store holds such a record already";
        break;
    case SQLITE_NOMEM:
        code = LD_E_NOMEM;
        sentence = "out of memory";
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = db->serving ? LD_E_IO : LD_E_FORMAT; /* no caller's fault */
        sentence = "the job store is damaged";
        db->broken = true;
        break;
    default:
        /* After a failed flush nobody knows what is on the disk. */
        if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC)
            db->broken = true;
        break;
    }
    LD_LOG(LD_LOG_WARN, "store", sentence, ld_log_int("sqlite", extended),
           ld_log_text("text", db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(result)));
    return LD_FAIL_OS(err, code, extended, "%s", sentence);
}

static enum ld_code configure(struct ld_db *db, bool read_only, struct ld_error *err)
{
    /* journal_mode answers a row and must be asked for outside a transaction. busy_timeout stays 0:
     * there is one writer, so a busy database means a mistake, not a wait. */
    const char *const writer = "PRAGMA journal_mode=WAL;"
                               "PRAGMA synchronous=FULL;"
                               "PRAGMA foreign_keys=ON;"
                               "PRAGMA secure_delete=ON;"
                               "PRAGMA mmap_size=0;"
                               "PRAGMA temp_store=MEMORY;";
    /* The first read opens the log beside the database: now, not when descriptors are short. */
    const char *const reader = "PRAGMA query_only=ON; PRAGMA mmap_size=0; PRAGMA schema_version;";
    return ld_db_exec(db, read_only ? reader : writer, err);
}

enum ld_code ld_db_open(struct ld_db **out, const char *path, bool read_only,
                        const char *const *statements, uint32_t statement_count,
                        struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct ld_db *db = ld_heap_alloc(sizeof *db);
    *out = NULL;
    if (!db)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    db->statements = statements;
    db->statement_count = statement_count;
    db->queries = ld_heap_calloc(statement_count ? statement_count : 1, sizeof *db->queries);
    if (!db->queries) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory");
        goto done;
    }
    /* A connection stays with one thread at a time (a lock outside sees to that), hence NOMUTEX. */
    const int flags =
        (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
        SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    const int result = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (result != SQLITE_OK) {
        code = fail(db, result, err);
        goto done;
    }
    (void)sqlite3_extended_result_codes(db->handle, 0);
    code = configure(db, read_only, err);
done:
    if (code != LD_OK) {
        ld_db_close(db);
        db = NULL;
    }
    *out = db;
    return code;
}

void ld_db_close(struct ld_db *db)
{
    if (!db)
        return;
    for (uint32_t i = 0; db->queries && i < db->statement_count; i++)
        (void)sqlite3_finalize(db->queries[i].statement);
    (void)sqlite3_close(db->handle);
    ld_heap_free(db->queries);
    ld_heap_free(db);
}

enum ld_code ld_db_exec(struct ld_db *db, const char *sql, struct ld_error *err)
{
    const int result = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? LD_OK : fail(db, result, err);
}

/* This pragma acts when it is compiled, so it cannot be one of the statements that are kept. */
enum ld_code ld_db_commit_waits(struct ld_db *db, bool waits, struct ld_error *err)
{
    return ld_db_exec(db, waits ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err);
}

/* The library has no call for this; its log file has. It is what a commit that waits does last. */
enum ld_code ld_db_flush(struct ld_db *db, struct ld_error *err)
{
    sqlite3_file *log = NULL;
    int result = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (result == SQLITE_OK && log && log->pMethods)
        result = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
    if (result == SQLITE_OK)
        return LD_OK;
    db->broken = true; /* nobody knows what is on the disk */
    return LD_FAIL_OS(err, LD_E_IO, result, "the job store could not be read or written");
}

struct ld_db_query *ld_db_use(struct ld_db *db, uint32_t statement, struct ld_error *err)
{
    LD_ASSERT(statement < db->statement_count);
    struct ld_db_query *query = &db->queries[statement];
    query->db = db;
    query->unbound = false;
    if (query->statement)
        return query;
    const int result = sqlite3_prepare_v3(db->handle, db->statements[statement], -1,
                                          SQLITE_PREPARE_PERSISTENT, &query->statement, NULL);
    if (result == SQLITE_OK)
        return query;
    (void)fail(db, result, err);
    return NULL;
}

/* A value that cannot be bound (no memory) makes the statement fail at its step: as the NULL that
 * SQLite takes it for, it would match nothing where something is. An index out of range is ours. */
static void note_binding(struct ld_db_query *query, int result)
{
    LD_ASSERT(result != SQLITE_RANGE);
    query->unbound = query->unbound || result != SQLITE_OK;
}

void ld_db_bind_int(struct ld_db_query *query, int index, int64_t value)
{
    note_binding(query, sqlite3_bind_int64(query->statement, index, value));
}

void ld_db_bind_text(struct ld_db_query *query, int index, const char *text)
{
    note_binding(query, text
                            ? sqlite3_bind_text(query->statement, index, text, -1, SQLITE_TRANSIENT)
                            : sqlite3_bind_null(query->statement, index));
}

enum ld_code ld_db_step(struct ld_db_query *query, bool *row, struct ld_error *err)
{
    *row = false;
    if (query->unbound)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    const int result = sqlite3_step(query->statement);
    *row = result == SQLITE_ROW;
    if (result == SQLITE_ROW || result == SQLITE_DONE)
        return LD_OK;
    return fail(query->db, result, err);
}

int64_t ld_db_int(struct ld_db_query *query, int column)
{
    return sqlite3_column_int64(query->statement, column);
}

const char *ld_db_text(struct ld_db_query *query, int column)
{
    const unsigned char *text = sqlite3_column_text(query->statement, column);
    if (!text && sqlite3_errcode(query->db->handle) == SQLITE_NOMEM)
        query->db->text_lost = true;
    return text ? (const char *)text : "";
}

bool ld_db_text_lost(struct ld_db *db)
{
    const bool lost = db->text_lost;
    db->text_lost = false;
    return lost;
}

struct ld_db *ld_db_of(const struct ld_db_query *query)
{
    return query->db;
}

void ld_db_done(struct ld_db_query *query)
{
    (void)sqlite3_reset(query->statement); /* repeats the step's error, which was reported */
    (void)sqlite3_clear_bindings(query->statement);
    query->unbound = false;
}

int64_t ld_db_changes(const struct ld_db *db)
{
    return sqlite3_changes64(db->handle);
}

int64_t ld_db_changes_ever(const struct ld_db *db)
{
    return sqlite3_total_changes64(db->handle);
}

int64_t ld_db_last_row(const struct ld_db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

void ld_db_serve(struct ld_db *db)
{
    db->serving = true;
}

bool ld_db_is_broken(const struct ld_db *db)
{
    return db->broken;
}
