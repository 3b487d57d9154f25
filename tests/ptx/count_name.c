/*
 * A kernel's name without its parameters, from the mangled one: enough of the Itanium C++ ABI for
 * the names that kernels have. Of a nested name the last part is kept, of a literal its value.
 *
 * Source: Itanium C++ ABI, "Mangling".
 */
#include "tests/ptx/count.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 16 };

struct reader {
    const char *at;
    char *out;
    size_t used;
    char open[DEPTH];     /* 'I' arguments, 'N' a nested name */
    size_t begins[DEPTH]; /* of 'N': where its name stands in out */
    int depth;
};

static void put(struct reader *r, const char *text, size_t length)
{
    for (size_t i = 0; i < length && r->used + 1 < COUNT_NAME; i++)
        r->out[r->used++] = text[i];
    r->out[r->used] = '\0';
}

/* Arguments after the first stand behind a comma. */
static void begin_item(struct reader *r)
{
    const char last = r->used > 0 ? r->out[r->used - 1] : '<';
    if (r->depth > 0 && r->open[r->depth - 1] == 'I' && last != '<')
        put(r, ",", 1);
}

static void put_identifier(struct reader *r)
{
    char *end;
    const size_t length = strtoul(r->at, &end, 10);
    const size_t there = strnlen(end, length);
    if (r->depth > 0 && r->open[r->depth - 1] == 'N')
        r->used = r->begins[r->depth - 1];
    else
        begin_item(r);
    put(r, end, there);
    r->at = end + there;
}

/* L TYPE VALUE E */
static void put_literal(struct reader *r)
{
    const char *value = r->at + 1;
    if (isdigit((unsigned char)*value)) {
        char *end;
        const size_t length = strtoul(value, &end, 10);
        value = end + strnlen(end, length);
    } else if (*value != '\0') {
        value++;
    }
    const size_t length = strcspn(value, "E");
    begin_item(r);
    put(r, value, length);
    r->at = value + length + (value[length] == 'E');
}

static void push(struct reader *r, char what)
{
    if (r->depth == DEPTH)
        return;
    r->begins[r->depth] = r->used;
    r->open[r->depth++] = what;
}

/* False: the name has ended. */
static bool step(struct reader *r)
{
    const char c = *r->at;
    if (isdigit((unsigned char)c)) {
        put_identifier(r);
        return r->depth > 0 || *r->at == 'I';
    }
    if (c == 'L' && r->depth > 0 && r->open[r->depth - 1] == 'I') {
        put_literal(r);
        return true;
    }
    r->at++;
    if (c == 'I') {
        put(r, "<", 1);
        push(r, 'I');
    } else if (c == 'N') {
        begin_item(r);
        push(r, 'N');
    } else if (c == 'E' && r->depth > 0) {
        if (r->open[--r->depth] == 'I')
            put(r, ">", 1);
        return r->depth > 0;
    } else if (c == 'f' && r->depth > 0) {
        begin_item(r);
        put(r, "float", 5);
    } else if (c == 'S') { /* said before */
        begin_item(r);
        const size_t length = strcspn(r->at, "_");
        put(r, "..", 2);
        r->at += length + (r->at[length] == '_');
    }
    return c != '\0';
}

void count_name(const char *mangled, char out[COUNT_NAME])
{
    struct reader r = {.at = mangled, .out = out};
    out[0] = '\0';
    if (strncmp(mangled, "_Z", 2) != 0) {
        put(&r, mangled, strlen(mangled));
        return;
    }
    r.at += 2;
    while (*r.at != '\0' && step(&r))
        continue;
}
