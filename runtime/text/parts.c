#include "runtime/text/parts.h"

#include "runtime/base/buffer.h"
#include "runtime/text/unicode.h"

/* ---- AND ------------------------------------------------------------------------------------- */

static bool is_and_word(struct ld_span text, size_t pos)
{
    const uint32_t before = ld_text_char_before(text, pos);
    const uint32_t after = ld_text_char_at(text, pos + 3);
    return (before == LD_CHAR_NONE || !ld_char_is_word(before)) &&
           (after == LD_CHAR_NONE || !ld_char_is_word(after));
}

/* An optional sign, then digits of any script with at most one dot among them. */
static bool is_weight(struct ld_span text)
{
    size_t digits = 0;
    size_t dots = 0;
    for (size_t pos = 0; pos < text.size;) {
        const bool first = pos == 0;
        const uint32_t c = ld_utf8_next(text.data, text.size, &pos);
        if (ld_char_digit(c) >= 0)
            digits++;
        else if (c == '.')
            dots++;
        else if (!first || (c != '+' && c != '-'))
            return false;
    }
    return digits > 0 && dots <= 1;
}

static enum ld_code add_part(struct ld_and_parts *out, struct ld_span text, struct ld_error *err)
{
    if (out->count == LD_AND_PARTS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the prompt joins more than %d parts with AND",
                       LD_AND_PARTS_MAX);
    struct ld_and_part *part = &out->items[out->count++];
    *part = (struct ld_and_part){.text = text, .weight = 1.0};
    const uint8_t *colon = text.size ? memrchr(text.data, ':', text.size) : NULL;
    if (colon) {
        const size_t head = (size_t)(colon - text.data);
        const struct ld_span number = ld_text_trim(ld_span_of(colon + 1, text.size - head - 1));
        if (is_weight(number)) {
            if (!ld_text_parse_double(number, &part->weight))
                return LD_FAIL(err, LD_E_RANGE, "a weight after AND is too large for a number");
            part->weighted = true;
            part->text.size = head;
        }
    }
    /* Only the end is trimmed: the start of the trimmed text is not used. */
    const struct ld_span trimmed = ld_text_trim(part->text);
    part->text.size = trimmed.size ? (size_t)(trimmed.data + trimmed.size - part->text.data) : 0;
    return LD_OK;
}

enum ld_code ld_and_split(struct ld_span text, struct ld_and_parts *out, struct ld_error *err)
{
    size_t start = 0;
    out->count = 0;
    for (size_t pos = 0; pos < text.size;) {
        const uint8_t *found = memmem(text.data + pos, text.size - pos, "AND", 3);
        if (!found)
            break;
        const size_t at = (size_t)(found - text.data);
        pos = at + 3;
        if (!is_and_word(text, at))
            continue;
        const enum ld_code code = add_part(out, ld_span_of(text.data + start, at - start), err);
        if (code != LD_OK)
            return code;
        start = pos;
    }
    return add_part(out, ld_span_of(text.data + start, text.size - start), err);
}

/* ---- Extra networks: finding ----------------------------------------------------------------- */

/* Length of the type name at `pos`, the `\w+` before the colon; 0 if none. */
static size_t type_length(struct ld_span text, size_t pos)
{
    size_t end = pos;
    size_t next = pos;
    while (end < text.size && ld_char_is_word(ld_utf8_next(text.data, text.size, &next)))
        end = next;
    return end < text.size && text.data[end] == ':' ? end - pos : 0;
}

static bool add_argument(struct ld_arena *arena, struct ld_network *network, struct ld_span item)
{
    const uint8_t *equals = item.size ? memchr(item.data, '=', item.size) : NULL;
    const size_t head = equals ? (size_t)(equals - item.data) : 0;
    /* Exactly one `=` makes a named argument. */
    if (equals && !memchr(equals + 1, '=', item.size - head - 1)) {
        if (network->named_count == LD_NETWORK_ARGS_MAX)
            return false;
        const uint32_t i = network->named_count++;
        network->names[i] = ld_arena_strndup(arena, (const char *)item.data, head);
        network->values[i] =
            ld_arena_strndup(arena, (const char *)equals + 1, item.size - head - 1);
        return network->names[i] && network->values[i];
    }
    if (network->positional_count == LD_NETWORK_ARGS_MAX)
        return false;
    const uint32_t i = network->positional_count++;
    network->positional[i] = ld_arena_strndup(arena, (const char *)item.data, item.size);
    return network->positional[i] != NULL;
}

