#include "runtime/text/bpe.h"

#include "runtime/text/bpe_table.h"
#include "runtime/text/gunzip.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Token texts while loading --------------------------------------------------------------- */

/* Text of each token and an index by text; needed only until all merges are resolved. */
struct names {
    char *bytes; /* all texts one after another */
    size_t bytes_used, bytes_size;
    uint32_t *starts;  /* starts[id] .. starts[id+1] is the text of id */
    uint32_t *buckets; /* id + 1, open addressing */
    uint32_t bucket_mask;
    uint32_t count;
};

static uint32_t hash_text(struct ld_span text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ text.data[i]) * UINT64_C(0x100000001b3);
    return ld_bpe_hash(hash);
}

static struct ld_span name_of(const struct names *names, uint32_t id)
{
    return ld_span_of(names->bytes + names->starts[id], names->starts[id + 1] - names->starts[id]);
}

/* Bucket that holds `text`, or the empty one where it belongs. */
static uint32_t *bucket_of(const struct names *names, struct ld_span text)
{
    uint32_t i = hash_text(text) & names->bucket_mask;
    while (names->buckets[i] && !ld_span_equal(name_of(names, names->buckets[i] - 1), text))
        i = (i + 1) & names->bucket_mask;
    return &names->buckets[i];
}

static bool find_name(const struct names *names, struct ld_span text, uint32_t *id)
{
    const uint32_t *bucket = bucket_of(names, text);
    if (!*bucket)
        return false;
    *id = *bucket - 1;
    return true;
}

/* Add left+right as the next id; false if that text is taken. */
static bool add_name(struct names *names, struct ld_span left, struct ld_span right)
{
    const size_t size = left.size + right.size;
    LD_ASSERT(size <= names->bytes_size - names->bytes_used);
    char *place = names->bytes + names->bytes_used;
    memcpy(place, left.data, left.size);
    if (right.size)
        memcpy(place + left.size, right.data, right.size);
    uint32_t *bucket = bucket_of(names, ld_span_of(place, size));
    if (*bucket)
        return false;
    names->bytes_used += size;
    *bucket = ++names->count;
    names->starts[names->count] = (uint32_t)names->bytes_used;
    return true;
}

