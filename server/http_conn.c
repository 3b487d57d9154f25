#include "server/http_conn.h"

#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>

enum { WATCH_PERIOD_US = 200 * 1000 };

struct ld_conn_table {
    struct ld_conn_limits limits;
    void (*resume)(void *library);
    atomic_uint_least64_t body_bytes;
    atomic_bool stopping;

    pthread_mutex_t lock; /* guards the list; taken before a connection's */
    struct ld_conn *first;
    uint32_t count;

    pthread_t watcher;
    atomic_bool ending;
};

static void address_text(const struct sockaddr *address, char out[64])
{
    char text[INET6_ADDRSTRLEN] = "local";
    if (address && address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    } else if (address && address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    }
    (void)ld_fmt(out, 64, "%s", text);
}

/* ---- The watcher ----------------------------------------------------------------------------- */

static void unref(struct ld_conn *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) != 1)
        return;
    (void)pthread_mutex_destroy(&conn->lock);
    ld_heap_free(conn);
}

/* With the connection's lock. */
static void wake_locked(struct ld_conn *conn)
{
    if (conn->parked) {
        conn->parked = false;
        conn->table->resume(conn->library);
    } else {
        conn->signalled = true;
    }
}

/* Half-closed counts: while we wait for a slow answer it cannot be told from gone. */
static bool has_left(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* The client has closed its side and everything it sent was read: no request can become whole any
 * more. The library learns of that only by an event that may have come together with the last
 * bytes, so it is told here: by the receiving half alone, as a request that the library has read
 * but not yet handed over looks the same and is still owed its reply. */
static bool is_spent(const struct ld_conn *conn)
{
    int unread = 0;
    if (conn->phase != LD_CONN_IDLE && conn->phase != LD_CONN_HEADER && conn->phase != LD_CONN_BODY)
        return false;
    return has_left(conn->fd) && ioctl(conn->fd, FIONREAD, &unread) == 0 && unread == 0;
}

static bool too_slow(const struct ld_conn *conn, int64_t now_us)
{
    const int64_t elapsed_us = now_us - conn->phase_since_us;
    if (conn->phase != LD_CONN_BODY || elapsed_us < LD_UPLOAD_RATE_GRACE_S * INT64_C(1000000))
        return false;
    return conn->phase_bytes < (uint64_t)(elapsed_us / 1000) * LD_UPLOAD_RATE_BYTES_MIN / 1000;
}

static void watch_one(struct ld_conn *conn, int64_t now_us)
{
    pthread_mutex_lock(&conn->lock);
    const bool late = conn->deadline_us != 0 && now_us >= conn->deadline_us;
    if (conn->fd < 0) {
        ; /* closed meanwhile */
    } else if (conn->parked) {
        if (!conn->hung_up && has_left(conn->fd))
            conn->hung_up = true;
        conn->timed_out = conn->timed_out || late;
        if (conn->timed_out || conn->hung_up)
            wake_locked(conn);
    } else if (late || too_slow(conn, now_us)) {
        (void)shutdown(conn->fd, SHUT_RDWR);
        conn->deadline_us = 0;
    } else if (is_spent(conn)) {
        (void)shutdown(conn->fd, SHUT_RD);
    }
    pthread_mutex_unlock(&conn->lock);
}

/* Takes a reference to each connection first, so that the list is not locked while one is woken. */
static void watch_all(struct ld_conn_table *table)
{
    enum { MANY = 2 * LD_CONNECTIONS_MAX };
    struct ld_conn *conns[MANY];
    uint32_t count = 0;
    pthread_mutex_lock(&table->lock);
    for (struct ld_conn *conn = table->first; conn && count < MANY; conn = conn->next) {
        atomic_fetch_add(&conn->refs, 1);
        conns[count++] = conn;
    }
    pthread_mutex_unlock(&table->lock);
    const int64_t now_us = ld_clock_monotonic_us();
    for (uint32_t i = 0; i < count; i++) {
        watch_one(conns[i], now_us);
        unref(conns[i]);
    }
}

static void *watcher_main(void *arg)
{
    struct ld_conn_table *table = arg;
    while (!atomic_load(&table->ending)) {
        watch_all(table);
        ld_clock_sleep_us(WATCH_PERIOD_US);
    }
    return NULL;
}

/* ---- The table ------------------------------------------------------------------------------- */

enum ld_code ld_conn_table_create(struct ld_conn_table **out, const struct ld_conn_limits *limits,
                                  void (*resume)(void *library), struct ld_error *err)
{
    struct ld_conn_table *table = ld_heap_alloc(sizeof *table);
    *out = NULL;
    if (!table)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    table->limits = *limits;
    table->resume = resume;
    (void)pthread_mutex_init(&table->lock, NULL);
    const int failed = pthread_create(&table->watcher, NULL, watcher_main, table);
    if (failed) {
        (void)pthread_mutex_destroy(&table->lock);
        ld_heap_free(table);
        return LD_FAIL_OS(err, LD_E_NOMEM, failed, "no thread for the connections");
    }
    *out = table;
    return LD_OK;
}

void ld_conn_table_destroy(struct ld_conn_table *table)
{
    if (!table)
        return;
    atomic_store(&table->ending, true);
    (void)pthread_join(table->watcher, NULL);
    LD_ASSERT(table->count == 0);
    (void)pthread_mutex_destroy(&table->lock);
    ld_heap_free(table);
}

/* With the table's lock. A client that has gone holds no place, though its end may still wait to be
 * worked on: otherwise a quick client would be refused for its own past connections. */
static bool holds_place(struct ld_conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    const bool gone = conn->fd < 0 || (conn->phase == LD_CONN_IDLE && has_left(conn->fd));
    pthread_mutex_unlock(&conn->lock);
    return !gone;
}

bool ld_conn_table_admits(struct ld_conn_table *table, const struct sockaddr *address)
{
    char text[64];
    uint32_t same = 0;
    const uint32_t same_max = table->limits.per_address;
    address_text(address, text);
    pthread_mutex_lock(&table->lock);
    for (const struct ld_conn *conn = table->first; conn; conn = conn->next)
        same += strcmp(conn->address, text) == 0 ? 1 : 0;
    uint32_t all = table->count;
    const bool crowded = all >= table->limits.total || (same_max > 0 && same >= same_max);
    for (struct ld_conn *conn = crowded ? table->first : NULL; conn; conn = conn->next) {
        if (holds_place(conn))
            continue;
        all--;
        same -= strcmp(conn->address, text) == 0 ? 1 : 0;
    }
    pthread_mutex_unlock(&table->lock);
    return all < table->limits.total && (same_max == 0 || same < same_max);
}

uint32_t ld_conn_table_count(struct ld_conn_table *table)
{
    pthread_mutex_lock(&table->lock);
    const uint32_t count = table->count;
    pthread_mutex_unlock(&table->lock);
    return count;
}

bool ld_conn_table_busy(struct ld_conn_table *table)
{
    bool busy = false;
    pthread_mutex_lock(&table->lock);
    for (struct ld_conn *conn = table->first; conn && !busy; conn = conn->next) {
        pthread_mutex_lock(&conn->lock);
        busy = conn->phase == LD_CONN_WORKING || conn->phase == LD_CONN_PARKED ||
               conn->phase == LD_CONN_REPLY;
        pthread_mutex_unlock(&conn->lock);
    }
    pthread_mutex_unlock(&table->lock);
    return busy;
}

struct ld_conn *ld_conn_open(struct ld_conn_table *table, int fd, const struct sockaddr *address,
                             void *library)
{
    struct ld_conn *conn = ld_heap_alloc(sizeof *conn);
    if (!conn)
        return NULL;
    conn->table = table;
    conn->fd = fd;
    conn->library = library;
    address_text(address, conn->address);
    atomic_store(&conn->refs, 1);
    (void)pthread_mutex_init(&conn->lock, NULL);
    /* The first request's header counts from here. */
    conn->phase = LD_CONN_HEADER;
    conn->phase_since_us = ld_clock_monotonic_us();
    conn->deadline_us = conn->phase_since_us + LD_HEADER_DEADLINE_S * INT64_C(1000000);
    pthread_mutex_lock(&table->lock);
    conn->next = table->first;
    if (table->first)
        table->first->prev = conn;
    table->first = conn;
    table->count++;
    pthread_mutex_unlock(&table->lock);
    return conn;
}

void ld_conn_close(struct ld_conn *conn)
{
    struct ld_conn_table *table = conn->table;
    pthread_mutex_lock(&table->lock);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        table->first = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    table->count--;
    pthread_mutex_unlock(&table->lock);
    pthread_mutex_lock(&conn->lock);
    conn->fd = -1; /* the number may be someone else's in a moment */
    conn->parked = false;
    pthread_mutex_unlock(&conn->lock);
    unref(conn);
}

/* ---- Phases ---------------------------------------------------------------------------------- */

void ld_conn_enter(struct ld_conn *conn, enum ld_conn_phase phase, int64_t deadline_us)
{
    pthread_mutex_lock(&conn->lock);
    if (conn->phase != phase) {
        conn->phase_since_us = ld_clock_monotonic_us();
        conn->phase_bytes = 0;
    }
    conn->phase = phase;
    conn->deadline_us = deadline_us;
    pthread_mutex_unlock(&conn->lock);
}

void ld_conn_count_bytes(struct ld_conn *conn, uint64_t bytes)
{
    pthread_mutex_lock(&conn->lock);
    conn->phase_bytes += bytes;
    pthread_mutex_unlock(&conn->lock);
}

bool ld_conn_park(struct ld_conn *conn, int64_t until_us, void (*suspend)(void *library))
{
    pthread_mutex_lock(&conn->lock);
    const bool parks = !conn->signalled && !atomic_load(&conn->table->stopping);
    conn->signalled = false;
    if (parks) {
        suspend(conn->library);
        conn->parked = true;
        conn->phase = LD_CONN_PARKED;
        conn->deadline_us = until_us;
    }
    pthread_mutex_unlock(&conn->lock);
    return parks;
}

void ld_conn_woken(struct ld_conn *conn, bool *timed_out, bool *hung_up)
{
    pthread_mutex_lock(&conn->lock);
    *timed_out = conn->timed_out;
    *hung_up = conn->hung_up;
    conn->timed_out = false;
    conn->phase = LD_CONN_WORKING;
    conn->deadline_us = 0;
    pthread_mutex_unlock(&conn->lock);
}

void ld_conn_wake(struct ld_conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    wake_locked(conn);
    pthread_mutex_unlock(&conn->lock);
}

void ld_conn_table_stop(struct ld_conn_table *table)
{
    atomic_store(&table->stopping, true);
    pthread_mutex_lock(&table->lock);
    for (struct ld_conn *conn = table->first; conn; conn = conn->next) {
        pthread_mutex_lock(&conn->lock);
        if (conn->parked)
            wake_locked(conn);
        pthread_mutex_unlock(&conn->lock);
    }
    pthread_mutex_unlock(&table->lock);
}

bool ld_conn_table_stopping(const struct ld_conn_table *table)
{
    return atomic_load(&table->stopping);
}

/* ---- Memory for bodies ----------------------------------------------------------------------- */

bool ld_conn_reserve_body(struct ld_conn *conn, uint64_t bytes)
{
    atomic_uint_least64_t *used = &conn->table->body_bytes;
    if (atomic_fetch_add(used, bytes) + bytes > LD_BODIES_BYTES_MAX) {
        atomic_fetch_sub(used, bytes);
        return false;
    }
    conn->body_reserved += bytes;
    return true;
}

void ld_conn_release_body(struct ld_conn *conn)
{
    atomic_fetch_sub(&conn->table->body_bytes, conn->body_reserved);
    conn->body_reserved = 0;
}
