#include "tests/golden_check/gc.h"

#include "tests/golden_check/gc_coverage.h"

#include "kernels/tensor.h"
#include "runtime/base/bytes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Reporting ------------------------------------------------------------------------------- */

void gc_report(struct gc *gc, const char *name, double error, double tolerance)
{
    const bool ok = error <= tolerance; /* a NaN fails */
    if (ok)
        gc->passed++;
    else
        gc->failed++;
    printf("%s %s %.3g %.3g\n", ok ? "ok" : "FAIL", name, error, tolerance);
}

void gc_exact(struct gc *gc, const char *name, bool ok)
{
    gc_report(gc, name, ok ? 0.0 : 1.0, 0.0);
}

void gc_skip(struct gc *gc, const char *name, const char *why)
{
    gc->skipped++;
    printf("skip %s %s\n", name, why);
}

void gc_fail(struct gc *gc, const char *name, const char *why)
{
    gc->failed++;
    printf("FAIL %s inf 0 %s\n", name, why);
}

/* ---- Files ----------------------------------------------------------------------------------- */

bool gc_find(const struct gc *gc, const char *root, const char *relative, char *out,
             size_t out_size)
{
    snprintf(out, out_size, "%s/%s", root, relative);
    bool found = access(out, R_OK) == 0;
    if (!found && gc->base) {
        snprintf(out, out_size, "%s/%s", gc->base, relative);
        found = access(out, R_OK) == 0;
    }
    if (found)
        gc_coverage_file(out);
    return found;
}

