#include "server/cmd_output.h"

#include "runtime/base/fsx.h"
#include "runtime/image/picture_kind.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { FOLDER_SIZE = 4096 };

enum ld_code ld_cmd_write_file(const char *path, struct ld_span bytes, struct ld_error *err)
{
    char folder[FOLDER_SIZE];
    char temporary[300];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    int dir_fd = -1;
    if (!ld_fmt(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1,
                slash ? path : ".") ||
        !ld_fmt(temporary, sizeof temporary, ".%.200s.%ld.tmp", name, (long)getpid()))
        return LD_FAIL(err, LD_E_INVALID, "the output's name is too long");
    enum ld_code code = ld_fsx_open_dir(folder, &dir_fd, err);
    if (code == LD_OK) {
        const struct ld_fsx_publish where = {dir_fd, temporary, dir_fd, name, 0644};
        code = ld_fsx_publish(&where, bytes, err);
        close(dir_fd);
    }
    if (code == LD_OK)
        return LD_OK;
    const int why = err->frame_count > 0 ? err->frames[0].os_code : 0;
    return LD_FAIL_OS(err, code, why, "'%.200s' cannot be written%s%s", path, why ? ": " : "",
                      why ? strerror(why) : "");
}

/* A PNG under such a name would be opened by nothing. Any other ending is part of the name. */
static bool is_another_format(const char *path)
{
    static const char *const endings[] = {".gif", ".bmp",  ".tif", ".tiff", ".avif",
                                          ".jxl", ".heic", ".psd", ".svg",  ".pdf"};
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++) {
        if (strcasecmp(endings[i], dot) == 0)
            return true;
    }
    return false;
}

enum ld_code ld_cmd_take_format(struct ld_request *request, struct ld_arena *arena,
                                const char *path, struct ld_error *err)
{
    enum ld_picture_kind kind;
    if (ld_request_has(request, "output.format"))
        return LD_OK;
    if (is_another_format(path))
        return LD_FAIL(
            err, LD_E_INVALID,
            "'%.200s': pictures are written as .png, .webp or .jpg, which the ending says", path);
    if (!ld_picture_kind_of_path(path, &kind) || kind == LD_PICTURE_PNG)
        return LD_OK;
    return ld_request_set_text(request, arena, "output.format", ld_picture_kind_name(kind), err);
}

const char *ld_cmd_default_output(const struct ld_request *request)
{
    static const char *const names[LD_PICTURE_KINDS] = {"out.png", "out.jpg", "out.webp"};
    enum ld_picture_kind kind = LD_PICTURE_PNG;
    (void)ld_picture_kind_find(request->output_format, &kind);
    return names[kind];
}
