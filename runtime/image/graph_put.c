#include "runtime/image/graph_put.h"

struct ld_graph_link ld_graph_open(struct ld_graph_writer *w, const char *class_type)
{
    ld_buffer_format(w->out, "%s\"%u\":{\"class_type\":\"%s\",\"inputs\":{", w->last ? "," : "{",
                     w->last + 1, class_type);
    w->comma = false;
    return (struct ld_graph_link){++w->last, 0};
}

void ld_graph_close(struct ld_graph_writer *w)
{
    ld_buffer_text(w->out, "}}");
}

static void put_name(struct ld_graph_writer *w, const char *name)
{
    ld_buffer_format(w->out, "%s\"%s\":", w->comma ? "," : "", name);
    w->comma = true;
}

void ld_graph_put_link(struct ld_graph_writer *w, const char *name, struct ld_graph_link link)
{
    put_name(w, name);
    ld_buffer_format(w->out, "[\"%u\",%u]", link.node, link.slot);
}

void ld_graph_put_text(struct ld_graph_writer *w, const char *name, const char *text)
{
    put_name(w, name);
    ld_buffer_json_string(w->out, text);
}

void ld_graph_put_number(struct ld_graph_writer *w, const char *name, double value)
{
    put_name(w, name);
    ld_buffer_json_double(w->out, value);
}

void ld_graph_put_whole(struct ld_graph_writer *w, const char *name, int64_t value)
{
    put_name(w, name);
    ld_buffer_format(w->out, "%lld", (long long)value);
}

void ld_graph_put_seed(struct ld_graph_writer *w, const char *name, uint64_t value)
{
    put_name(w, name);
    ld_buffer_format(w->out, "%llu", (unsigned long long)value);
}

void ld_graph_put_bool(struct ld_graph_writer *w, const char *name, bool value)
{
    put_name(w, name);
    ld_buffer_text(w->out, value ? "true" : "false");
}

void ld_graph_put_file(struct ld_graph_writer *w, const char *name, const char *file)
{
    struct ld_buffer full = ld_buffer_make(1024);
    ld_buffer_format(&full, "%s.safetensors", file);
    ld_graph_put_text(w, name, full.failed || !full.data ? file : full.data);
    ld_buffer_deinit(&full);
}
