#include "runtime/model/zip_store.h"

enum {
    END_SIZE = 22, /* of the end record without its comment */
    END_COMMENT_MAX = 65535,
    RECORD_SIZE = 46, /* of a directory record without name, extra and comment */
    LOCAL_SIZE = 30,  /* of a local header likewise */
    FLAG_ENCRYPTED = 1
};

static enum ld_code damaged(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_FORMAT, "the zip archive is damaged");
}

/* `size` bytes at `offset` are inside. */
static bool inside(struct ld_span bytes, uint64_t offset, uint64_t size)
{
    return offset <= bytes.size && size <= bytes.size - offset;
}

/* Offset behind the record at `at`, 0 if there is none within `end`. */
static uint64_t next_record(const struct ld_zip *zip, uint64_t at, uint64_t end)
{
    if (at + RECORD_SIZE > end)
        return 0;
    const uint8_t *record = zip->bytes.data + at;
    const uint64_t next = at + RECORD_SIZE + ld_read_u16le(record + 28) +
                          ld_read_u16le(record + 30) + ld_read_u16le(record + 32);
    return ld_read_u32le(record) == 0x02014B50 && next <= end ? next : 0;
}

/* The directory must hold exactly the records that the end record counts. */
static enum ld_code walk_directory(struct ld_zip *zip, uint32_t count, uint32_t size,
                                   struct ld_error *err)
{
    const uint64_t end = (uint64_t)zip->directory + size;
    uint64_t at = zip->directory;
    for (uint32_t i = 0; i < count; i++) {
        at = next_record(zip, at, end);
        if (at == 0)
            return damaged(err);
    }
    if (at != end || end > UINT32_MAX)
        return damaged(err);
    zip->end = (uint32_t)end;
    return LD_OK;
}

enum ld_code ld_zip_open(struct ld_zip *zip, struct ld_span bytes, struct ld_error *err)
{
    memset(zip, 0, sizeof *zip);
    zip->bytes = bytes;
    if (bytes.size < END_SIZE)
        return damaged(err);
    const size_t last = bytes.size - END_SIZE;
    const size_t first = last > END_COMMENT_MAX ? last - END_COMMENT_MAX : 0;
    for (size_t at = last + 1; at-- > first;) {
        const uint8_t *end = bytes.data + at;
        if (ld_read_u32le(end) != 0x06054B50 || ld_read_u16le(end + 20) != last - at)
            continue;
        const uint32_t size = ld_read_u32le(end + 12);
        const uint32_t count = ld_read_u16le(end + 10);
        zip->directory = ld_read_u32le(end + 16);
        if (ld_read_u16le(end + 4) != 0 || ld_read_u16le(end + 6) != 0 ||
            ld_read_u16le(end + 8) != count || !inside(bytes, zip->directory, size))
            return damaged(err);
        if (count > LD_ZIP_ENTRIES_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the zip archive has more than %d entries",
                           LD_ZIP_ENTRIES_MAX);
        return walk_directory(zip, count, size, err);
    }
    return damaged(err);
}

/* The data of the entry whose local header is at `local`; sizes come from the directory, as a
 * streaming writer leaves them zero in the local header. */
static enum ld_code find_data(const struct ld_zip *zip, uint32_t local, uint32_t size,
                              struct ld_zip_entry *entry, struct ld_error *err)
{
    if (!inside(zip->bytes, local, LOCAL_SIZE))
        return damaged(err);
    const uint8_t *header = zip->bytes.data + local;
    const uint64_t start =
        (uint64_t)local + LOCAL_SIZE + ld_read_u16le(header + 26) + ld_read_u16le(header + 28);
    if (ld_read_u32le(header) != 0x04034B50 || !inside(zip->bytes, start, size))
        return damaged(err);
    entry->data = ld_span_of(zip->bytes.data + start, size);
    return LD_OK;
}

enum ld_code ld_zip_next(const struct ld_zip *zip, uint32_t *position, struct ld_zip_entry *entry,
                         bool *more, struct ld_error *err)
{
    const uint32_t at = *position == 0 ? zip->directory : *position;
    *more = at < zip->end;
    if (!*more)
        return LD_OK;
    const uint8_t *record = zip->bytes.data + at;
    *position = (uint32_t)next_record(zip, at, zip->end); /* checked when the archive was opened */
    const uint32_t size = ld_read_u32le(record + 24);
    if (ld_read_u16le(record + 10) != 0 || ld_read_u32le(record + 20) != size ||
        (ld_read_u16le(record + 8) & FLAG_ENCRYPTED))
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the zip archive is compressed or encrypted");
    entry->name = ld_span_of(record + RECORD_SIZE, ld_read_u16le(record + 28));
    return find_data(zip, ld_read_u32le(record + 42), size, entry, err);
}
