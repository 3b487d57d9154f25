/*
 * Open connections: their phase, the absolute deadline of that phase, and who is parked. One
 * watcher thread shuts down what is late, wakes what has waited long enough, and notices clients
 * that leave while they are parked. Nothing here knows the HTTP library but as two calls.
 */
#ifndef LD_SERVER_HTTP_CONN_H
#define LD_SERVER_HTTP_CONN_H

#include "server/exchange.h"
#include "server/http_guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

struct ld_conn_table;

enum ld_conn_phase {
    LD_CONN_IDLE,   /* between requests */
    LD_CONN_HEADER, /* from the request line on */
    LD_CONN_BODY,
    LD_CONN_WORKING, /* a handler runs: no deadline of ours */
    LD_CONN_PARKED,
    LD_CONN_REPLY
};

/* How far the request on this connection has come. */
enum ld_conn_stage { LD_STAGE_NEW, LD_STAGE_BODY, LD_STAGE_HANDLE, LD_STAGE_REPLIED };

struct ld_conn {
    struct ld_conn_table *table;
    struct ld_conn *next, *prev; /* in the table, with its lock */
    atomic_uint refs;
    void *library; /* the HTTP library's connection */
    char address[64];
    uint32_t requests;

    pthread_mutex_t lock; /* guards what follows; taken after the table's */
    int fd;               /* -1 once closed */
    enum ld_conn_phase phase;
    int64_t phase_since_us, deadline_us; /* 0: none */
    uint64_t phase_bytes;                /* of the body so far */
    bool parked, signalled;
    bool timed_out, hung_up;

    /* The HTTP thread's own. */
    enum ld_conn_stage stage;
    struct ld_exchange exchange;
    bool exchange_open;
    char target[2049];
    bool target_long;
    struct ld_guard_verdict verdict;
    struct ld_buffer body;
    uint64_t body_reserved; /* of the memory for all bodies */
    uint32_t body_chunks;
    uint64_t body_limit;
};

struct ld_conn_limits {
    uint32_t total, per_address; /* 0: any number of one address */
};

enum ld_code ld_conn_table_create(struct ld_conn_table **table, const struct ld_conn_limits *limits,
                                  void (*resume)(void *library), struct ld_error *err) LD_MUST_USE;
/* All connections are closed. */
void ld_conn_table_destroy(struct ld_conn_table *table);

/* May one more from there come in? */
bool ld_conn_table_admits(struct ld_conn_table *table, const struct sockaddr *address);
uint32_t ld_conn_table_count(struct ld_conn_table *table);
/* A request is being read, worked on or answered. */
bool ld_conn_table_busy(struct ld_conn_table *table);

/* NULL without memory. */
struct ld_conn *ld_conn_open(struct ld_conn_table *table, int fd, const struct sockaddr *address,
                             void *library);
/* The socket is about to be closed by the library. */
void ld_conn_close(struct ld_conn *conn);

/* Enter a phase; deadline_us is monotonic, 0 for none. */
void ld_conn_enter(struct ld_conn *conn, enum ld_conn_phase phase, int64_t deadline_us);
void ld_conn_count_bytes(struct ld_conn *conn, uint64_t bytes);

/* Park until woken or `until_us`: runs `suspend` and returns true, or returns false because a wake
 * came first. */
bool ld_conn_park(struct ld_conn *conn, int64_t until_us, void (*suspend)(void *library));
/* What woke it; clears the flags. */
void ld_conn_woken(struct ld_conn *conn, bool *timed_out, bool *hung_up);
void ld_conn_wake(struct ld_conn *conn);

/* Wake all parked ones, for good: they are to finish. */
void ld_conn_table_stop(struct ld_conn_table *table);
bool ld_conn_table_stopping(const struct ld_conn_table *table);

/* Memory for request bodies, over all connections; false when it is used up. */
bool ld_conn_reserve_body(struct ld_conn *conn, uint64_t bytes);
void ld_conn_release_body(struct ld_conn *conn);

#endif
