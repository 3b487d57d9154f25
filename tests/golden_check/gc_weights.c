/* Cases of the files themselves: containers, element types, detection, adapters, merging. */
#include "runtime/model/safetensors.h"
#include "tests/golden_check/gc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Containers ------------------------------------------------------------------------------ */

static void run_container(struct gc *gc, const char *root, const json_t *item)
{
    const char *name = json_string_value(json_object_get(item, "file"));
    const char *class = json_string_value(json_object_get(item, "error_class"));
    const bool accept = json_is_true(json_object_get(item, "accept"));
    char path[4096];
    if (!name || !gc_find(gc, root, name, path, sizeof path)) {
        gc_fail(gc, name ? name : "st", "file not found");
        return;
    }
    struct ld_safetensors *file;
    struct ld_error err = {0};
    enum ld_st_class why;
    const enum ld_code code = ld_safetensors_open(&file, path, &why, &err);
    const bool right = accept ? code == LD_OK
                              : code != LD_OK && class && strcmp(class, ld_st_class_name(why)) == 0;
    if (!right)
        fprintf(stderr, "%s: got %s (%s)\n", name, ld_st_class_name(why), err.detail);
    gc_exact(gc, name, right);
    ld_safetensors_close(file);
}

static void run_st_index(struct gc *gc, const char *root, const char *path)
{
    json_t *index = json_load_file(path, 0, NULL);
    if (!json_is_array(index))
        gc_fail(gc, path, "not a JSON array");
    size_t i;
    json_t *item;
    json_array_foreach(index, i, item) run_container(gc, root, item);
    json_decref(index);
}

/* ---- Element types --------------------------------------------------------------------------- */

static bool same_bits_or_both_nan(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (a[i] != a[i] && b[i] != b[i])
            continue;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            return false;
    }
    return true;
}

static void run_dtypes(struct gc *gc, const char *root, const char *path)
{
    (void)root;
    static const char prefix[] = "expect.";
    struct ld_safetensors *file;
    if (ld_safetensors_open(&file, path, NULL, NULL) != LD_OK) {
        gc_fail(gc, path, "cannot be opened");
        return;
    }
    for (uint32_t i = 0; i < ld_safetensors_count(file); i++) {
        const struct ld_st_tensor *expected = ld_safetensors_at(file, i);
        if (strncmp(expected->name, prefix, sizeof prefix - 1) != 0)
            continue;
        const char *name = expected->name + sizeof prefix - 1;
        const struct ld_st_tensor *codes = ld_safetensors_find(file, name);
        const size_t count = (size_t)ld_st_elements(expected);
        float *a = calloc(count + 1, sizeof *a);
        float *b = calloc(count + 1, sizeof *b);
        bool right = codes && a && b && ld_st_elements(codes) == count;
        if (right) {
            ld_safetensors_decode(file, codes, a, count);
            ld_safetensors_decode(file, expected, b, count);
            right = same_bits_or_both_nan(a, b, count);
        }
        char label[64];
        snprintf(label, sizeof label, "dtypes/%s", name);
        gc_exact(gc, label, right);
        free(a);
        free(b);
    }
    ld_safetensors_close(file);
}

const struct gc_kind gc_kinds_weights[] = {
    {"st_index.json", run_st_index},
    {"dtypes.safetensors", run_dtypes},
    {NULL, NULL},
};
