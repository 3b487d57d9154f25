/*
 * `latentd serve`: the front. Brings the parts up in order, waits for signals, takes them down.
 */
#include "config/limits.h"
#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/base/json_find.h"
#include "runtime/base/log.h"
#include "server/auth.h"
#include "server/cmd.h"
#include "server/cmd_options.h"
#include "server/cmd_probe.h"
#include "server/front.h"
#include "server/http.h"
#include "server/keyring.h"
#include "server/listen.h"
#include "server/meter.h"
#include "server/sandbox.h"
#include "server/service.h"
#include "server/slot.h"
#include "server/spool.h"
#include "server/state.h"
#include "server/webhook.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EXIT_CONFIG = 78,   /* EX_CONFIG */
    EXIT_TEMPFAIL = 75, /* EX_TEMPFAIL: the supervisor of this process starts it again */
    HTTP_THREADS = 8,
    UPKEEP_PERIOD_S = 60,
    EXPIRE_BATCH = 100,
    RELOADS_MAX = 1000, /* each keeps a few KiB */
    FILES_WANTED = 4096
};
static const int64_t hour_us = INT64_C(3600) * 1000000;
static const int64_t day_us = INT64_C(24) * 3600 * 1000000;

/* Settings as they were read again. */
struct reloaded {
    struct ld_cmd_options options;
    struct reloaded *before;
};

struct server {
    struct ld_cmd_options options;
    int argc;
    char **argv;
    struct reloaded *reloaded; /* newest first */
    uint32_t reloads;
    struct ld_state state;
    struct ld_front front;
    struct ld_http *http;
    struct ld_http_config http_config; /* with the sockets until HTTP takes them */
    struct ld_webhooks *webhooks;      /* NULL: off */
    uint32_t workers;                  /* processes */
    char *worker_argv[LD_SLOT_ARGS_MAX];
    char *webhook_argv[LD_SLOT_ARGS_MAX];
    int64_t upkeep_at_us;
    uint64_t keys_seen; /* the generation that was acted on */
};

/* ---- Parts ----------------------------------------------------------------------------------- */

static bool blob_referenced(void *ctx, const char *sha256)
{
    const struct server *server = ctx;
    struct ld_error err;
    bool referenced;
    return ld_store_blob_referenced(server->front.store, sha256, &referenced, &err) != LD_OK ||
           referenced;
}

static void take_inventory(struct server *server, const char *json)
{
    struct ld_error err;
    if (ld_inventory_set(server->front.inventory, json, &err) != LD_OK)
        ld_log_error(LD_LOG_ERROR, "serve", "the inventory of a worker was not taken", &err);
}

static void on_inventory(void *ctx, uint32_t worker, const char *json)
{
    struct server *server = ctx;
    ld_capacity_set(server->front.capacity, worker, json);
    take_inventory(server, json);
}

/* What the last worker said, so that listings are answered before the next one is up. */
static enum ld_code recall_inventory(struct server *server, struct ld_error *err)
{
    const char *json;
    struct ld_arena arena;
    ld_arena_init(&arena, "inventory note", 64 << 20);
    const enum ld_code code =
        ld_store_note_get(server->front.store, "inventory", &arena, &json, err);
    if (code == LD_OK && *json)
        take_inventory(server, json);
    ld_arena_deinit(&arena);
    return code;
}

/* What a key is due in the fair queue, as its limits stand now. */
static void share_of(void *ctx, const char *tenant, struct ld_fair_share *share)
{
    const struct server *server = ctx;
    struct ld_key key;
    struct ld_key_limits limits;
    const bool known = ld_keyring_recall(server->front.keys, tenant, &key);
    ld_key_limits_effective(known ? &key.limits : NULL, server->front.settings, &limits);
    *share = (struct ld_fair_share){limits.weight, limits.running_max};
}

/* Every committed event: counted, then told to whoever follows. On the store's thread. */
static void on_event(void *ctx, const struct ld_store_event *event)
{
    static const struct {
        const char *status;
        enum ld_count count;
    } ends[] = {{"succeeded", LD_COUNT_JOBS_OK},
                {"failed", LD_COUNT_JOBS_FAILED},
                {"cancelled", LD_COUNT_JOBS_CANCELLED}};
    struct server *server = ctx;
    char status[32];
    if (event->kind == LD_EVENT_DONE &&
        ld_json_find_string(ld_span_text(event->json), "/status", status, sizeof status)) {
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
            if (strcmp(status, ends[i].status) == 0)
                ld_metrics_add(server->front.metrics, ends[i].count, 1);
    }
    ld_webhooks_post(server->webhooks, event);
    ld_event_hub_publish(server->front.hub, event);
}

