#include "runtime/model/magic.h"

#include <fcntl.h>
#include <unistd.h>

struct signature {
    const char *bytes;
    size_t size;
    size_t offset;
    enum ld_magic magic;
};

#define SIGNATURE(text, at, kind)                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1, at, kind                                                           \
    }

static const struct signature signatures[] = {
    SIGNATURE("\x89PNG\r\n\x1a\n", 0, LD_MAGIC_PNG),
    SIGNATURE("\xff\xd8\xff", 0, LD_MAGIC_JPEG),
    SIGNATURE("WEBP", 8, LD_MAGIC_WEBP),
    SIGNATURE("GIF8", 0, LD_MAGIC_GIF),
    SIGNATURE("PK\x03\x04", 0, LD_MAGIC_ZIP),
    SIGNATURE("PK\x05\x06", 0, LD_MAGIC_ZIP),
    SIGNATURE("GGUF", 0, LD_MAGIC_GGUF),
    SIGNATURE("\x89HDF\r\n\x1a\n", 0, LD_MAGIC_HDF5),
    SIGNATURE("\x93NUMPY", 0, LD_MAGIC_NPY),
    SIGNATURE("\x1f\x8b", 0, LD_MAGIC_GZIP),
    SIGNATURE("7z\xbc\xaf\x27\x1c", 0, LD_MAGIC_SEVEN_ZIP),
    SIGNATURE("version https://git-lfs", 0, LD_MAGIC_LFS_POINTER),
};

struct words {
    const char *name, *words;
};

static const struct words words[LD_MAGIC_COUNT] = {
    [LD_MAGIC_UNKNOWN] = {"unknown", "of an unknown format"},
    [LD_MAGIC_EMPTY] = {"empty", "empty"},
    [LD_MAGIC_SAFETENSORS] = {"safetensors", "a safetensors file"},
    [LD_MAGIC_PNG] = {"png", "a PNG picture"},
    [LD_MAGIC_JPEG] = {"jpeg", "a JPEG picture"},
    [LD_MAGIC_WEBP] = {"webp", "a WebP picture"},
    [LD_MAGIC_GIF] = {"gif", "a GIF picture"},
    [LD_MAGIC_TORCH_ZIP] = {"torch", "a PyTorch pickle in a zip archive"},
    [LD_MAGIC_ZIP] = {"zip", "a zip archive"},
    [LD_MAGIC_PICKLE] = {"pickle", "a Python pickle"},
    [LD_MAGIC_GGUF] = {"gguf", "a GGUF file"},
    [LD_MAGIC_HDF5] = {"hdf5", "an HDF5 file"},
    [LD_MAGIC_NPY] = {"npy", "a NumPy array"},
    [LD_MAGIC_GZIP] = {"gzip", "gzip data"},
    [LD_MAGIC_SEVEN_ZIP] = {"7z", "a 7z archive"},
    [LD_MAGIC_HTML] = {"html", "a web page (the download probably failed)"},
    [LD_MAGIC_LFS_POINTER] = {"git-lfs", "a Git LFS pointer, not the file itself"},
    [LD_MAGIC_JSON] = {"json", "JSON text"},
    [LD_MAGIC_TEXT] = {"text", "plain text"},
};

const char *ld_magic_name(enum ld_magic magic)
{
    LD_ASSERT((unsigned)magic < LD_MAGIC_COUNT);
    return words[magic].name;
}

const char *ld_magic_words(enum ld_magic magic)
{
    LD_ASSERT((unsigned)magic < LD_MAGIC_COUNT);
    return words[magic].words;
}

/* ---- Kinds without a fixed signature --------------------------------------------------------- */

static bool starts_with(struct ld_span head, size_t offset, const char *bytes, size_t size)
{
    return head.size >= offset + size && memcmp(head.data + offset, bytes, size) == 0;
}

/* Protocol 2 and later open with PROTO n; a zip of torch.save holds NAME/data.pkl first. */
static bool is_pickle(struct ld_span head)
{
    return head.size >= 3 && head.data[0] == 0x80 && head.data[1] >= 2 && head.data[1] <= 5;
}

static bool holds_pickle(struct ld_span head)
{
    static const char name[] = "/data.pkl";
    for (size_t i = 30; i + sizeof name - 1 <= head.size && i < 200; i++) {
        if (memcmp(head.data + i, name, sizeof name - 1) == 0)
            return true;
    }
    return false;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool is_html(struct ld_span text)
{
    static const char *const starts[] = {"<!doctype html", "<html", "<head", "<body"};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        const size_t length = strlen(starts[s]);
        size_t i = 0;
        while (i < length && i < text.size && lower(text.data[i]) == (uint8_t)starts[s][i])
            i++;
        if (i == length)
            return true;
    }
    return false;
}

static bool is_text(struct ld_span head)
{
    for (size_t i = 0; i < head.size; i++) {
        const uint8_t c = head.data[i];
        if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7F)
            return false;
    }
    return true;
}

static enum ld_magic text_kind(struct ld_span head)
{
    size_t blank = 0;
    while (blank < head.size && (head.data[blank] == ' ' || head.data[blank] == '\n' ||
                                 head.data[blank] == '\r' || head.data[blank] == '\t'))
        blank++;
    const struct ld_span text = ld_span_of(head.data + blank, head.size - blank);
    if (is_html(text))
        return LD_MAGIC_HTML;
    if (!is_text(head))
        return LD_MAGIC_UNKNOWN;
    return text.size && (text.data[0] == '{' || text.data[0] == '[') ? LD_MAGIC_JSON
                                                                     : LD_MAGIC_TEXT;
}

enum ld_magic ld_magic_of(struct ld_span head)
{
    if (head.size == 0)
        return LD_MAGIC_EMPTY;
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const struct signature *signature = &signatures[i];
        if (!starts_with(head, signature->offset, signature->bytes, signature->size))
            continue;
        return signature->magic == LD_MAGIC_ZIP && holds_pickle(head) ? LD_MAGIC_TORCH_ZIP
                                                                      : signature->magic;
    }
    if (head.size > 8 && head.data[8] == '{' && ld_read_u64le(head.data) <= 100000000)
        return LD_MAGIC_SAFETENSORS;
    return is_pickle(head) ? LD_MAGIC_PICKLE : text_kind(head);
}

enum ld_magic ld_magic_of_file(const char *path)
{
    uint8_t head[LD_MAGIC_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return LD_MAGIC_UNKNOWN;
    const ssize_t size = pread(fd, head, sizeof head, 0);
    (void)close(fd);
    return size < 0 ? LD_MAGIC_UNKNOWN : ld_magic_of(ld_span_of(head, (size_t)size));
}
