/* The names under which ComfyUI's clients know pictures. */
#include "api/dialect_comfy.h"

static bool read_id(struct ld_span text, char id[LD_ID_SIZE])
{
    return ld_id_valid(text) &&
           ld_fmt(id, LD_ID_SIZE, "%.*s", (int)text.size, (const char *)text.data);
}

bool ld_comfy_input_read(const char *name, struct ld_comfy_input *input)
{
    enum { ID = LD_ID_SIZE - 1 };
    const size_t size = strcspn(name, ".");
    *input = (struct ld_comfy_input){.image = "", .mask = ""};
    if (size == ID)
        return read_id(ld_span_of(name, ID), input->image);
    return size == 2 * ID + 1 && name[ID] == '_' && read_id(ld_span_of(name, ID), input->image) &&
           read_id(ld_span_of(name + ID + 1, ID), input->mask);
}

void ld_comfy_input_write(const struct ld_comfy_input *input, struct ld_buffer *out)
{
    ld_buffer_format(out, "%s%s%s.png", input->image, input->mask[0] ? "_" : "", input->mask);
}

bool ld_comfy_output_read(const char *name, char job[LD_ID_SIZE], uint64_t *index)
{
    enum { ID = LD_ID_SIZE - 1 };
    const char *dot = strrchr(name, '.');
    const size_t size = dot ? (size_t)(dot - name) : 0;
    return size > ID + 1 && name[ID] == '_' && read_id(ld_span_of(name, ID), job) &&
           ld_parse_u64(ld_span_of(name + ID + 1, size - ID - 1), index);
}
