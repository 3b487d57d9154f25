/*
 * NovelAI's image interface (api.md 2.3), with the meaning that its second model gave to the
 * fields. Its clients write quality tags and the preset of the negative prompt into the texts
 * themselves; `qualityToggle` and `ucPreset` are only kept in the picture's metadata.
 */
#ifndef LD_API_DIALECT_NOVELAI_H
#define LD_API_DIALECT_NOVELAI_H

#include "api/dialect.h"
#include "api/job_view.h"

enum ld_novelai_stream { LD_NOVELAI_ZIP, LD_NOVELAI_SSE, LD_NOVELAI_MSGPACK };

struct ld_novelai_call {
    struct ld_json_tree tree;
    enum ld_novelai_stream stream;
    int32_t steps;
    char gen_id[32];
};

void ld_novelai_translate(struct ld_translation *t, struct ld_novelai_call *call);

/*
 * The picture with NovelAI's texts in front of its own: Title, Description, Software, Source,
 * Generation time (0: equal requests give equal bytes), Comment.
 * Errors   those of ld_picture_texts_add.
 */
enum ld_code ld_novelai_sign(const struct ld_novelai_call *call, const struct ld_job_view *job,
                             uint64_t seed, struct ld_span file, struct ld_buffer *out,
                             struct ld_error *err) LD_MUST_USE;

/* One event of a stream in the call's encoding: a preview (base64 of its file) or a finished
 * picture (its bytes). */
struct ld_novelai_event {
    bool final;
    uint32_t sample, step;
    struct ld_span base64, file; /* one of them */
};
void ld_novelai_write_event(const struct ld_novelai_call *call,
                            const struct ld_novelai_event *event, struct ld_buffer *out);
void ld_novelai_write_failed(const struct ld_novelai_call *call, const char *sentence,
                             struct ld_buffer *out);

#endif
