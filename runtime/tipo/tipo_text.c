#include "runtime/tipo/tipo_text.h"

static const char *const keys[LD_TIPO_KEY_COUNT] = {
    [LD_TIPO_KEY_META] = "meta",
    [LD_TIPO_KEY_RATING] = "rating",
    [LD_TIPO_KEY_ARTIST] = "artist",
    [LD_TIPO_KEY_CHARACTERS] = "characters",
    [LD_TIPO_KEY_COPYRIGHTS] = "copyrights",
    [LD_TIPO_KEY_QUALITY] = "quality",
    [LD_TIPO_KEY_TARGET] = "target",
    [LD_TIPO_KEY_TAG] = "tag",
    [LD_TIPO_KEY_SHORT] = "short",
    [LD_TIPO_KEY_LONG] = "long",
};

/* ---- Questions ------------------------------------------------------------------------------- */

/* A row of items that grows up to a ceiling; items beyond it are left out. */
struct row {
    struct ld_buffer *out;
    const char *between;
    size_t start, bytes_max;
};

static struct row start_row(struct ld_buffer *out, const char *between, size_t bytes_max)
{
    return (struct row){out, between, out->size, bytes_max};
}

static void add_items(struct row *row, const struct ld_tipo_items *items)
{
    for (uint32_t i = 0; i < items->count; i++) {
        const char *between = row->out->size > row->start ? row->between : "";
        const size_t needed = strlen(between) + strlen(items->items[i]);
        if (row->out->size - row->start + needed > row->bytes_max)
            return;
        ld_buffer_text(row->out, between);
        ld_buffer_text(row->out, items->items[i]);
    }
}

static void add_line(enum ld_tipo_key key, enum ld_tag_kind kind,
                     const struct ld_tipo_content *given, const struct ld_tipo_content *found,
                     struct ld_buffer *out)
{
    if (given->tags[kind].count + found->tags[kind].count == 0)
        return;
    ld_buffer_format(out, "%s: ", keys[key]);
    struct row row = start_row(out, ", ", LD_TIPO_LINE_BYTES_MAX);
    add_items(&row, &given->tags[kind]);
    add_items(&row, &found->tags[kind]);
    ld_buffer_byte(out, '\n');
}

/* `key: content`, or `key:` and nothing. */
static void add_block(enum ld_tipo_key key, const struct ld_tipo_content *given,
                      const struct ld_tipo_content *found, struct ld_buffer *out)
{
    ld_buffer_format(out, "%s: ", keys[key]);
    struct row row =
        start_row(out, key == LD_TIPO_KEY_TAG ? ", " : " ",
                  key == LD_TIPO_KEY_TAG ? LD_TIPO_TAGS_BYTES_MAX : LD_TIPO_SENTENCES_BYTES_MAX);
    if (key == LD_TIPO_KEY_TAG) {
        add_items(&row, &given->tags[LD_TAG_SPECIAL]);
        add_items(&row, &found->tags[LD_TAG_SPECIAL]);
        add_items(&row, &given->tags[LD_TAG_GENERAL]);
        add_items(&row, &found->tags[LD_TAG_GENERAL]);
    } else {
        add_items(&row, &given->sentences);
        add_items(&row, &found->sentences);
    }
}

void ld_tipo_compose(enum ld_tipo_task task, enum ld_tipo_length length,
                     const struct ld_tipo_content *given, const struct ld_tipo_content *found,
                     struct ld_buffer *out)
{
    static const char *const lengths[] = {"very_short", "short", "long", "very_long"};
    static const struct {
        const char *name;
        enum ld_tipo_key first, last;
    } tasks[] = {
        [LD_TIPO_EXPAND] = {"", LD_TIPO_KEY_TAG, LD_TIPO_KEY_TAG},
        [LD_TIPO_SHORT_TO_TAG] = {" <|short_to_tag|>", LD_TIPO_KEY_SHORT, LD_TIPO_KEY_TAG},
        [LD_TIPO_LONG_TO_TAG] = {" <|long_to_tag|>", LD_TIPO_KEY_LONG, LD_TIPO_KEY_TAG},
        [LD_TIPO_TAG_TO_LONG] = {" <|tag_to_long|>", LD_TIPO_KEY_TAG, LD_TIPO_KEY_LONG},
    };
    add_line(LD_TIPO_KEY_META, LD_TAG_META, given, found, out);
    add_line(LD_TIPO_KEY_RATING, LD_TAG_RATING, given, found, out);
    add_line(LD_TIPO_KEY_ARTIST, LD_TAG_ARTIST, given, found, out);
    add_line(LD_TIPO_KEY_CHARACTERS, LD_TAG_CHARACTER, given, found, out);
    add_line(LD_TIPO_KEY_COPYRIGHTS, LD_TAG_COPYRIGHT, given, found, out);
    add_line(LD_TIPO_KEY_QUALITY, LD_TAG_QUALITY, given, found, out);
    ld_buffer_format(out, "target: <|%s|>%s\n", lengths[length], tasks[task].name);
    if (tasks[task].first != tasks[task].last) {
        add_block(tasks[task].first, given, found, out);
        ld_buffer_byte(out, '\n');
    }
    add_block(tasks[task].last, given, found, out);
    while (out->size > 0 && out->data[out->size - 1] == ' ')
        out->data[--out->size] = '\0'; /* an open block without content ends at its colon */
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* The key that a line starts with, and where its value begins; LD_TIPO_KEY_COUNT if none. */
static enum ld_tipo_key key_of(struct ld_span line, size_t *value)
{
    for (int key = 0; key < LD_TIPO_KEY_COUNT; key++) {
        const size_t size = strlen(keys[key]);
        if (line.size > size && memcmp(line.data, keys[key], size) == 0 && line.data[size] == ':') {
            *value = size + 1;
            return (enum ld_tipo_key)key;
        }
    }
    return LD_TIPO_KEY_COUNT;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct ld_span trimmed(struct ld_span text)
{
    while (text.size > 0 && is_space(text.data[0]))
        text = ld_span_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

void ld_tipo_parse(struct ld_span text, struct ld_tipo_answer *out)
{
    bool seen[LD_TIPO_KEY_COUNT] = {false};
    struct ld_span *open = NULL; /* the value that is growing */
    memset(out, 0, sizeof *out);
    for (size_t pos = 0; pos < text.size;) {
        const uint8_t *line = text.data + pos;
        const uint8_t *feed = memchr(line, '\n', text.size - pos);
        const size_t size = feed ? (size_t)(feed - line) + 1 : text.size - pos;
        size_t value = 0;
        const enum ld_tipo_key key = key_of(ld_span_of(line, size), &value);
        if (key != LD_TIPO_KEY_COUNT) {
            open = seen[key] ? NULL : &out->values[key];
            seen[key] = true;
        }
        if (open && key != LD_TIPO_KEY_COUNT)
            *open = ld_span_of(line + value, size - value);
        else if (open)
            open->size += size;
        pos += size;
    }
    for (int key = 0; key < LD_TIPO_KEY_COUNT; key++) {
        out->values[key] = trimmed(out->values[key]);
        if (ld_span_is(out->values[key], "<|empty|>"))
            out->values[key].size = 0;
    }
}