char *gc_read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *data = NULL;
    long end = -1;
    if (fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0)
        data = malloc((size_t)end + 1);
    if (data && fread(data, 1, (size_t)end, file) == (size_t)end) {
        data[end] = '\0';
        *size = (size_t)end;
    } else {
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

void gc_array_free(struct gc_array *array)
{
    free(array->data);
    memset(array, 0, sizeof *array);
}

static bool parse_npy_shape(const char *header, struct gc_array *array)
{
    const char *p = strstr(header, "'shape':");
    if (!p || !(p = strchr(p, '(')))
        return false;
    array->rank = 0;
    array->count = 1;
    for (p++; *p && *p != ')';) {
        char *end;
        const long dim = strtol(p, &end, 10);
        if (end == p || array->rank == 8)
            return false;
        array->shape[array->rank++] = dim;
        array->count *= (size_t)dim;
        for (p = end; *p == ',' || *p == ' '; p++)
            ;
    }
    return *p == ')';
}

bool gc_npy_load(const char *path, struct gc_array *array)
{
    size_t size;
    memset(array, 0, sizeof *array);
    char *file = gc_read_file(path, &size);
    bool ok = false;
    if (!file || size < 10 || memcmp(file, "\x93NUMPY\x01\x00", 8) != 0)
        goto done;
    const size_t header = ld_read_u16le((const uint8_t *)file + 8);
    if (size < 10 + header)
        goto done;
    char *data = file + 10 + header;
    char text[4096];
    snprintf(text, sizeof text, "%.*s", (int)header, file + 10);
    const bool f4 = strstr(text, "'<f4'") != NULL;
    const size_t item = f4 ? 4 : 8;
    if ((!f4 && !strstr(text, "'<f8'")) || strstr(text, "'fortran_order': True") ||
        !parse_npy_shape(text, array) || size < 10 + header + array->count * item)
        goto done;
    array->is_f4 = f4;
    array->data = calloc(array->count ? array->count : 1, sizeof(double));
    if (!array->data)
        goto done;
    for (size_t i = 0; i < array->count; i++) {
        float single;
        if (f4) {
            memcpy(&single, data + 4 * i, 4);
            array->data[i] = (double)single;
        } else {
            memcpy(&array->data[i], data + 8 * i, 8);
        }
    }
    ok = true;
done:
    free(file);
    return ok;
}

/* ---- Tensors: a small reader of its own, so that the reader under test is not its own judge ---- */

struct gc_tensors {
    char *file;
    size_t size;
    json_t *header;
    const char *data;
    char *path;
};

struct gc_tensors *gc_tensors_open(const char *path)
{
    struct gc_tensors *tensors = calloc(1, sizeof *tensors);
    if (!tensors)
        return NULL;
    tensors->path = strdup(path);
    tensors->file = gc_read_file(path, &tensors->size);
    if (tensors->file && tensors->size >= 8) {
        const uint64_t length = ld_read_u64le((const uint8_t *)tensors->file);
        if (length <= tensors->size - 8) {
            tensors->header = json_loadb(tensors->file + 8, (size_t)length, 0, NULL);
            tensors->data = tensors->file + 8 + length;
        }
    }
    if (!tensors->header || !tensors->path) {
        gc_tensors_close(tensors);
        return NULL;
    }
    return tensors;
}

void gc_tensors_close(struct gc_tensors *tensors)
{
    if (!tensors)
        return;
    json_decref(tensors->header);
    free(tensors->path);
    free(tensors->file);
    free(tensors);
}

const char *gc_tensors_name(struct gc_tensors *tensors, size_t index)
{
    void *at = json_object_iter(tensors->header);
    for (size_t i = 0; at; at = json_object_iter_next(tensors->header, at)) {
        const char *name = json_object_iter_key(at);
        if (strcmp(name, "__metadata__") != 0 && i++ == index)
            return name;
    }
    return NULL;
}

static enum ld_dtype dtype_named(const char *name)
{
    for (int d = 0; d < LD_DTYPE_COUNT; d++)
        if (strcmp(ld_dtype_name((enum ld_dtype)d), name) == 0)
            return (enum ld_dtype)d;
    return LD_DTYPE_OTHER;
}

bool gc_tensors_get(struct gc_tensors *tensors, const char *name, struct gc_array *array)
{
    memset(array, 0, sizeof *array);
    const json_t *entry = json_object_get(tensors->header, name);
    const char *dtype_text = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!entry || !dtype_text || !shape || !offsets)
        return false;
    gc_coverage_tensor(tensors->path, name);
    const enum ld_dtype dtype = dtype_named(dtype_text);
    const char *data = tensors->data + json_integer_value(json_array_get(offsets, 0));
    array->rank = (int32_t)json_array_size(shape);
    array->count = 1;
    for (int32_t i = 0; i < array->rank; i++) {
        array->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
        array->count *= (size_t)array->shape[i];
    }
    array->data = calloc(array->count ? array->count : 1, sizeof(double));
    float *single = calloc(array->count ? array->count : 1, sizeof(float));
    bool ok = array->data && single && dtype != LD_DTYPE_OTHER;
    for (size_t i = 0; ok && dtype == LD_DTYPE_F64 && i < array->count; i++)
        memcpy(&array->data[i], data + 8 * i, 8);
    for (size_t i = 0; ok && dtype == LD_DTYPE_I64 && i < array->count; i++) {
        int64_t value;
        memcpy(&value, data + 8 * i, 8);
        array->data[i] = (double)value;
    }
    if (ok && dtype != LD_DTYPE_F64 && dtype != LD_DTYPE_I64) {
        ld_dtype_to_f32(single, data, dtype, array->count);
        for (size_t i = 0; i < array->count; i++)
            array->data[i] = (double)single[i];
    }
    free(single);
    return ok;
}

/* ---- Distances ------------------------------------------------------------------------------- */

double gc_relative_l2(const double *a, const double *b, size_t count)
{
    double difference = 0;
    double size = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(a[i]) && isnan(b[i]))
            continue;
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    if (isnan(difference))
        return (double)INFINITY;
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

double gc_absolute_max(const double *a, const double *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(a[i]) != isnan(b[i]))
            return (double)INFINITY;
        if (!isnan(a[i]) && a[i] != b[i] && !(fabs(a[i] - b[i]) <= worst))
            worst = fabs(a[i] - b[i]);
    }
    return worst;
}

double gc_relative_max(const double *a, const double *b, size_t count)
{
    double size = 0;
    for (size_t i = 0; i < count; i++)
        size = fabs(b[i]) > size ? fabs(b[i]) : size;
    const double worst = gc_absolute_max(a, b, count);
    return size > 0 ? worst / size : worst;
}
