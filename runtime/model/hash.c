#include "runtime/model/hash.h"

#include "runtime/base/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum ld_code ld_hash_add_fd(struct ld_sha256 *hash, int fd, uint64_t offset, struct ld_error *err)
{
    enum { BLOCK = 1 << 20 };
    uint8_t *block = ld_heap_alloc(BLOCK);
    if (!block)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to hash a file");
    enum ld_code code = LD_OK;
    for (;;) {
        const ssize_t got = pread(fd, block, BLOCK, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            code = LD_FAIL_OS(err, LD_E_IO, errno, "the file cannot be read");
        if (got <= 0)
            break;
        ld_sha256_update(hash, ld_span_of(block, (size_t)got));
        offset += (uint64_t)got;
    }
    ld_heap_free(block);
    return code;
}

enum ld_code ld_hash_fd(int fd, uint64_t offset, char out[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    struct ld_sha256 hash = {0};
    uint8_t digest[LD_SHA256_BYTES];
    enum ld_code code = ld_sha256_init(&hash, err);
    if (code == LD_OK)
        code = ld_hash_add_fd(&hash, fd, offset, err);
    if (code == LD_OK) {
        ld_sha256_finish(&hash, digest);
        ld_hex(ld_span_of(digest, sizeof digest), out);
    }
    ld_sha256_deinit(&hash);
    return code;
}

enum ld_code ld_hash_path(const char *path, char out[LD_SHA256_HEX_SIZE], struct ld_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int os_code = errno;
        return LD_FAIL_OS(err, os_code == ENOENT ? LD_E_NOT_FOUND : LD_E_IO, os_code,
                          "the file cannot be opened");
    }
    const enum ld_code code = ld_hash_fd(fd, 0, out, err);
    (void)close(fd);
    return code;
}