static enum ld_code open_metrics(struct server *server, struct ld_error *err)
{
    uint32_t count;
    const struct ld_route *routes = ld_routes(&count);
    return ld_metrics_create(&server->front.metrics, routes, count, err);
}

/* The sender of webhooks is this program too, with the same flags. */
static enum ld_code open_webhooks(struct server *server, int argc, char **argv,
                                  struct ld_error *err)
{
    static char program[] = "latentd";
    static char verb[] = "webhook";
    if (argc + 3 > LD_SLOT_ARGS_MAX)
        return LD_FAIL(err, LD_E_INVALID, "too many options");
    server->webhook_argv[0] = program;
    server->webhook_argv[1] = verb;
    for (int i = 1; i < argc; i++)
        server->webhook_argv[i + 1] = argv[i];
    return ld_webhooks_open(&server->webhooks, &server->options.settings, server->webhook_argv,
                            server->front.metrics, err);
}

/* The kernel's number of this run of the machine; "" where it tells none. */
static void read_machine_start(char text[LD_STORE_MACHINE_BYTES])
{
    struct ld_error ignored;
    struct ld_buffer out = ld_buffer_make(LD_STORE_MACHINE_BYTES - 1);
    text[0] = '\0';
    if (ld_fsx_read_file("/proc/sys/kernel/random/boot_id", &out, &ignored) == LD_OK && out.data)
        (void)ld_fmt(text, LD_STORE_MACHINE_BYTES, "%.*s", (int)out.size, out.data);
    text[strcspn(text, "\n")] = '\0';
    ld_buffer_deinit(&out);
}

static enum ld_code open_parts(struct server *server, int argc, char **argv, struct ld_error *err)
{
    struct ld_front *front = &server->front;
    const struct ld_settings *settings = &server->options.settings;
    enum ld_code code = open_metrics(server, err);
    if (code == LD_OK)
        code = open_webhooks(server, argc, argv, err);
    if (code == LD_OK)
        code = ld_event_hub_create(&front->hub, err);
    if (code != LD_OK)
        return code;
    char machine_start[LD_STORE_MACHINE_BYTES];
    read_machine_start(machine_start);
    const struct ld_store_config store = {
        .path = server->state.db_path,
        .lease_us = LD_LEASE_S * INT64_C(1000000),
        .attempts_max = LD_ATTEMPTS_MAX,
        .machine_start = machine_start,
        .keep_running = true, /* until start_workers has taken what was left */
        .on_event = on_event,
        .ctx = server,
        .share = share_of,
        .share_ctx = server,
    };
    if ((code = ld_meter_create(&front->meter, err)) != LD_OK ||
        (code = ld_store_open(&front->store, &store, err)) != LD_OK ||
        (code = ld_blobs_open(&front->blobs, server->state.blob_dir, blob_referenced, server,
                              err)) != LD_OK ||
        (code = ld_inventory_box_create(&front->inventory, err)) != LD_OK ||
        (code = ld_capacity_create(&front->capacity, server->workers, err)) != LD_OK ||
        (code = ld_build_create(&front->build, err)) != LD_OK ||
        (code = recall_inventory(server, err)) != LD_OK)
        return code;
    return ld_guides_open(&front->guides, settings->manifest_dir, err);
}

/* The workers are started with the very flags of this front. */
static enum ld_code start_workers(struct server *server, int argc, char **argv,
                                  struct ld_error *err)
{
    static char program[] = "latentd";
    static char verb[] = "worker";
    if (argc + 3 > LD_SLOT_ARGS_MAX)
        return LD_FAIL(err, LD_E_INVALID, "too many options");
    server->worker_argv[0] = program;
    server->worker_argv[1] = verb;
    for (int i = 1; i < argc; i++)
        server->worker_argv[i + 1] = argv[i];
    struct ld_supervisor_config config = {
        .store = server->front.store,
        .blobs = server->front.blobs,
        .metrics = server->front.metrics,
        .share_across_tenants = server->options.settings.share_across_keys,
        .worker_argv = server->worker_argv,
        .workers = server->workers,
        .jobs_per_worker = (uint32_t)server->options.settings.worker_jobs,
        .hang_us = server->options.settings.hang_s * 1000000,
        .lease_us = LD_LEASE_S * INT64_C(1000000),
        .storage_us = INT64_C(60) * 1000000,
        .on_inventory = on_inventory,
        .ctx = server,
    };
    ld_spool_take(server->state.spool_dir, ld_supervisor_take_left, &config);
    const enum ld_code code = ld_store_requeue_running(server->front.store, err);
    return code == LD_OK ? ld_supervisor_start(&server->front.supervisor, &config, err) : code;
}

