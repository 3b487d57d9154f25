/*
 * As much of jansson's interface as the golden checks of the networks use, over our own tokenizer,
 * so that they run where that library is not (LATENTD_MINIMAL). Documents are read whole and freed
 * whole: only what json_load_file, json_loadb and json_object returned may be given to json_decref,
 * and values that json_object_set was given must outlive their new object.
 */
#ifndef LD_TESTS_TINY_JSON_H
#define LD_TESTS_TINY_JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef struct json_t json_t;
typedef struct json_error_t json_error_t;

/* NULL on any error; `flags` and `error` are ignored. */
json_t *json_load_file(const char *path, size_t flags, json_error_t *error);
json_t *json_loadb(const char *text, size_t size, size_t flags, json_error_t *error);
json_t *json_object(void);
void json_decref(json_t *json);

json_t *json_object_get(const json_t *object, const char *key);
size_t json_object_size(const json_t *object);
int json_object_set(json_t *object, const char *key, json_t *value); /* 0: done */
json_t *json_array_get(const json_t *array, size_t index);
size_t json_array_size(const json_t *array);

const char *json_string_value(const json_t *json); /* NULL: no string */
long long json_integer_value(const json_t *json);  /* 0: no integer */
double json_number_value(const json_t *json);      /* 0: no number */
bool json_is_string(const json_t *json);
bool json_is_true(const json_t *json);

/* Walking an object; NULL at its end. */
void *json_object_iter(json_t *object);
void *json_object_iter_next(json_t *object, void *at);
const char *json_object_iter_key(void *at);
json_t *json_object_iter_value(void *at);

#define json_object_foreach(object, key, value)                                                    \
    for (void *iter_ = json_object_iter(object);                                                   \
         iter_ && ((key) = json_object_iter_key(iter_), (value) = json_object_iter_value(iter_));  \
         iter_ = json_object_iter_next(object, iter_))

#endif
