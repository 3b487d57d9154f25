#include "server/auth.h"

#include "api/base64.h"
#include "api/dialect.h"
#include "config/limits.h"
#include "runtime/base/log.h"
#include "server/front.h"
#include "server/keyring.h"
#include "server/meter.h"
#include "server/router.h"

#include <arpa/inet.h>
#include <strings.h>

enum { BASIC_BYTES_MAX = 512, FAILURES_PER_MINUTE = 10 };

/* ---- Credentials ----------------------------------------------------------------------------- */

/* What stands behind "Bearer " or "Basic " (RFC 9110 11.4: the scheme's letter case is free). */
static bool after_scheme(const char *header, const char *scheme, struct ld_span *rest)
{
    const size_t size = strlen(scheme);
    if (strncasecmp(header, scheme, size) != 0 || header[size] != ' ')
        return false;
    const char *at = header + size + strspn(header + size, " ");
    *rest = ld_span_text(at);
    return true;
}

/* RFC 7617: base64 of "user:password"; the password is the key. In the exchange's arena. */
static bool basic_password(struct ld_exchange *ex, struct ld_span encoded, struct ld_span *password)
{
    struct ld_buffer pair = ld_buffer_make(BASIC_BYTES_MAX);
    bool found = false;
    if (ld_base64_decode(encoded, &pair, NULL) == LD_OK && pair.size > 0) {
        const char *colon = memchr(pair.data, ':', pair.size);
        const size_t size = colon ? pair.size - (size_t)(colon + 1 - pair.data) : 0;
        const char *copy = colon ? ld_arena_strndup(&ex->arena, colon + 1, size) : NULL;
        found = copy != NULL;
        *password = ld_span_of(copy ? copy : "", copy ? size : 0);
    }
    ld_buffer_deinit(&pair);
    return found;
}

static void skip_prefix(struct ld_span *text, const char *prefix)
{
    const size_t size = strlen(prefix);
    if (text->size > size && memcmp(text->data, prefix, size) == 0)
        *text = ld_span_of(text->data + size, text->size - size);
}

static bool takes_basic(const struct ld_exchange *ex)
{
    return ld_dialect_of_path(ex->path) == LD_DIALECT_A1111;
}

/* The text that should be a key; false if the request brings none. */
static bool find_credential(struct ld_exchange *ex, struct ld_span *text)
{
    const char *header = ld_exchange_header(ex, "Authorization");
    *text = ld_span_text("");
    if (header && after_scheme(header, "Bearer", text)) {
        skip_prefix(text, "pst-"); /* NovelAI's clients take nothing else for a key */
        return true;
    }
    if (header && takes_basic(ex) && after_scheme(header, "Basic", text)) {
        if (!basic_password(ex, *text, text))
            *text = ld_span_text("");
        return true;
    }
    if (header)
        return true; /* of a kind that is not known here: wrong, not absent */
    header = ld_exchange_header(ex, "X-API-Key");
    if (!header)
        header = ld_exchange_header(ex, "apikey");
    if (header)
        *text = ld_span_text(header);
    return header != NULL;
}

/* ---- Addresses ------------------------------------------------------------------------------- */

/* Behind a proxy the address is the one that the proxy saw: the last of X-Forwarded-For. */
static void settle_address(struct ld_exchange *ex)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr parsed;
    const char *list = ld_exchange_header(ex, "X-Forwarded-For");
    if (!ex->front->settings->behind_proxy || !list)
        return;
    const char *last = strrchr(list, ',');
    last = last ? last + 1 : list;
    last += strspn(last, " \t");
    const size_t size = strcspn(last, " \t");
    if (ld_fmt(text, sizeof text, "%.*s", (int)size, last) &&
        (inet_pton(AF_INET, text, &parsed) == 1 || inet_pton(AF_INET6, text, &parsed) == 1))
        (void)ld_fmt(ex->address, sizeof ex->address, "%s", text);
}