/* Beyond this machine only with keys (or on purpose without), and behind a proxy. */
static bool may_be_remote(const struct ld_front *front)
{
    const struct ld_settings *settings = front->settings;
    return (settings->allow_anonymous || ld_keyring_is_configured(front->keys)) &&
           settings->behind_proxy;
}

static enum ld_code listen_all(const struct ld_settings *settings, struct ld_http_config *config,
                               struct ld_error *err)
{
    struct ld_span item;
    size_t pos = 0;
    int64_t port = settings->port;
    enum ld_code code =
        ld_service_sockets(config->listen_fds, LD_HTTP_LISTENERS_MAX, may_be_remote(config->front),
                           &config->listen_count, err);
    if (code != LD_OK || config->listen_count > 0) {
        if (code == LD_OK)
            (void)printf("latentd is listening where the service manager said\n");
        return code;
    }
    if (settings->unix_socket[0]) {
        code = ld_listen_unix(settings->unix_socket, &config->listen_fds[0], err);
        if (code == LD_OK) {
            config->listen_count = 1;
            (void)printf("latentd is listening on %s\n", settings->unix_socket);
        }
        return code;
    }
    if ((code = ld_listen_tcp(settings->bind, &port, &config->listen_fds[0], err)) != LD_OK)
        return code;
    config->listen_count = 1;
    const bool v6 = strchr(settings->bind, ':') != NULL;
    (void)printf("latentd is listening on http://%s%s%s:%lld\n", v6 ? "[" : "", settings->bind,
                 v6 ? "]" : "", (long long)port);
    while (ld_settings_list_next(settings->also_listen, &pos, &item)) {
        if (config->listen_count == LD_HTTP_LISTENERS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "also_listen may name at most 3 ports");
        if (!ld_parse_i64(item, &port) || port < 0 || port > 65535)
            return LD_FAIL(err, LD_E_RANGE, "also_listen must be ports between 0 and 65535");
        code = ld_listen_tcp(settings->bind, &port, &config->listen_fds[config->listen_count], err);
        if (code != LD_OK)
            return code;
        config->listen_count++;
    }
    return LD_OK;
}

/* The sockets that calls come through, before anything may be closed that opening them needs. */
static enum ld_code open_sockets(struct server *server, struct ld_error *err)
{
    const struct ld_settings *settings = &server->options.settings;
    const bool local = settings->unix_socket[0] || ld_address_is_loopback(settings->bind);
    struct ld_http_config *config = &server->http_config;
    *config = (struct ld_http_config){
        .front = &server->front,
        .metrics = server->front.metrics,
        .threads = HTTP_THREADS,
        .connections_max = (uint32_t)settings->connections,
        /* Behind a proxy all connections come from one address. */
        .connections_per_address_max = settings->behind_proxy || settings->unix_socket[0]
                                           ? 0
                                           : (uint32_t)settings->connections_per_address,
        .loopback_host_only = local && !settings->unix_socket[0] && !settings->behind_proxy,
        .cors_origins = settings->cors_origins,
        .admit = ld_auth_admit,
        .leave = ld_auth_leave,
    };
    server->front.local_only = local;
    config->routes = ld_routes(&config->route_count);
    return listen_all(settings, config, err);
}

/* Workers inherit it; the sender of webhooks was started before. */
static enum ld_code close_sandbox(const struct ld_settings *settings, struct ld_error *err)
{
    if (!settings->sandbox)
        return LD_OK;
    const enum ld_code code = ld_sandbox_close(err);
    if (code == LD_OK)
        return code;
    ld_log_error(LD_LOG_WARN, "serve", "the server runs without its seccomp filter", err);
    *err = (struct ld_error){0};
    return LD_OK;
}

/* Takes the sockets, also when it fails. */
static enum ld_code start_http(struct server *server, struct ld_error *err)
{
    struct ld_http_config config = server->http_config;
    server->http_config.listen_count = 0;
    (void)fflush(stdout);
    return ld_http_start(&server->http, &config, err);
}