/* The byte alphabet: printable bytes stand for themselves, the other 68 for U+0100 and up. */
static void add_alphabet(struct names *names, struct ld_bpe *bpe)
{
    uint8_t order[256];
    uint32_t chars[256];
    uint32_t count = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t extra = 0x100;
        for (uint32_t b = 0; b < 256; b++) {
            const bool printable =
                (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            if (printable != (pass == 0))
                continue;
            order[count] = (uint8_t)b;
            chars[count++] = printable ? b : extra++;
        }
    }
    for (uint32_t end = 0; end < 2; end++) {
        for (uint32_t i = 0; i < 256; i++) {
            uint8_t utf8[4];
            bpe->byte_ids[order[i]] = (uint8_t)i;
            const bool added = add_name(names, ld_span_of(utf8, ld_utf8_put(chars[i], utf8)),
                                        end ? ld_span_text("</w>") : ld_span_of("", 0));
            LD_ASSERT(added);
        }
    }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* Next line of `rest` without its LF or CRLF; false at the end. */
static bool next_line(struct ld_span *rest, struct ld_span *line)
{
    if (rest->size == 0)
        return false;
    const uint8_t *end = memchr(rest->data, '\n', rest->size);
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    *line = ld_span_of(rest->data, size);
    size += end ? 1 : 0;
    *rest = ld_span_of(rest->data + size, rest->size - size);
    if (line->size > 0 && line->data[line->size - 1] == '\r')
        line->size--;
    return true;
}

/* "left right" with exactly one blank. */
static bool split_merge(struct ld_span line, struct ld_span *left, struct ld_span *right)
{
    const uint8_t *blank = line.size ? memchr(line.data, ' ', line.size) : NULL;
    if (!blank)
        return false;
    *left = ld_span_of(line.data, (size_t)(blank - line.data));
    *right = ld_span_of(blank + 1, line.size - left->size - 1);
    return left->size > 0 && right->size > 0 && !memchr(right->data, ' ', right->size);
}

static uint32_t count_merges(struct ld_span lines, uint32_t limit)
{
    struct ld_span line;
    uint32_t count = 0;
    while (count < limit && next_line(&lines, &line) && line.size > 0)
        count++;
    return count;
}

static void add_slot(struct ld_bpe *bpe, uint32_t left, uint32_t right, uint32_t id)
{
    const uint64_t pair = ((uint64_t)left << 32 | right) + 1;
    uint32_t i = ld_bpe_hash(pair) & bpe->slot_mask;
    while (bpe->slots[i].pair)
        i = (i + 1) & bpe->slot_mask;
    bpe->slots[i] = (struct ld_bpe_slot){.pair = pair, .id = id};
}

static enum ld_code add_merges(struct ld_bpe *bpe, struct names *names, struct ld_span lines,
                               uint32_t line_number, struct ld_error *err)
{
    for (uint32_t m = 0; m < bpe->merge_count; m++, line_number++) {
        struct ld_span line;
        struct ld_span left;
        struct ld_span right;
        uint32_t left_id;
        uint32_t right_id;
        if (!next_line(&lines, &line) || !split_merge(line, &left, &right) ||
            !find_name(names, left, &left_id) || !find_name(names, right, &right_id))
            return LD_FAIL(err, LD_E_FORMAT,
                           "line %u of the vocabulary is not a merge of two known tokens",
                           line_number);
        /* The texts may alias the table's memory only through `line`, which is the caller's. */
        if (!add_name(names, left, right))
            return LD_FAIL(err, LD_E_FORMAT,
                           "line %u of the vocabulary makes a token that exists already",
                           line_number);
        add_slot(bpe, left_id, right_id, LD_BPE_FIRST_MERGE + m);
    }
    return LD_OK;
}

/* ---- Creation -------------------------------------------------------------------------------- */

static uint32_t power_of_two_above(uint32_t value)
{
    uint32_t power = 1;
    while (power < value)
        power *= 2;
    return power;
}

static bool names_init(struct names *names, uint32_t merge_count, size_t lines_size)
{
    const uint32_t count = LD_BPE_FIRST_MERGE + merge_count;
    const uint32_t buckets = power_of_two_above(2 * count);
    names->bytes_size = lines_size + 4096; /* alphabet: 512 texts of at most 6 bytes */
    names->bytes = ld_heap_alloc(names->bytes_size);
    names->starts = ld_heap_calloc((size_t)count + 1, sizeof *names->starts);
    names->buckets = ld_heap_calloc(buckets, sizeof *names->buckets);
    names->bucket_mask = buckets - 1;
    return names->bytes && names->starts && names->buckets;
}

static void names_deinit(struct names *names)
{
    ld_heap_free(names->bytes);
    ld_heap_free(names->starts);
    ld_heap_free(names->buckets);
}

static enum ld_code create_from_text(struct ld_bpe **out, struct ld_arena *arena,
                                     struct ld_span text, uint32_t merge_count,
                                     struct ld_error *err)
{
    enum ld_code code = LD_OK;
    struct names names = {0};
    struct ld_span line;
    struct ld_span lines = text;
    uint32_t first_line = 1;
    if (next_line(&lines, &line) && line.size > 0 && memmem(line.data, line.size, "#version", 8))
        first_line = 2;
    else
        lines = text;
    const uint32_t limit = merge_count ? merge_count : LD_BPE_CLIP_MERGES;
    const uint32_t found = count_merges(lines, limit);
    if (found == 0 || (merge_count && found < merge_count)) {
        code = LD_FAIL(err, LD_E_FORMAT,
                       "this is no such vocabulary: of its lines %u are merges, %u are needed",
                       found, merge_count ? merge_count : 1);
        goto done;
    }
    const uint32_t slots = power_of_two_above(2 * found);
    struct ld_bpe *bpe = ld_arena_alloc(arena, sizeof *bpe);
    if (!bpe || !(bpe->slots = ld_arena_calloc(arena, slots, sizeof *bpe->slots)) ||
        !names_init(&names, found, lines.size)) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the vocabulary");
        goto done;
    }
    bpe->slot_mask = slots - 1;
    bpe->merge_count = found;
    add_alphabet(&names, bpe);
    code = add_merges(bpe, &names, lines, first_line, err);
    if (code == LD_OK)
        *out = bpe;
done:
    names_deinit(&names);
    return code;
}

