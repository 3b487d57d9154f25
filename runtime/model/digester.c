#include "runtime/model/digester.h"

#include "runtime/model/registry_look.h"
#include "runtime/model/weights_private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { BLOCK = 1 << 20 };

struct ld_digester {
    struct ld_weights *weights; /* NULL: a plain file */
    int fd;                     /* that file, or -1 */
    uint32_t file;              /* of the weights */
    uint64_t offset;
    struct ld_sha256 hash;
    struct ld_registry_stamp before;
    uint8_t block[BLOCK];
};

static void stamp_of(const struct ld_digester *digester, struct ld_registry_stamp *stamp)
{
    if (digester->weights)
        ld_registry_stamp_weights(digester->weights, stamp);
    else
        ld_registry_stamp_fd(digester->fd, stamp);
}

static enum ld_code open_file(struct ld_digester *digester, const char *path, bool is_weights,
                              struct ld_error *err)
{
    if (is_weights)
        return ld_weights_open(&digester->weights, path, NULL, err);
    digester->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (digester->fd < 0)
        return LD_FAIL_OS(err, LD_E_IO, errno, "the file cannot be opened");
    return LD_OK;
}

enum ld_code ld_digester_begin(struct ld_digester **out, const char *path, bool is_weights,
                               struct ld_error *err)
{
    *out = NULL;
    struct ld_digester *digester = ld_heap_alloc(sizeof *digester);
    if (!digester)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to hash a file");
    digester->fd = -1;
    enum ld_code code = open_file(digester, path, is_weights, err);
    if (code == LD_OK)
        code = ld_sha256_init(&digester->hash, err);
    if (code != LD_OK) {
        ld_digester_end(digester);
        return code;
    }
    stamp_of(digester, &digester->before);
    *out = digester;
    return LD_OK;
}

/* The file that is read now; -1 behind the last. */
static int current(const struct ld_digester *digester)
{
    if (!digester->weights)
        return digester->file == 0 ? digester->fd : -1;
    const struct ld_weight_files *files = &digester->weights->files;
    return digester->file < files->count ? ld_safetensors_fd(files->files[digester->file]) : -1;
}

enum ld_code ld_digester_step(struct ld_digester *digester, uint64_t bytes, bool *done,
                              struct ld_error *err)
{
    int fd;
    *done = false;
    while ((fd = current(digester)) >= 0) {
        if (bytes == 0)
            return LD_OK;
        const ssize_t got = pread(fd, digester->block, bytes < BLOCK ? (size_t)bytes : BLOCK,
                                  (off_t)digester->offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LD_FAIL_OS(err, LD_E_IO, errno, "the file cannot be read");
        if (got == 0) {
            digester->file++;
            digester->offset = 0;
            continue;
        }
        ld_sha256_update(&digester->hash, ld_span_of(digester->block, (size_t)got));
        digester->offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    *done = true;
    return LD_OK;
}

bool ld_digester_result(struct ld_digester *digester, struct ld_registry_stamp *stamp,
                        char out[LD_SHA256_HEX_SIZE])
{
    uint8_t digest[LD_SHA256_BYTES];
    LD_ASSERT(digester->hash.handle);
    ld_sha256_finish(&digester->hash, digest);
    ld_hex(ld_span_of(digest, sizeof digest), out);
    stamp_of(digester, stamp);
    return ld_registry_stamp_equal(stamp, &digester->before);
}

void ld_digester_end(struct ld_digester *digester)
{
    if (!digester)
        return;
    ld_sha256_deinit(&digester->hash);
    ld_weights_close(digester->weights);
    if (digester->fd >= 0)
        (void)close(digester->fd);
    ld_heap_free(digester);
}