/* ---- Upkeep ---------------------------------------------------------------------------------- */

/* Old results, then what nobody refers to any more. */
static void keep_up(struct server *server)
{
    const struct ld_settings *settings = atomic_load(&server->front.settings);
    const int64_t now_us = ld_clock_wall_us();
    const struct ld_store_retention retention = {
        .finished_before_us = now_us - settings->retention_days * day_us,
        .expired_before_us = now_us - 2 * settings->retention_days * day_us,
        .result_bytes_per_tenant_max = settings->result_mib_per_key * 1024 * 1024,
        .jobs_max = EXPIRE_BATCH,
    };
    struct ld_error err;
    bool more = true;
    for (int round = 0; more && round < 20; round++) {
        struct ld_arena arena;
        struct ld_store_freed freed;
        ld_arena_init(&arena, "upkeep", 8 << 20);
        if (ld_store_expire(server->front.store, &retention, &arena, &freed, &more, &err) !=
            LD_OK) {
            ld_log_error(LD_LOG_WARN, "serve", "old results were not removed", &err);
            more = false;
            freed.count = 0;
        }
        ld_front_drop_blobs(&server->front, &freed);
        ld_arena_deinit(&arena);
    }
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES_WANTED)
        return;
    limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static void block_signals(sigset_t *set)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGHUP);
    (void)sigaddset(set, SIGUSR1);
    (void)sigaddset(set, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int next_signal(const sigset_t *set, int64_t wait_ms)
{
    const struct timespec wait = {.tv_sec = (time_t)(wait_ms / 1000),
                                  .tv_nsec = (long)(wait_ms % 1000) * 1000000};
    return sigtimedwait(set, NULL, &wait);
}

static void tell_state(struct server *server)
{
    struct ld_supervisor_status workers;
    struct ld_store_queue queue;
    struct ld_error err;
    ld_supervisor_status_get(server->front.supervisor, &workers);
    if (ld_store_queue(server->front.store, &queue, &err) != LD_OK)
        return;
    LD_LOG(LD_LOG_INFO, "serve", "state", ld_log_int("queued", queue.queued),
           ld_log_int("running", queue.running), ld_log_int("workers_ready", workers.ready),
           ld_log_int("restarts", (int64_t)workers.restarts),
           ld_log_int("connections", ld_http_connections(server->http)));
}

/* Not ready at once, no new work; what runs may end, a second signal hurries. In a damaged store no
 * job can end: the next start computes them again. */
static void drain(struct server *server, const sigset_t *set)
{
    const int64_t until_us =
        ld_clock_monotonic_us() + atomic_load(&server->front.settings)->drain_s * 1000000;
    atomic_store(&server->front.draining, true);
    ld_service_tell("STOPPING=1");
    ld_http_quiesce(server->http);
    ld_supervisor_drain(server->front.supervisor);
    LD_LOG(LD_LOG_INFO, "serve", "draining");
    while (!ld_supervisor_is_idle(server->front.supervisor) &&
           !ld_store_is_broken(server->front.store) && ld_clock_monotonic_us() < until_us) {
        const int signal_number = next_signal(set, 50);
        ld_service_tell("WATCHDOG=1");
        if (signal_number == SIGTERM || signal_number == SIGINT)
            break;
    }
}

/* Keys come and go while the server runs. */
static void follow_keys(struct server *server)
{
    const uint64_t generation = ld_keyring_generation(server->front.keys);
    ld_supervisor_set_shared(server->front.supervisor,
                             ld_keyring_valid_count(server->front.keys) > 1);
    /* At every turn: a call that was let in just before may open its stream just after. */
    ld_event_hub_expel(server->front.hub, ld_auth_may_stay, &server->front);
    if (generation == server->keys_seen)
        return;
    server->keys_seen = generation;
    ld_front_end_revoked(&server->front);
}

/* A setting that this server was started with and that the file or the environment now says
 * otherwise. */
static void tell_kept(void *ctx, const char *section, const char *key)
{
    char name[96];
    (void)ctx;
    (void)ld_fmt(name, sizeof name, "%s.%s", section, key);
    LD_LOG(LD_LOG_WARN, "serve", "a changed setting needs a restart", ld_log_text("setting", name));
}

static void tell_scan(void *ctx, enum ld_code code, const char *detail, const char *json)
{
    (void)ctx;
    if (code == LD_OK)
        LD_LOG(LD_LOG_INFO, "serve", "the folders were scanned again", ld_log_text("found", json));
    else
        LD_LOG(LD_LOG_WARN, "serve", "the folders were not scanned again",
               ld_log_text("why", detail));
}

/* Manifests and tags are the front's own, everything else is the workers'. */
static void look_again(struct server *server)
{
    struct ld_error err = {0};
    if (ld_guides_reread(server->front.guides, &err) != LD_OK)
        ld_log_error(LD_LOG_ERROR, "serve", "the manifests were not read again", &err);
    ld_supervisor_rescan(server->front.supervisor, tell_scan, server);
}

/* File and environment again, for what can change while running. A broken file changes nothing.
 * Readers may still hold the settings of before, so they stay until the end. */
static void reload(struct server *server)
{
    struct ld_error err = {0};
    struct reloaded *next = ld_heap_alloc(sizeof *next);
    ld_service_tell_reloading();
    if (!next || server->reloads == RELOADS_MAX ||
        ld_cmd_options_read(&next->options, server->argc, server->argv, &err) != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "serve", "the settings were not read again", &err);
        if (next)
            ld_cmd_options_deinit(&next->options);
        ld_heap_free(next);
    } else {
        const struct ld_settings *running = atomic_load(&server->front.settings);
        ld_settings_keep(&next->options.settings, running, tell_kept, NULL);
        next->before = server->reloaded;
        server->reloaded = next;
        server->reloads++;
        atomic_store(&server->front.settings, &next->options.settings);
        ld_cmd_options_log(&next->options.settings);
        LD_LOG(LD_LOG_INFO, "serve", "settings were read again");
    }
    ld_service_tell("READY=1");
}

