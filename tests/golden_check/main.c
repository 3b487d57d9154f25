/* golden_check: walks the given folders and runs every case file it knows. See gc.h. */
#include "tests/golden_check/gc.h"
#include "tests/golden_check/gc_coverage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 8, PATH_SIZE = 4096 };

static const struct gc_kind *const families[] = {
#ifdef GC_ONLY
    GC_ONLY, /* one family alone, for quick work on it */
#else
    gc_kinds_text, gc_kinds_weights, gc_kinds_model, gc_kinds_schedule, gc_kinds_noise,
#endif
};

static bool ends_at_slash(const char *path, const char *suffix)
{
    const size_t length = strlen(path);
    const size_t tail = strlen(suffix);
    return length >= tail && strcmp(path + length - tail, suffix) == 0 &&
           (length == tail || path[length - tail - 1] == '/');
}

static void run_file(struct gc *gc, const char *path)
{
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        for (const struct gc_kind *kind = families[f]; kind->suffix; kind++) {
            if (!ends_at_slash(path, kind->suffix))
                continue;
            char root[PATH_SIZE];
            snprintf(root, sizeof root, "%.*s", (int)(strlen(path) - strlen(kind->suffix)), path);
            gc_coverage_file(path);
            kind->run(gc, root[0] ? root : "./", path);
        }
    }
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Breadth is bounded by the folder, depth by DEPTH_MAX: an explicit stack, no recursion. */
static bool walk(struct gc *gc, const char *top)
{
    static char stack[512][PATH_SIZE];
    static int level[512];
    int waiting = 0;
    snprintf(stack[waiting], PATH_SIZE, "%s", top);
    level[waiting++] = 0;
    bool found = false;
    while (waiting > 0) {
        char here[PATH_SIZE];
        waiting--;
        const int depth = level[waiting];
        memcpy(here, stack[waiting], PATH_SIZE);
        struct dirent **entries;
        const int count = scandir(here, &entries, NULL, by_name);
        if (count < 0)
            continue;
        found = true;
        for (int i = 0; i < count; i++) {
            char path[PATH_SIZE];
            struct stat info;
            if (entries[i]->d_name[0] != '.' &&
                snprintf(path, sizeof path, "%s/%s", here, entries[i]->d_name) < PATH_SIZE &&
                stat(path, &info) == 0) {
                if (S_ISREG(info.st_mode)) {
                    run_file(gc, path);
                } else if (S_ISDIR(info.st_mode) && depth < DEPTH_MAX && waiting < 512) {
                    memcpy(stack[waiting], path, PATH_SIZE);
                    level[waiting++] = depth + 1;
                }
            }
            free(entries[i]);
        }
        free(entries);
    }
    return found;
}

int main(int argc, char **argv)
{
    struct gc gc = {0};
    int first = 1;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first += 2) {
        const char *value = first + 1 < argc ? argv[first + 1] : NULL;
        if (!value)
            break;
        if (strcmp(argv[first], "--base") == 0)
            gc.base = value;
        else if (strcmp(argv[first], "--vocab") == 0)
            gc.vocab = value;
        else if (strcmp(argv[first], "--spec") == 0)
            gc.spec = value;
        else if (strcmp(argv[first], "--backend") == 0)
            gc.backend = value;
        else if (strcmp(argv[first], "--precision") == 0)
            gc.precision = value;
        else
            break;
    }
    if (first >= argc || argv[first][0] == '-') {
        fprintf(stderr,
                "usage: golden_check [--base DIR] [--vocab DIR] [--spec DIR]\n"
                "                    [--backend cpu|cuda] [--precision fp16|bf16] DIR...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = first; i < argc; i++) {
        if (!walk(&gc, argv[i]))
            gc_fail(&gc, argv[i], "folder cannot be read");
    }
#ifndef GC_ONLY
    for (int i = first; i < argc; i++)
        gc_coverage_check(&gc, argv[i]);
#endif
    if (gc.skipped)
        printf("%u passed, %u failed, %u skipped\n", gc.passed, gc.failed, gc.skipped);
    else
        printf("%u passed, %u failed\n", gc.passed, gc.failed);
    return gc.failed || gc.passed == 0 ? 1 : 0;
}
