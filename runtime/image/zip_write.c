#include "runtime/image/zip_write.h"

#include <libdeflate.h>

static void put16(struct ld_buffer *out, uint32_t value)
{
    ld_buffer_byte(out, (char)(value & 0xFF));
    ld_buffer_byte(out, (char)(value >> 8 & 0xFF));
}

static void put32(struct ld_buffer *out, uint32_t value)
{
    put16(out, value & 0xFFFF);
    put16(out, value >> 16);
}

/* What the local header and the directory have in common: version 2.0, no flags, stored, midnight
 * of 1 January 1980 (equal pictures give equal archives), sizes, length of the name, no extra
 * field. */
static void put_facts(struct ld_buffer *out, const struct ld_zip_written *entry)
{
    put16(out, 20);
    put16(out, 0);
    put16(out, 0);
    put16(out, 0);
    put16(out, 0x21);
    put32(out, entry->crc);
    put32(out, entry->size);
    put32(out, entry->size);
    put16(out, (uint32_t)strlen(entry->name));
    put16(out, 0);
}

void ld_zip_add(struct ld_zip_writer *zip, const char *name, struct ld_span data)
{
    LD_ASSERT(zip->count < LD_ZIP_FILES_MAX && data.size < UINT32_MAX);
    struct ld_zip_written *entry = &zip->entry[zip->count];
    if (zip->count++ == 0)
        zip->start = zip->out->size;
    entry->crc = libdeflate_crc32(0, data.data, data.size);
    entry->size = (uint32_t)data.size;
    entry->offset = (uint32_t)(zip->out->size - zip->start);
    LD_ASSERT(ld_fmt(entry->name, sizeof entry->name, "%s", name));
    put32(zip->out, 0x04034B50);
    put_facts(zip->out, entry);
    ld_buffer_text(zip->out, entry->name);
    ld_buffer_bytes(zip->out, data.data, data.size);
}

void ld_zip_finish(struct ld_zip_writer *zip)
{
    const uint32_t directory = (uint32_t)(zip->out->size - zip->start);
    for (uint32_t i = 0; i < zip->count; i++) {
        put32(zip->out, 0x02014B50);
        put16(zip->out, 20);
        put_facts(zip->out, &zip->entry[i]);
        put16(zip->out, 0); /* comment */
        put16(zip->out, 0); /* disk */
        put16(zip->out, 0); /* attributes of its own and of the system */
        put32(zip->out, 0);
        put32(zip->out, zip->entry[i].offset);
        ld_buffer_text(zip->out, zip->entry[i].name);
    }
    const uint32_t size = (uint32_t)(zip->out->size - zip->start) - directory;
    put32(zip->out, 0x06054B50);
    put16(zip->out, 0);
    put16(zip->out, 0);
    put16(zip->out, zip->count);
    put16(zip->out, zip->count);
    put32(zip->out, size);
    put32(zip->out, directory);
    put16(zip->out, 0);
}