/* Until it is time to end; the exit status. */
static int attend(struct server *server, const sigset_t *set)
{
    ld_service_tell("READY=1");
    (void)ld_blobs_sweep(server->front.blobs, ld_clock_wall_us() - hour_us);
    for (;;) {
        follow_keys(server);
        const int signal_number = next_signal(set, 1000);
        ld_service_tell("WATCHDOG=1");
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            drain(server, set);
            return ld_store_is_broken(server->front.store) ? EXIT_TEMPFAIL : LD_EXIT_OK;
        }
        if (signal_number == SIGUSR2)
            tell_state(server);
        else if (signal_number == SIGHUP || signal_number == SIGUSR1) {
            reload(server);
            look_again(server);
        }
        ld_webhooks_attend(server->webhooks);
        if (ld_store_is_broken(server->front.store)) {
            LD_LOG(LD_LOG_ERROR, "serve", "the job store is damaged; ending for a fresh start");
            return EXIT_TEMPFAIL;
        }
        if (ld_clock_monotonic_us() >= server->upkeep_at_us) {
            keep_up(server);
            server->upkeep_at_us = ld_clock_monotonic_us() + UPKEEP_PERIOD_S * INT64_C(1000000);
        }
    }
}

/* ---- The verb -------------------------------------------------------------------------------- */

/* The keys decide whether it may be reached from elsewhere, so they come before everything. */
static enum ld_code read_keys(struct server *server, struct ld_error *err)
{
    struct ld_state place;
    const enum ld_code code = ld_state_place(&place, &server->options.settings, err);
    return code == LD_OK ? ld_keyring_open(&server->front.keys, place.dir, err) : code;
}

static enum ld_code check(const struct ld_settings *settings, struct ld_keyring *keys,
                          uint32_t *workers, struct ld_error *err)
{
    uint32_t gpus = 1;
    const bool loopback = settings->unix_socket[0] || ld_address_is_loopback(settings->bind);
    const bool has_keys = ld_keyring_is_configured(keys);
    enum ld_code code = ld_settings_check(settings, has_keys, err);
    if (code == LD_OK && geteuid() == 0 && !loopback)
        code = LD_FAIL(err, LD_E_FORBIDDEN,
                       "as root it listens on loopback only; run it as a user of its own");
    if (code == LD_OK)
        code = ld_state_check_models(settings, err);
    if (code == LD_OK)
        code = ld_probe_backend(settings->backend, strcmp(settings->stream_weights, "off") == 0,
                                &gpus, err);
    *workers = settings->worker_processes ? (uint32_t)settings->worker_processes : gpus;
    if (code == LD_OK && geteuid() == 0)
        LD_LOG(LD_LOG_WARN, "serve", "running as root; give it a user of its own");
    if (code == LD_OK && settings->behind_proxy && !has_keys)
        LD_LOG(LD_LOG_WARN, "serve",
               settings->allow_anonymous
                   ? "there is no key: everybody whom the proxy lets through may generate"
                   : "there is no key yet, and callers of a proxy need one: latentd keys add NAME");
    return code;
}

