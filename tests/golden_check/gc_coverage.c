#include "tests/golden_check/gc_coverage.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096 };

/* "real path" or "real path\ntensor", by hash; open addressing. */
static char **names;
static size_t capacity, count;

static size_t hash_of(const char *text)
{
    size_t hash = 1469598103934665603u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

static char **place_of(char **table, size_t size, const char *text)
{
    size_t at = hash_of(text) & (size - 1);
    while (table[at] && strcmp(table[at], text) != 0)
        at = (at + 1) & (size - 1);
    return &table[at];
}

static void grow(void)
{
    const size_t wider = capacity ? 2 * capacity : 1024;
    char **table = calloc(wider, sizeof *table);
    if (!table)
        abort(); /* a check without memory proves nothing */
    for (size_t i = 0; i < capacity; i++)
        if (names[i])
            *place_of(table, wider, names[i]) = names[i];
    free(names);
    names = table;
    capacity = wider;
}

/* False if the path does not lead to a file. */
static bool key_of(const char *path, const char *tensor, char *key)
{
    char real[PATH_SIZE];
    return realpath(path, real) &&
           snprintf(key, 2 * PATH_SIZE, "%s%s%s", real, tensor ? "\n" : "", tensor ? tensor : "") <
               2 * PATH_SIZE;
}

static void note(const char *path, const char *tensor)
{
    char key[2 * PATH_SIZE];
    if (!key_of(path, tensor, key))
        return;
    if (2 * (count + 1) > capacity)
        grow();
    char **place = place_of(names, capacity, key);
    if (!*place) {
        *place = strdup(key);
        count++;
    }
}

static bool known(const char *path, const char *tensor)
{
    char key[2 * PATH_SIZE];
    return capacity && key_of(path, tensor, key) && *place_of(names, capacity, key);
}

void gc_coverage_file(const char *path)
{
    note(path, NULL);
}

void gc_coverage_tensor(const char *path, const char *name)
{
    note(path, "*");
    note(path, name);
}

static void check_tensors(struct gc *gc, const char *path)
{
    struct gc_tensors *tensors = gc_tensors_open(path);
    for (size_t i = 0; tensors && gc_tensors_name(tensors, i); i++) {
        const char *name = gc_tensors_name(tensors, i);
        if (!known(path, name))
            gc_fail(gc, name, "no check asked for this tensor");
    }
    gc_tensors_close(tensors);
}

static struct gc *judge; /* nftw has no context */

static int check_file(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    if (type != FTW_F || strncmp(path + where->base, "README", 6) == 0 || path[where->base] == '.')
        return 0;
    if (!known(path, NULL))
        gc_fail(judge, path, "no check was given this file");
    else if (known(path, "*"))
        check_tensors(judge, path);
    return 0;
}

void gc_coverage_check(struct gc *gc, const char *top)
{
    judge = gc;
    if (nftw(top, check_file, 16, FTW_PHYS) != 0)
        gc_fail(gc, top, "its files cannot be listed");
}
