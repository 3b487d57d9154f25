#include "runtime/vae_form.h"

#include "runtime/base/buffer.h"
#include "runtime/base/fsx.h"

#include <string.h>

enum { PROC_FILE_MAX = 64 * 1024 };

/* ---- Memory ---------------------------------------------------------------------------------- */

/* The number at the head of a text, in `unit` bytes; false where none stands there ("max"). */
static bool number_at(struct ld_span text, size_t unit, size_t *out)
{
    size_t value = 0;
    size_t at = 0;
    while (at < text.size && text.data[at] == ' ')
        at++;
    const size_t first = at;
    for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++)
        if (!ld_mul_ok(value, 10, &value) ||
            !ld_add_ok(value, (size_t)(text.data[at] - '0'), &value))
            return false;
    return at > first && ld_mul_ok(value, unit, out);
}

size_t ld_memory_available(struct ld_span meminfo, struct ld_span limit, struct ld_span current)
{
    static const char word[] = "MemAvailable:";
    size_t available = SIZE_MAX;
    size_t most;
    size_t used;
    const uint8_t *at =
        meminfo.size ? memmem(meminfo.data, meminfo.size, word, sizeof word - 1) : NULL;
    if (at) {
        const size_t head = (size_t)(at - meminfo.data) + sizeof word - 1;
        size_t bytes;
        if (number_at(ld_span_of(meminfo.data + head, meminfo.size - head), 1024, &bytes))
            available = bytes;
    }
    if (number_at(limit, 1, &most) && number_at(current, 1, &used)) {
        const size_t left = most > used ? most - used : 0;
        available = left < available ? left : available;
    }
    return available;
}

static struct ld_span read_file(const char *path, struct ld_buffer *out)
{
    struct ld_error ignored = {0};
    *out = ld_buffer_make(PROC_FILE_MAX);
    if (ld_fsx_read_file(path, out, &ignored) != LD_OK)
        ld_buffer_clear(out);
    return ld_span_of(out->data, out->size);
}

static size_t available_now(void)
{
    struct ld_buffer texts[3];
    const struct ld_span meminfo = read_file("/proc/meminfo", &texts[0]);
    const struct ld_span limit = read_file("/sys/fs/cgroup/memory.max", &texts[1]);
    const struct ld_span current = read_file("/sys/fs/cgroup/memory.current", &texts[2]);
    const size_t bytes = ld_memory_available(meminfo, limit, current);
    for (int i = 0; i < 3; i++)
        ld_buffer_deinit(&texts[i]);
    return bytes;
}

/* ---- The form -------------------------------------------------------------------------------- */

enum ld_vae_form ld_vae_form_of(enum ld_vae_tiling asked, const struct ld_model *vae, bool encoder,
                                int32_t height, int32_t width, bool tight)
{
    switch (asked) {
    case LD_VAE_EXACT:
        return LD_VAE_FORM_STRIPS;
    case LD_VAE_ESTIMATED:
        return LD_VAE_FORM_ESTIMATED;
    case LD_VAE_PLAIN:
        return LD_VAE_FORM_TILE;
    case LD_VAE_AUTO:
        break;
    }
    /* A GPU says by itself when it has too little; on the host memory would be overcommitted. */
    const bool fits = !ld_model_on_host(vae) ||
                      ld_model_vae_bytes(vae, encoder, height, width) <= available_now();
    return tight || !fits ? LD_VAE_FORM_STRIPS : LD_VAE_FORM_WHOLE;
}

const char *ld_vae_form_name(enum ld_vae_form form)
{
    static const char *const names[] = {"whole", "exact", "estimated", "plain"};
    return (unsigned)form < sizeof names / sizeof names[0] ? names[form] : "unknown";
}
