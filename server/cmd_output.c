#include "server/cmd_output.h"

#include "runtime/base/fsx.h"
#include "runtime/image/picture_kind.h"

#include <string.h>
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

enum ld_code ld_cmd_take_format(struct ld_request *request, struct ld_arena *arena,
                                const char *path, struct ld_error *err)
{
    enum ld_picture_kind kind;
    if (ld_request_has(request, "output.format") || !ld_picture_kind_of_path(path, &kind) ||
        kind == LD_PICTURE_PNG)
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
