#include "runtime/base/clock.h"

#include "runtime/base/bytes.h"

#include <time.h>

static int64_t read_system(clockid_t id)
{
    struct timespec now = {0};
    (void)clock_gettime(id, &now); /* cannot fail for these two ids */
    return (int64_t)now.tv_sec * 1000000 + (int64_t)now.tv_nsec / 1000;
}

static int64_t system_monotonic(void)
{
    return read_system(CLOCK_MONOTONIC);
}

static int64_t system_wall(void)
{
    return read_system(CLOCK_REALTIME);
}

static ld_clock_read monotonic_source = system_monotonic;
static ld_clock_read wall_source = system_wall;

int64_t ld_clock_monotonic_us(void)
{
    return monotonic_source();
}

int64_t ld_clock_wall_us(void)
{
    return wall_source();
}

void ld_clock_sleep_us(int64_t duration_us)
{
    if (duration_us <= 0)
        return;
    const struct timespec wait = {.tv_sec = (time_t)(duration_us / 1000000),
                                  .tv_nsec = (long)(duration_us % 1000000) * 1000};
    (void)nanosleep(&wait, NULL);
}

void ld_clock_override(ld_clock_read monotonic, ld_clock_read wall)
{
    monotonic_source = monotonic ? monotonic : system_monotonic;
    wall_source = wall ? wall : system_wall;
}

/*
 * Days since 1970-01-01 to a civil date of the proleptic Gregorian calendar. Years are counted
 * from 1 March, so that the leap day is the last of its year and months follow one linear formula.
 */
static void civil_date(int64_t days, int *year, int *month, int *day)
{
    const int64_t shifted = days + 719468; /* days from 0000-03-01 to 1970-01-01 */
    const int64_t era = shifted / 146097;  /* of 400 years; dates before 0000 do not occur */
    const int64_t day_of_era = shifted % 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t march_month = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
    *month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2 ? 1 : 0));
}

void ld_clock_format(int64_t wall_us, char out[LD_CLOCK_TEXT_SIZE])
{
    const int64_t last_us = 253402300799999999; /* 9999-12-31T23:59:59.999999Z */
    if (wall_us < 0)
        wall_us = 0;
    if (wall_us > last_us)
        wall_us = last_us;
    const int64_t second_of_day = wall_us / 1000000 % 86400;
    int year;
    int month;
    int day;
    civil_date(wall_us / 1000000 / 86400, &year, &month, &day);
    (void)ld_fmt(out, LD_CLOCK_TEXT_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year, month, day,
                 (int)(second_of_day / 3600), (int)(second_of_day / 60 % 60),
                 (int)(second_of_day % 60), (int)(wall_us % 1000000));
}
