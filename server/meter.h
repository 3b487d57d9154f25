/*
 * How often and how much at once: token buckets and calls in flight by name (a key's tenant, or an
 * address). Bounded: the name that has been quiet longest makes room.
 */
#ifndef LD_SERVER_METER_H
#define LD_SERVER_METER_H

#include "runtime/base/bytes.h"

enum { LD_METER_NAMES_MAX = 4096 };

struct ld_meter;

enum ld_code ld_meter_create(struct ld_meter **meter, struct ld_error *err) LD_MUST_USE;
void ld_meter_destroy(struct ld_meter *meter);

struct ld_meter_reading {
    int64_t remaining;  /* calls that may come at once */
    uint32_t full_in_s; /* until all may */
    uint32_t next_in_s; /* until one more may, at least 1; 0 while remaining > 0 */
};

/* Any thread. Take one of `per_minute`, of which a whole minute's may come at once; false: none was
 * left. */
bool ld_meter_take(struct ld_meter *meter, const char *name, int64_t per_minute,
                   struct ld_meter_reading *reading);

/* One more in flight, unless there are `max`; then false. */
bool ld_meter_enter(struct ld_meter *meter, const char *name, uint32_t max);
void ld_meter_leave(struct ld_meter *meter, const char *name);

#endif