/* `mention` is `<`, a type of `type_size` bytes, `:`, arguments and `>`. */
static enum ld_code add_network(struct ld_arena *arena, struct ld_networks *out,
                                struct ld_span mention, size_t type_size, struct ld_error *err)
{
    const struct ld_span type = ld_span_of(mention.data + 1, type_size);
    const struct ld_span arguments =
        ld_span_of(type.data + type_size + 1, mention.size - type_size - 3);
    if (out->count == LD_NETWORKS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "the prompt mentions more than %d networks",
                       LD_NETWORKS_MAX);
    if (!out->items)
        out->items = ld_arena_calloc(arena, LD_NETWORKS_MAX, sizeof *out->items);
    if (!out->items)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
    struct ld_network *network = &out->items[out->count++];
    network->mention = mention;
    network->type = ld_arena_strndup(arena, (const char *)type.data, type.size);
    for (size_t start = 0; network->type && start <= arguments.size;) {
        const uint8_t *rest = arguments.data + start;
        const uint8_t *colon =
            start < arguments.size ? memchr(rest, ':', arguments.size - start) : NULL;
        const size_t size = colon ? (size_t)(colon - rest) : arguments.size - start;
        if (!add_argument(arena, network, ld_span_of(rest, size)))
            return LD_FAIL(err, LD_E_TOO_LARGE,
                           "a network in the prompt has more than %d arguments",
                           LD_NETWORK_ARGS_MAX);
        start += size + 1;
    }
    return network->type ? LD_OK
                         : LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
}

enum ld_code ld_networks_extract(struct ld_arena *arena, struct ld_span text, struct ld_span *rest,
                                 struct ld_networks *out, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct ld_buffer left = ld_buffer_make(text.size);
    size_t kept = 0; /* everything before is in `left` or was taken out */
    size_t pos = 0;
    memset(out, 0, sizeof *out);
    while (pos < text.size) {
        const uint8_t *angle = memchr(text.data + pos, '<', text.size - pos);
        if (!angle)
            break;
        const size_t open = (size_t)(angle - text.data);
        const size_t type = type_length(text, open + 1);
        const size_t arguments = open + 1 + type + 1;
        pos = open + 1;
        if (type == 0 || arguments >= text.size)
            continue;
        const uint8_t *end = memchr(text.data + arguments, '>', text.size - arguments);
        if (!end)
            break; /* and no later mention can end either */
        const size_t close = (size_t)(end - text.data);
        if (close == arguments)
            continue;
        code = add_network(arena, out, ld_span_of(text.data + open, close + 1 - open), type, err);
        if (code != LD_OK)
            goto done;
        ld_buffer_bytes(&left, text.data + kept, open - kept);
        pos = kept = close + 1;
    }
    ld_buffer_bytes(&left, text.data + kept, text.size - kept);
    const char *copy = ld_arena_strndup(arena, left.data ? left.data : "", left.size);
    if (!copy || left.failed) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the prompt");
        goto done;
    }
    *rest = ld_span_of(copy, left.size);
done:
    ld_buffer_deinit(&left);
    return code;
}

/* ---- Extra networks: adapters ---------------------------------------------------------------- */

bool ld_network_is_lora(const struct ld_network *network)
{
    return strcmp(network->type, "lora") == 0 || strcmp(network->type, "lyco") == 0 ||
           strcmp(network->type, "locon") == 0;
}

static const char *argument(const struct ld_network *network, uint32_t index, const char *name)
{
    for (uint32_t i = network->named_count; i > 0; i--)
        if (strcmp(network->names[i - 1], name) == 0)
            return network->values[i - 1];
    return index < network->positional_count ? network->positional[index] : NULL;
}

/* Names come from a listing, never from a path; what could climb out of a folder is refused. */
static bool is_safe_name(const char *name)
{
    const size_t size = strlen(name);
    if (size == 0 || size > 128 || name[0] == '/')
        return false;
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7F || c == '\\')
            return false;
        const bool starts_part = i == 0 || name[i - 1] == '/';
        if (starts_part && c == '.' && name[i + 1] == '.' &&
            (name[i + 2] == '\0' || name[i + 2] == '/'))
            return false;
    }
    return true;
}

enum ld_code ld_network_lora(const struct ld_network *network, struct ld_lora_mention *out,
                             struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    const char *name = network->positional_count > 0 ? network->positional[0] : "";
    if (!is_safe_name(name))
        return LD_FAIL(err, LD_E_INVALID, "a <%.16s:...> mention in the prompt has no usable name",
                       network->type);
    const char *text = argument(network, 1, "te");
    const char *unet = argument(network, 2, "unet");
    const char *rank = argument(network, 3, "dyn");
    double ranks = 0;
    out->name = name;
    out->text_weight = 1.0;
    if (text && !ld_text_parse_double(ld_span_text(text), &out->text_weight))
        return LD_FAIL(err, LD_E_INVALID, "the text weight of <lora:%.64s> is not a number", name);
    out->unet_weight = out->text_weight;
    if (unet && !ld_text_parse_double(ld_span_text(unet), &out->unet_weight))
        return LD_FAIL(err, LD_E_INVALID, "the unet weight of <lora:%.64s> is not a number", name);
    if (rank && (!ld_text_parse_double(ld_span_text(rank), &ranks) || ranks < 1 || ranks > 1024))
        return LD_FAIL(err, LD_E_INVALID, "the rank of <lora:%.64s> must be 1 to 1024", name);
    out->rank = (uint32_t)ranks;
    return LD_OK;
}