static void close_all(struct server *server)
{
    ld_http_stop(server->http);
    ld_build_destroy(server->front.build);
    for (uint32_t i = 0; i < server->http_config.listen_count; i++)
        (void)close(server->http_config.listen_fds[i]);
    ld_supervisor_stop(server->front.supervisor);
    ld_blobs_close(server->front.blobs);
    ld_store_close(server->front.store);
    ld_webhooks_close(server->webhooks);
    ld_event_hub_destroy(server->front.hub);
    ld_keyring_close(server->front.keys);
    ld_meter_destroy(server->front.meter);
    ld_metrics_destroy(server->front.metrics);
    ld_capacity_destroy(server->front.capacity);
    ld_inventory_box_destroy(server->front.inventory);
    ld_guides_close(server->front.guides);
    while (server->reloaded) {
        struct reloaded *before = server->reloaded->before;
        ld_cmd_options_deinit(&server->reloaded->options);
        ld_heap_free(server->reloaded);
        server->reloaded = before;
    }
    ld_state_close(&server->state);
}

static int serve(struct server *server, int argc, char **argv)
{
    sigset_t signals;
    struct ld_error err = {0};
    const struct ld_settings *settings = &server->options.settings;
    server->argc = argc;
    server->argv = argv;
    atomic_store(&server->front.settings, settings);
    server->front.started_us = ld_clock_wall_us();
    server->state.lock_fd = -1;
    enum ld_code code = read_keys(server, &err);
    if (code == LD_OK)
        code = check(settings, server->front.keys, &server->workers, &err);
    if (code == LD_OK && server->options.check_config) {
        (void)puts("the settings are good");
        ld_keyring_close(server->front.keys);
        return LD_EXIT_OK;
    }
    block_signals(&signals);
    raise_file_limit();
    (void)umask(0077);
    int status = LD_EXIT_FAILED;
    if (code == LD_OK && (code = ld_state_open(&server->state, settings, &err)) == LD_OK &&
        (server->front.state_dir = server->state.dir) != NULL &&
        (code = open_parts(server, argc, argv, &err)) == LD_OK &&
        (code = open_sockets(server, &err)) == LD_OK &&
        (code = close_sandbox(settings, &err)) == LD_OK &&
        (code = start_workers(server, argc, argv, &err)) == LD_OK &&
        (code = start_http(server, &err)) == LD_OK)
        status = attend(server, &signals);
    if (code != LD_OK) {
        ld_log_error(LD_LOG_ERROR, "serve", "the server cannot start", &err);
        (void)fprintf(stderr, "latentd: %s\n", err.detail);
        status = code == LD_E_FORBIDDEN || code == LD_E_INVALID || code == LD_E_RANGE ||
                         code == LD_E_UNSUPPORTED
                     ? EXIT_CONFIG
                     : LD_EXIT_FAILED;
    }
    close_all(server);
    return status;
}

static void print_help(void)
{
    struct ld_buffer text = ld_buffer_make(64 * 1024);
    ld_buffer_text(&text, "usage: latentd serve [OPTION]...\n\nServes pictures over HTTP.\n\n");
    ld_cmd_options_help(&text);
    (void)fputs(text.failed ? "" : text.data, stdout);
    ld_buffer_deinit(&text);
}

int ld_cmd_serve(int argc, char **argv)
{
    static struct server server; /* large, one a process */
    struct ld_error err = {0};
    int status = LD_EXIT_OK;
    const enum ld_code code = ld_cmd_options_read(&server.options, argc, argv, &err);
    if (code != LD_OK) {
        (void)fprintf(stderr, "latentd serve: %s\n", err.detail);
        status = code == LD_E_INVALID || code == LD_E_NOT_FOUND ? LD_EXIT_USAGE : EXIT_CONFIG;
    } else if (server.options.help) {
        print_help();
    } else if (server.options.print_config) {
        struct ld_buffer text = ld_buffer_make(256 * 1024);
        ld_settings_print(&server.options.settings, &text);
        (void)fputs(text.failed ? "" : text.data, stdout);
        ld_buffer_deinit(&text);
    } else {
        ld_cmd_options_log(&server.options.settings);
        status = serve(&server, argc, argv);
    }
    ld_cmd_options_deinit(&server.options);
    return status;
}
