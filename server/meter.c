#include "server/meter.h"

#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/base/id.h"

#include <pthread.h>

enum { NAME_SIZE = 72 };
static const int64_t minute_us = INT64_C(60) * 1000000;

struct entry {
    char name[NAME_SIZE]; /* "": free */
    uint64_t hash;
    double tokens;
    int64_t updated_us;
    uint32_t in_flight;
};

struct ld_meter {
    pthread_mutex_t lock;
    uint64_t salt; /* so that nobody chooses names that collide */
    struct entry entries[LD_METER_NAMES_MAX];
};

enum ld_code ld_meter_create(struct ld_meter **out, struct ld_error *err)
{
    struct ld_meter *meter = ld_heap_alloc(sizeof *meter);
    *out = meter;
    if (!meter)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    meter->salt = ld_random_u64();
    (void)pthread_mutex_init(&meter->lock, NULL);
    return LD_OK;
}

void ld_meter_destroy(struct ld_meter *meter)
{
    if (!meter)
        return;
    (void)pthread_mutex_destroy(&meter->lock);
    ld_heap_free(meter);
}

/* FNV-1a, salted: a quick first comparison. */
static uint64_t hash_of(uint64_t salt, const char *name)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ salt;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
    return hash;
}

/* With the lock. Never NULL: at worst the entry that has been quiet longest and holds nothing is
 * taken over; with all in use (more calls than connections exist) the last one is shared. */
static struct entry *entry_of(struct ld_meter *meter, const char *name)
{
    const uint64_t hash = hash_of(meter->salt, name);
    struct entry *spare = NULL;
    for (size_t i = 0; i < LD_METER_NAMES_MAX; i++) {
        struct entry *entry = &meter->entries[i];
        if (entry->name[0] && entry->hash == hash && strcmp(entry->name, name) == 0)
            return entry;
        if (!entry->name[0]) { /* they are filled in order: no later one can match */
            spare = entry;
            break;
        }
        if (entry->in_flight == 0 && (!spare || entry->updated_us < spare->updated_us))
            spare = entry;
    }
    if (!spare)
        return &meter->entries[LD_METER_NAMES_MAX - 1];
    *spare = (struct entry){.hash = hash, .tokens = -1};
    (void)ld_fmt(spare->name, sizeof spare->name, "%s", name);
    return spare;
}

static uint32_t seconds_up(double us)
{
    return us <= 0 ? 0 : (uint32_t)(us / 1e6) + 1;
}

bool ld_meter_take(struct ld_meter *meter, const char *name, int64_t per_minute,
                   struct ld_meter_reading *reading)
{
    const int64_t now_us = ld_clock_monotonic_us();
    const double us_each = (double)minute_us / (double)per_minute;
    pthread_mutex_lock(&meter->lock);
    struct entry *entry = entry_of(meter, name);
    if (entry->tokens < 0) /* new */
        entry->tokens = (double)per_minute;
    else
        entry->tokens += (double)(now_us - entry->updated_us) / us_each;
    if (entry->tokens > (double)per_minute)
        entry->tokens = (double)per_minute;
    entry->updated_us = now_us;
    const bool taken = entry->tokens >= 1;
    if (taken)
        entry->tokens -= 1;
    reading->remaining = (int64_t)entry->tokens;
    reading->full_in_s = seconds_up(((double)per_minute - entry->tokens) * us_each);
    reading->next_in_s = entry->tokens >= 1 ? 0 : seconds_up((1 - entry->tokens) * us_each);
    pthread_mutex_unlock(&meter->lock);
    return taken;
}

bool ld_meter_enter(struct ld_meter *meter, const char *name, uint32_t max)
{
    pthread_mutex_lock(&meter->lock);
    struct entry *entry = entry_of(meter, name);
    const bool room = entry->in_flight < max;
    entry->in_flight += room ? 1 : 0;
    pthread_mutex_unlock(&meter->lock);
    return room;
}

void ld_meter_leave(struct ld_meter *meter, const char *name)
{
    pthread_mutex_lock(&meter->lock);
    struct entry *entry = entry_of(meter, name);
    entry->in_flight -= entry->in_flight > 0 ? 1 : 0;
    pthread_mutex_unlock(&meter->lock);
}
