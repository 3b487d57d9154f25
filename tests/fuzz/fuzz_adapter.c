/*
 * Adapters merged into a small model. The input is a list of tensors in short form: which module,
 * which suffix, type and shape, the shapes mostly near those that fit; so nearly every input is a
 * valid file and the fuzzer works on factors that contradict each other. Nothing outside the
 * overlay may change, and what is reported as applied must have been edited.
 */
#include "runtime/model/adapter.h"

#include "runtime/base/buffer.h"
#include "tests/unit/model_fixture.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSORS_MAX = 24, TENSOR_BYTES_MAX = 1 << 18 };

static const char *const modules[] = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "lora_unet_input_blocks_1_0_in_layers_2",
    "lora_unet_conv_in",
    "lora_unet_conv_norm_out",
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "lycoris_mid_block_attentions_0_proj_in",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out",
    "lora_te1_text_model_embeddings_token_embedding",
    "bundle_emb.word",
    "lora_unet_no_such_module",
    "",
};

static const char *const suffixes[] = {
    ".lora_up.weight",
    ".lora_down.weight",
    ".lora_mid.weight",
    ".lora_A.weight",
    ".lora_B.weight",
    "_lora.up.weight",
    "_lora.down.weight",
    ".alpha",
    ".hada_w1_a",
    ".hada_w1_b",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".hada_t2",
    ".lokr_w1",
    ".lokr_w2",
    ".lokr_w1_a",
    ".lokr_w1_b",
    ".lokr_w2_a",
    ".lokr_w2_b",
    ".lokr_t2",
    ".a1.weight",
    ".a2.weight",
    ".b1.weight",
    ".b2.weight",
    ".dora_scale",
    ".diff",
    ".diff_b",
    ".set_weight",
    ".w_norm",
    ".b_norm",
    ".weight",
    ".on_input",
    ".oft_blocks",
    ".clip_l",
    ".string_to_param.*",
    ".lora_magnitude_vector",
    "",
};

static const uint64_t dims[] = {0, 1, 2, 3, 4, 8, 9, 16, 32, 31, 36, 64, 256, 288, 1024, 1025};
static const char *const types[] = {"F32", "F16", "BF16", "F64", "F8_E4M3", "I64", "BOOL", "C64"};
static const uint64_t type_sizes[] = {4, 2, 2, 8, 1, 8, 1, 8};

/* ---- The base model -------------------------------------------------------------------------- */

/* Written to memory once; opened through its descriptor. */
static struct ld_weights *base_model(void)
{
    static struct ld_weights *weights;
    static struct fixture fixture;
    if (!weights) {
        char path[64];
        const int fd = memfd_create("base", MFD_CLOEXEC);
        LD_ASSERT(fd >= 0 && ld_fmt(path, sizeof path, "/proc/self/fd/%d", fd));
        fixture_model(&fixture, LD_DTYPE_F16);
        fixture_write(&fixture, path);
        LD_ASSERT(ld_weights_open(&weights, path, NULL, NULL) == LD_OK);
        LD_ASSERT(close(fd) == 0);
    }
    return weights;
}

/* ---- Files from short form ------------------------------------------------------------------- */

struct maker {
    struct ld_buffer header;
    uint64_t position;
    uint32_t count;
};

