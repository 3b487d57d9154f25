#include "api/advice.h"

/* Numbers as numbers, everything else as text: a manifest's values are words of an INI file. */
static bool is_number(const char *text)
{
    size_t digits = 0;
    size_t points = 0;
    for (const char *at = *text == '-' ? text + 1 : text; *at; at++) {
        if (*at == '.')
            points++;
        else if (*at >= '0' && *at <= '9')
            digits++;
        else
            return false;
    }
    return digits > 0 && points <= 1 && text[strlen(text) - 1] != '.' && *text != '.';
}

static void write_defaults(const struct ld_manifest *manifest, struct ld_buffer *out)
{
    ld_buffer_text(out, "{\"defaults\":{");
    for (uint32_t i = 0; i < manifest->default_count; i++) {
        const struct ld_manifest_default *item = &manifest->defaults[i];
        if (i)
            ld_buffer_byte(out, ',');
        ld_buffer_json_string(out, item->field);
        ld_buffer_byte(out, ':');
        if (is_number(item->value))
            ld_buffer_text(out, item->value);
        else
            ld_buffer_json_string(out, item->value);
    }
    ld_buffer_byte(out, '}');
}

static void write_preset(const struct ld_manifest_preset *preset, bool first, struct ld_buffer *out)
{
    ld_buffer_text(out, first ? "{\"name\":" : ",{\"name\":");
    ld_buffer_json_string(out, preset->name);
    ld_buffer_text(out, ",\"text\":");
    ld_buffer_json_string(out, preset->text);
}

static void write_quality(const struct ld_manifest *manifest, struct ld_buffer *out)
{
    ld_buffer_text(out, ",\"quality\":[");
    for (uint32_t i = 0; i < manifest->quality_count; i++) {
        const struct ld_manifest_preset *preset = &manifest->quality[i];
        write_preset(preset, i == 0, out);
        ld_buffer_format(out, ",\"position\":\"%s\",\"default\":%s}",
                         preset->in_front ? "front" : "back",
                         strcmp(preset->name, manifest->quality_default) == 0 ? "true" : "false");
    }
    ld_buffer_text(out, "],\"undesired\":[");
    for (uint32_t i = 0; i < manifest->undesired_count; i++) {
        write_preset(&manifest->undesired[i], i == 0, out);
        ld_buffer_byte(out, '}');
    }
    ld_buffer_byte(out, ']');
}

/* "a, b" as ["a","b"]; the manifest's reader has refused empty names. */
static void write_names(const char *key, const char *names, struct ld_buffer *out)
{
    bool first = true;
    ld_buffer_format(out, ",\"%s\":[", key);
    for (const char *at = names ? names : ""; *at;) {
        at += strspn(at, ", \t");
        const size_t size = strcspn(at, ", \t");
        if (size > 0) {
            if (!first)
                ld_buffer_byte(out, ',');
            ld_buffer_json_span(out, ld_span_of(at, size));
            first = false;
        }
        at += size;
    }
    ld_buffer_byte(out, ']');
}

void ld_respond_advice(const struct ld_manifest *manifest, struct ld_buffer *out)
{
    write_defaults(manifest, out);
    write_quality(manifest, out);
    write_names("samplers", manifest->sampler_advice, out);
    write_names("schedulers", manifest->scheduler_advice, out);
    ld_buffer_byte(out, '}');
}