enum ld_code ld_bpe_create(struct ld_bpe **out, struct ld_arena *arena, struct ld_span file,
                           uint32_t merge_count, struct ld_error *err)
{
    uint8_t *unpacked = NULL;
    *out = NULL;
    if (merge_count > (1U << 24))
        return LD_FAIL(err, LD_E_TOO_LARGE, "a vocabulary has at most %u merges", 1U << 24);
    if (ld_gunzip_detect(file)) {
        size_t size;
        if (ld_gunzip(file, LD_BPE_FILE_LIMIT, &unpacked, &size, err) != LD_OK)
            return ld_error_note(err, "unpacking the vocabulary");
        file = ld_span_of(unpacked, size);
    }
    enum ld_code code;
    if (file.size > LD_BPE_FILE_LIMIT)
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the vocabulary is larger than %d bytes",
                       LD_BPE_FILE_LIMIT);
    else
        code = create_from_text(out, arena, file, merge_count, err);
    ld_heap_free(unpacked);
    return code;
}

uint32_t ld_bpe_merge_count(const struct ld_bpe *bpe)
{
    return bpe->merge_count;
}

uint32_t ld_bpe_start_id(const struct ld_bpe *bpe)
{
    return LD_BPE_FIRST_MERGE + bpe->merge_count;
}

uint32_t ld_bpe_end_id(const struct ld_bpe *bpe)
{
    return LD_BPE_FIRST_MERGE + bpe->merge_count + 1;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int open_vocabulary(const char *path)
{
    static const char *const names[] = {"bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt",
                                        "merges.txt", "tokenizer/merges.txt"};
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISDIR(info.st_mode))
        return fd;
    int file = -1;
    for (size_t i = 0; file < 0 && i < sizeof names / sizeof names[0]; i++)
        file = openat(fd, names[i], O_RDONLY | O_CLOEXEC);
    close(fd);
    return file;
}

static bool read_all(int fd, uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t got = read(fd, data + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

enum ld_code ld_bpe_load(struct ld_bpe **out, struct ld_arena *arena, const char *path,
                         uint32_t merge_count, struct ld_error *err)
{
    enum ld_code code = LD_OK;
    uint8_t *data = NULL;
    struct stat info;
    *out = NULL;
    const int fd = open_vocabulary(path);
    if (fd < 0) {
        code = LD_FAIL(err, LD_E_NOT_FOUND,
                       "no CLIP vocabulary was found; deploy/get_clip_vocab.sh fetches one");
        goto done;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        code = LD_FAIL(err, LD_E_IO, "the vocabulary cannot be read");
        goto done;
    }
    if (info.st_size > LD_BPE_FILE_LIMIT) {
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the vocabulary is larger than %d bytes",
                       LD_BPE_FILE_LIMIT);
        goto done;
    }
    data = ld_heap_alloc((size_t)info.st_size);
    if (!data) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the vocabulary");
        goto done;
    }
    if (!read_all(fd, data, (size_t)info.st_size)) {
        code = LD_FAIL(err, LD_E_IO, "the vocabulary cannot be read");
        goto done;
    }
    code = ld_bpe_create(out, arena, ld_span_of(data, (size_t)info.st_size), merge_count, err);
done:
    if (fd >= 0)
        close(fd);
    ld_heap_free(data);
    return code;
}
