/*
 * Keeps the documents that come from tables in step with them: the request schema in
 * api/openapi.json, config/latentd.example.conf, docs/fields.md, docs/settings.md and the
 * dictionary of the request fuzzer.
 *
 *     gen_contract SOURCE_DIR           says what is out of step; exit 1 if anything is
 *     gen_contract SOURCE_DIR --write   writes it
 */
#include "api/schema.h"
#include "config/settings.h"
#include "runtime/base/fsx.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 4 * 1024 * 1024 };

/* The document with the present schema, formatted; false with a message on stderr. */
static bool renew_openapi(struct ld_span old, struct ld_buffer *out)
{
    struct ld_buffer schema = ld_buffer_make(FILE_BYTES_MAX);
    json_error_t where;
    bool done = false;
    json_t *document = json_loadb((const char *)old.data, old.size, JSON_REJECT_DUPLICATES, &where);
    ld_schema_write_request(&schema);
    json_t *request = json_loadb(schema.data, schema.size, JSON_REJECT_DUPLICATES, &where);
    json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    if (!request || !json_object_get(schemas, "Request")) {
        fprintf(stderr, "api/openapi.json: line %d: %s\n", where.line, where.text);
        goto end;
    }
    json_object_set(schemas, "Request", request);
    char *text = json_dumps(document, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    if (text) {
        ld_buffer_text(out, text);
        ld_buffer_byte(out, '\n');
        done = true;
    }
    free(text);
end:
    json_decref(request);
    json_decref(document);
    ld_buffer_deinit(&schema);
    return done;
}

/* Compares or writes one file. */
static bool settle(const char *root, const char *name, const struct ld_buffer *wanted, bool write)
{
    char path[4096];
    struct ld_error err = {0};
    struct ld_buffer present = ld_buffer_make(FILE_BYTES_MAX);
    bool good = ld_fmt(path, sizeof path, "%s/%s", root, name) && !wanted->failed;
    const bool there = good && ld_fsx_read_file(path, &present, &err) == LD_OK;
    if (there && present.size == wanted->size &&
        memcmp(present.data, wanted->data, wanted->size) == 0) {
        printf("ok %s\n", name);
    } else if (good && write) {
        FILE *file = fopen(path, "wb");
        good = file && fwrite(wanted->data, 1, wanted->size, file) == wanted->size;
        if (file && fclose(file) != 0)
            good = false;
        printf("%s %s\n", good ? "wrote" : "FAIL", name);
    } else {
        printf("FAIL %s is out of step; run gen_contract with --write\n", name);
        good = false;
    }
    ld_buffer_deinit(&present);
    return good;
}

static bool settle_openapi(const char *root, bool write)
{
    char path[4096];
    struct ld_error err = {0};
    struct ld_buffer present = ld_buffer_make(FILE_BYTES_MAX);
    struct ld_buffer wanted = ld_buffer_make(FILE_BYTES_MAX);
    const bool good = ld_fmt(path, sizeof path, "%s/api/openapi.json", root) &&
                      ld_fsx_read_file(path, &present, &err) == LD_OK &&
                      renew_openapi(ld_span_of(present.data, present.size), &wanted) &&
                      settle(root, "api/openapi.json", &wanted, write);
    ld_buffer_deinit(&present);
    ld_buffer_deinit(&wanted);
    return good;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*make)(struct ld_buffer *out);
    } files[] = {
        {"config/latentd.example.conf", ld_settings_write_example},
        {"docs/settings.md", ld_settings_write_docs},
        {"docs/fields.md", ld_schema_write_docs},
        {"tests/fuzz/json_request.dict", ld_schema_write_dictionary},
    };
    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "--write") != 0)) {
        fprintf(stderr, "usage: gen_contract SOURCE_DIR [--write]\n");
        return 2;
    }
    bool good = settle_openapi(argv[1], argc == 3);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct ld_buffer wanted = ld_buffer_make(FILE_BYTES_MAX);
        files[i].make(&wanted);
        good &= settle(argv[1], files[i].name, &wanted, argc == 3);
        ld_buffer_deinit(&wanted);
    }
    return good ? 0 : 1;
}