/* module, suffix, type and rank, then one byte a dimension; false at the end of the input. */
static bool add_tensor(struct maker *maker, struct ld_span *input)
{
    if (input->size < 3 || maker->count == TENSORS_MAX)
        return false;
    const uint8_t *p = input->data;
    const char *module = modules[p[0] % (sizeof modules / sizeof modules[0])];
    const char *suffix = suffixes[p[1] % (sizeof suffixes / sizeof suffixes[0])];
    const size_t type = p[2] % 8;
    const size_t rank = p[2] / 8 % 5;
    if (input->size < 3 + rank)
        return false;
    uint64_t bytes = type_sizes[type];
    for (size_t i = 0; i < rank; i++)
        bytes *= dims[p[3 + i] % 16];
    *input = ld_span_of(p + 3 + rank, input->size - 3 - rank);
    if (bytes > TENSOR_BYTES_MAX)
        return true;
    ld_buffer_format(&maker->header, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[",
                     maker->count ? "," : "", module, suffix, types[type]);
    for (size_t i = 0; i < rank; i++)
        ld_buffer_format(&maker->header, "%s%llu", i ? "," : "",
                         (unsigned long long)dims[p[3 + i] % 16]);
    ld_buffer_format(&maker->header, "],\"data_offsets\":[%llu,%llu]}",
                     (unsigned long long)maker->position,
                     (unsigned long long)(maker->position + bytes));
    maker->position += bytes;
    maker->count++;
    return true;
}

/* Small numbers in most types. A pattern is copied, as every turn of a loop here is traced:
 * megabytes byte by byte took most of the fuzzer's time. */
static void fill(uint8_t *bytes, size_t size)
{
    uint8_t pattern[256];
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % 2 ? 0x3C : (uint8_t)i;
    for (size_t at = 0; at < size; at += sizeof pattern)
        memcpy(bytes + at, pattern, size - at < sizeof pattern ? size - at : sizeof pattern);
}

/* Length, header, and data. */
static uint8_t *make_file(struct maker *maker, size_t *size)
{
    ld_buffer_byte(&maker->header, '}');
    LD_ASSERT(!maker->header.failed);
    *size = 8 + maker->header.size + (size_t)maker->position;
    uint8_t *bytes = ld_heap_alloc(*size);
    LD_ASSERT(bytes);
    ld_write_u64le(bytes, maker->header.size);
    memcpy(bytes + 8, maker->header.data, maker->header.size);
    fill(bytes + 8 + maker->header.size, (size_t)maker->position);
    return bytes;
}

/* ---- Merging --------------------------------------------------------------------------------- */

static void merge(const struct ld_adapter *adapter, uint8_t choice)
{
    static const double strengths[] = {1, -0.5, 0, 4};
    const struct ld_adapter_options options = {
        .unet_strength = strengths[choice % 4],
        .text_strength = strengths[choice / 4 % 4],
        .dora_norm = choice & 16 ? LD_DORA_COMFY : LD_DORA_MERGED,
    };
    struct ld_weights *base = base_model();
    struct ld_weights *overlay;
    struct ld_adapter_report report;
    struct ld_error err = {0};
    LD_ASSERT(ld_weights_overlay(&overlay, base, NULL) == LD_OK);
    const enum ld_code code = ld_adapter_apply(adapter, overlay, &options, &report, &err);
    uint32_t edited = 0;
    for (uint32_t i = 0; code == LD_OK && i < ld_weights_count(overlay); i++) {
        struct ld_weight_view view;
        ld_weights_at(overlay, i, &view);
        LD_ASSERT(ld_weights_make(overlay, view.name, NULL) == LD_OK);
        edited += ld_weights_is_edited(overlay, view.name);
    }
    LD_ASSERT(code != LD_OK || edited <= report.tensors_applied);
    LD_ASSERT(code != LD_OK || report.tensors_applied == 0 || edited > 0);
    LD_ASSERT((code == LD_OK) == (err.detail[0] == 0));
    ld_weights_close(overlay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct maker maker = {.header = ld_buffer_make(1 << 20)};
    struct ld_span input = ld_span_of(data + 1, size - 1);
    struct ld_adapter *adapter;
    struct ld_error err = {0};
    size_t file_size;
    ld_buffer_byte(&maker.header, '{');
    while (add_tensor(&maker, &input))
        ;
    uint8_t *bytes = make_file(&maker, &file_size);
    if (ld_adapter_open_bytes(&adapter, ld_span_of(bytes, file_size), &err) == LD_OK) {
        const struct ld_adapter_info *info = ld_adapter_info(adapter);
        LD_ASSERT(info->rank_max <= LD_ADAPTER_RANK_MAX && info->tensors <= maker.count);
        merge(adapter, data[0]);
        ld_adapter_close(adapter);
    }
    ld_heap_free(bytes);
    ld_buffer_deinit(&maker.header);
    return 0;
}