/* What calls from an address are counted under. One customer has a whole /64 of IPv6. */
static void address_meter(const struct ld_exchange *ex, char mark, char out[72])
{
    struct in6_addr v6;
    char text[INET6_ADDRSTRLEN];
    if (inet_pton(AF_INET6, ex->address, &v6) == 1) {
        memset(v6.s6_addr + 8, 0, 8);
        if (inet_ntop(AF_INET6, &v6, text, sizeof text)) {
            (void)ld_fmt(out, 72, "%c%s/64", mark, text);
            return;
        }
    }
    (void)ld_fmt(out, 72, "%c%s", mark, ex->address);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static bool refuse_too_many(struct ld_exchange *ex, const char *sentence, uint32_t retry_after_s)
{
    struct ld_problem problem;
    ld_problem_init(&problem, &ex->arena);
    (void)ld_problem_add(&problem, LD_E_RATE, "", "%s", sentence);
    problem.retry_after_s = retry_after_s > 0 ? retry_after_s : 1;
    (void)ld_exchange_problem(ex, &problem);
    return false;
}

static bool refuse_stranger(struct ld_exchange *ex, const char *sentence)
{
    ld_exchange_set_header(ex, "WWW-Authenticate",
                           takes_basic(ex) ? "Basic realm=\"latentd\""
                                           : "Bearer realm=\"latentd\"");
    (void)ld_exchange_refuse(ex, LD_E_AUTH, 0, sentence);
    return false;
}

static bool refuse_wrong_key(struct ld_exchange *ex)
{
    struct ld_meter_reading reading;
    char meter[72];
    address_meter(ex, '!', meter);
    LD_LOG(LD_LOG_WARN, "auth", "wrong key", ld_log_text("address", ex->address));
    if (!ld_meter_take(ex->front->meter, meter, FAILURES_PER_MINUTE, &reading))
        return refuse_too_many(ex, "too many wrong keys came from this address", reading.next_in_s);
    return refuse_stranger(ex, "this key is not valid");
}

/* ---- Callers --------------------------------------------------------------------------------- */

static void become_key(struct ld_exchange *ex, const struct ld_key *key)
{
    struct ld_caller *caller = &ex->caller;
    memcpy(caller->tenant, key->id, sizeof key->id);
    memcpy(caller->name, key->name, sizeof key->name);
    memcpy(caller->meter, key->id, sizeof key->id);
    caller->scopes = key->scopes;
    ld_key_limits_effective(&key->limits, ex->front->settings, &caller->limits);
}

static void become_anonymous(struct ld_exchange *ex)
{
    struct ld_caller *caller = &ex->caller;
    (void)ld_fmt(caller->tenant, sizeof caller->tenant, "%s", LD_CALLER_ANONYMOUS);
    (void)ld_fmt(caller->name, sizeof caller->name, "%s", LD_CALLER_ANONYMOUS);
    caller->anonymous = true;
    caller->scopes = (1U << LD_SCOPE_READ) | (1U << LD_SCOPE_GENERATE);
    ld_key_limits_effective(NULL, ex->front->settings, &caller->limits);
    /* On this machine nobody is counted; from elsewhere every address is. */
    if (strcmp(ex->address, "local") != 0 && !ld_address_is_loopback(ex->address))
        address_meter(ex, '@', caller->meter);
}

static bool serves_anonymous(struct ld_front *front)
{
    return !ld_keyring_is_configured(front->keys) &&
           ((front->local_only && !front->settings->behind_proxy) ||
            front->settings->allow_anonymous);
}

bool ld_auth_may_stay(void *pointer, const char *tenant)
{
    struct ld_front *front = pointer;
    struct ld_key key;
    if (strcmp(tenant, LD_CALLER_ANONYMOUS) == 0)
        return serves_anonymous(front);
    return ld_keyring_recall(front->keys, tenant, &key) && key.revoked_us == 0;
}

static bool identify(struct ld_exchange *ex)
{
    struct ld_front *front = ex->front;
    struct ld_span credential;
    struct ld_key key;
    const bool brings = find_credential(ex, &credential);
    if (serves_anonymous(front)) {
        /* A key that comes with the call opens nothing more, so it is let be. */
        become_anonymous(ex);
        return true;
    }
    if (!brings)
        return refuse_stranger(ex, "this call needs a key: Authorization: Bearer ldk_...");
    if (!ld_keyring_check(front->keys, credential, &key))
        return refuse_wrong_key(ex);
    become_key(ex, &key);
    return true;
}

/* RateLimit and RateLimit-Policy as of draft-ietf-httpapi-ratelimit-headers-09. */
static void tell_rate(struct ld_exchange *ex, const struct ld_meter_reading *reading)
{
    char text[96];
    (void)ld_fmt(text, sizeof text, "\"calls\";q=%lld;w=60",
                 (long long)ex->caller.limits.requests_per_minute);
    ld_exchange_set_header(ex, "RateLimit-Policy", ld_arena_strdup(&ex->arena, text));
    (void)ld_fmt(text, sizeof text, "\"calls\";r=%lld;t=%u", (long long)reading->remaining,
                 reading->remaining > 0 ? reading->full_in_s : reading->next_in_s);
    ld_exchange_set_header(ex, "RateLimit", ld_arena_strdup(&ex->arena, text));
}

static bool count(struct ld_exchange *ex)
{
    struct ld_meter_reading reading;
    struct ld_caller *caller = &ex->caller;
    struct ld_meter *meter = ex->front->meter;
    if (!caller->meter[0])
        return true;
    const bool taken =
        ld_meter_take(meter, caller->meter, caller->limits.requests_per_minute, &reading);
    tell_rate(ex, &reading);
    if (!taken)
        return refuse_too_many(ex, "too many calls within a minute", reading.next_in_s);
    if (!ld_meter_enter(meter, caller->meter, LD_REQUESTS_PER_KEY_MAX))
        return refuse_too_many(ex, "too many calls of this key are in progress already", 1);
    caller->counted = true;
    return true;
}

bool ld_auth_admit(struct ld_exchange *ex)
{
    const enum ld_scope scope = ex->route->scope;
    settle_address(ex);
    if (scope == LD_SCOPE_OPEN)
        return true;
    if (!identify(ex) || !count(ex))
        return false;
    if (ld_caller_may(&ex->caller, scope))
        return true;
    char sentence[96];
    (void)ld_fmt(sentence, sizeof sentence, "this call needs a key with the scope %s",
                 ld_scope_name(scope));
    (void)ld_exchange_refuse(ex, LD_E_FORBIDDEN, 0, sentence);
    return false;
}

void ld_auth_leave(struct ld_exchange *ex)
{
    if (!ex->caller.counted)
        return;
    ex->caller.counted = false;
    ld_meter_leave(ex->front->meter, ex->caller.meter);
}
