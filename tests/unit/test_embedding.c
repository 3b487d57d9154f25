/*
 * Proves that all file forms of a textual inversion give the same vectors and that a pickle can ask
 * for nothing but tensors. Archives and pickles are assembled byte by byte.
 */
#include "runtime/model/embedding.h"

#include "runtime/base/buffer.h"
#include "runtime/model/pickle.h"
#include "tests/unit/model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { VECTORS = 2, WIDTH = 3 };
static const float numbers[VECTORS * WIDTH] = {1, -2, 0.5f, 4, 8, -16};

/* ---- Archives -------------------------------------------------------------------------------- */

struct zip_builder {
    struct ld_buffer bytes, directory;
    uint32_t count;
    uint16_t method, flags;
};

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

static struct zip_builder zip_start(void)
{
    struct zip_builder zip = {.bytes = ld_buffer_make(1 << 20),
                              .directory = ld_buffer_make(1 << 20)};
    return zip;
}

static void zip_add(struct zip_builder *zip, const char *name, const void *data, size_t size)
{
    const uint32_t offset = (uint32_t)zip->bytes.size;
    put32(&zip->bytes, 0x04034B50);
    for (int i = 0; i < 11; i++) /* a streaming writer leaves all of this zero */
        put16(&zip->bytes, 0);
    put16(&zip->bytes, (uint32_t)strlen(name));
    put16(&zip->bytes, 0);
    ld_buffer_text(&zip->bytes, name);
    ld_buffer_bytes(&zip->bytes, data, size);
    put32(&zip->directory, 0x02014B50);
    put32(&zip->directory, 0);
    put16(&zip->directory, zip->flags);
    put16(&zip->directory, zip->method);
    put32(&zip->directory, 0);
    put32(&zip->directory, 0);
    put32(&zip->directory, (uint32_t)size);
    put32(&zip->directory, (uint32_t)size);
    put16(&zip->directory, (uint32_t)strlen(name));
    for (int i = 0; i < 6; i++)
        put16(&zip->directory, 0);
    put32(&zip->directory, offset);
    ld_buffer_text(&zip->directory, name);
    zip->count++;
}

static struct ld_span zip_finish(struct zip_builder *zip)
{
    const uint32_t start = (uint32_t)zip->bytes.size;
    ld_buffer_bytes(&zip->bytes, zip->directory.data, zip->directory.size);
    put32(&zip->bytes, 0x06054B50);
    put32(&zip->bytes, 0);
    put16(&zip->bytes, zip->count);
    put16(&zip->bytes, zip->count);
    put32(&zip->bytes, (uint32_t)zip->directory.size);
    put32(&zip->bytes, start);
    put16(&zip->bytes, 0);
    return ld_span_of(zip->bytes.data, zip->bytes.size);
}

static void zip_free(struct zip_builder *zip)
{
    ld_buffer_deinit(&zip->bytes);
    ld_buffer_deinit(&zip->directory);
}

/* ---- Pickles --------------------------------------------------------------------------------- */

static void text(struct ld_buffer *out, const char *value)
{
    ld_buffer_byte(out, 'X');
    put32(out, (uint32_t)strlen(value));
    ld_buffer_text(out, value);
}

static void number(struct ld_buffer *out, uint32_t value)
{
    ld_buffer_byte(out, 'J');
    put32(out, value);
}

/* _rebuild_tensor_v2(storage, offset, (rows, columns), (row_stride, 1), False, OrderedDict()) */
static void tensor(struct ld_buffer *out, uint32_t elements, uint32_t offset, uint32_t rows,
                   uint32_t columns, uint32_t row_stride)
{
    ld_buffer_text(out, "ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    ld_buffer_text(out, "ctorch\nFloatStorage\n");
    text(out, "0");
    text(out, "cpu");
    number(out, elements);
    ld_buffer_text(out, "tQ");
    number(out, offset);
    number(out, rows);
    number(out, columns);
    ld_buffer_byte(out, (char)0x86);
    number(out, row_stride);
    number(out, 1);
    ld_buffer_byte(out, (char)0x86);
    ld_buffer_byte(out, (char)0x89);
    ld_buffer_text(out, "ccollections\nOrderedDict\n)RtR");
}

static struct ld_buffer pickle_start(void)
{
    struct ld_buffer out = ld_buffer_make(1 << 20);
    ld_buffer_bytes(&out, "\x80\x02", 2);
    return out;
}

static enum ld_code open_pickle(struct ld_embedding *out, const struct ld_buffer *program,
                                struct ld_error *err)
{
    struct zip_builder zip = zip_start();
    zip_add(&zip, "x/data.pkl", program->data, program->size);
    zip_add(&zip, "x/data/0", numbers, sizeof numbers);
    const enum ld_code code = ld_embedding_open_bytes(out, zip_finish(&zip), 0, err);
    zip_free(&zip);
    return code;
}

/* A pickle that is one opcode sequence around a good tensor. */
static enum ld_code run(const char *before, size_t before_size, const char *after,
                        size_t after_size)
{
    struct ld_buffer program = pickle_start();
    struct ld_embedding embedding;
    ld_buffer_bytes(&program, before, before_size);
    tensor(&program, 6, 0, VECTORS, WIDTH, WIDTH);
    ld_buffer_bytes(&program, after, after_size);
    ld_buffer_byte(&program, '.');
    const enum ld_code code = open_pickle(&embedding, &program, NULL);
    ld_embedding_deinit(&embedding);
    ld_buffer_deinit(&program);
    return code;
}
#define RUN(before, after) run(before, sizeof(before) - 1, after, sizeof(after) - 1)

static void assert_numbers(const struct ld_embedding *embedding)
{
    assert_int_equal(embedding->vectors, VECTORS);
    assert_int_equal(embedding->width, WIDTH);
    assert_memory_equal(embedding->values, numbers, sizeof numbers);
}

/* ---- Forms ----------------------------------------------------------------------------------- */

static void every_form_gives_the_same_vectors(void **state)
{
    (void)state;
    static struct fixture fixture;
    static const char *const names[] = {"emb_params", "clip_l", "anything"};
    char folder[256];
    struct ld_embedding embedding;
    struct ld_error err = {0};
    fixture_folder(folder);
    const char *path = fixture_path(folder, "e.safetensors");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        memset(&fixture, 0, sizeof fixture);
        fixture_add_matrix(&fixture, names[i], LD_DTYPE_F16, VECTORS, WIDTH)->values = numbers;
        fixture_write(&fixture, path);
        assert_int_equal(ld_embedding_open(&embedding, path, WIDTH, NULL), LD_OK);
        assert_numbers(&embedding);
        ld_embedding_deinit(&embedding);
        assert_int_equal(ld_embedding_open(&embedding, path, WIDTH + 1, &err), LD_E_SHAPE);
        assert_non_null(strstr(err.detail, "width"));
        ld_embedding_deinit(&embedding);
    }
    fixture_remove_folder(folder);

    struct ld_buffer program = pickle_start(); /* {"string_to_param": {"*": t}, "name": "n"} */
    ld_buffer_text(&program, "}(");
    text(&program, "string_to_param");
    ld_buffer_text(&program, "}");
    text(&program, "*");
    tensor(&program, 6, 0, VECTORS, WIDTH, WIDTH);
    ld_buffer_text(&program, "s");
    text(&program, "name");
    text(&program, "mine");
    text(&program, "step");
    number(&program, 500);
    ld_buffer_text(&program, "u.");
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_OK);
    assert_numbers(&embedding);
    assert_string_equal(embedding.form, "string_to_param");
    assert_string_equal(embedding.name, "mine");
    assert_int_equal(embedding.step, 500);
    ld_embedding_deinit(&embedding);
    ld_buffer_deinit(&program);

    program = pickle_start(); /* {"<cat>": t} */
    ld_buffer_text(&program, "}");
    text(&program, "<cat>");
    tensor(&program, 6, 0, VECTORS, WIDTH, WIDTH);
    ld_buffer_text(&program, "s.");
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_OK);
    assert_numbers(&embedding);
    assert_string_equal(embedding.name, "<cat>");
    ld_embedding_deinit(&embedding);
    ld_buffer_deinit(&program);
}

static void strides_and_offsets_are_followed(void **state)
{
    (void)state;
    struct ld_embedding embedding;
    struct ld_buffer program = pickle_start();
    tensor(&program, 6, 1, 2, 2, 3); /* columns 1 and 2 of both rows */
    ld_buffer_byte(&program, '.');
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_OK);
    static const float expected[] = {-2, 0.5f, 8, -16};
    assert_memory_equal(embedding.values, expected, sizeof expected);
    ld_embedding_deinit(&embedding);
    ld_buffer_deinit(&program);
}

/* What newer protocols write: frames, short texts, memoised values, lists, long integers. */
static void newer_protocols_are_read(void **state)
{
    (void)state;
    struct ld_embedding embedding;
    struct ld_buffer program = ld_buffer_make(4096);
    static const char head[] =
        "\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x04step\x94\x8a\x03\x40\x42\x0f"
        "\x8c\x04list]\x94(K\x01M\x02\x00N\x88"
        "eh\x01"
        "a"
        "\x8c\x05"
        "float\x94G\0\0\0\0\0\0\0\0\x8c\x05"
        "empty)\x8c\x05"
        "tuple"
        "K\x01\x85\x8c\x04name\x8c\x01nX\x03\0\0\0<c>";
    static const char parameter[] = "\x8c\x0ctorch._utils\x8c\x12_rebuild_parameter\x93";
    ld_buffer_bytes(&program, head, sizeof head - 1);
    ld_buffer_bytes(&program, parameter, sizeof parameter - 1);
    tensor(&program, 6, 0, VECTORS, WIDTH, WIDTH);
    ld_buffer_bytes(&program, "\x88)\x87Ru.", 6); /* (tensor, True, ()) */
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_OK);
    assert_numbers(&embedding);
    assert_int_equal(embedding.step, 1000000);
    assert_string_equal(embedding.name, "n");
    ld_embedding_deinit(&embedding);
    ld_buffer_deinit(&program);
}

/* ---- Defence --------------------------------------------------------------------------------- */

static void a_pickle_gets_nothing_but_tensors(void **state)
{
    (void)state;
    assert_int_equal(RUN("", ""), LD_OK);
    /* os.system("true") and friends: the global itself is refused, nothing is looked up or run. */
    assert_int_equal(RUN("cos\nsystem\n", ""), LD_E_UNSUPPORTED);
    assert_int_equal(RUN("cbuiltins\neval\n", ""), LD_E_UNSUPPORTED);
    assert_int_equal(RUN("ctorch\nload\n", ""), LD_E_UNSUPPORTED);
    assert_int_equal(RUN("ccollections\ndefaultdict\n", ""), LD_E_UNSUPPORTED);
    assert_int_equal(RUN("\x8c\x02os\x8c\x06system\x93", ""), LD_E_UNSUPPORTED);
    assert_int_equal(RUN("ios\nsystem\n", ""), LD_E_UNSUPPORTED); /* INST */
    assert_int_equal(RUN("", "}b"), LD_E_UNSUPPORTED);            /* BUILD */
    assert_int_equal(RUN("", ")\x81"), LD_E_UNSUPPORTED);         /* NEWOBJ */
    assert_int_equal(RUN("", "o"), LD_E_UNSUPPORTED);             /* OBJ */
    assert_int_equal(RUN("P0\n", ""), LD_E_UNSUPPORTED);          /* PERSID */
    assert_int_equal(RUN("\x82\x01", ""), LD_E_UNSUPPORTED);      /* EXT1 */
}

static void damaged_pickles_are_refused(void **state)
{
    (void)state;
    assert_int_equal(RUN("h\x07", ""), LD_E_FORMAT);             /* a memo that was never set */
    assert_int_equal(RUN("", "R"), LD_E_FORMAT);                 /* a call of a tensor */
    assert_int_equal(RUN("t", ""), LD_E_FORMAT);                 /* no mark */
    assert_int_equal(RUN("}(NN", "u"), LD_E_FORMAT);             /* a key without a value */
    assert_int_equal(RUN("X\xff\xff\xff\xff", ""), LD_E_FORMAT); /* text past the end */
    assert_int_equal(RUN("(", "Q"), LD_E_FORMAT); /* a persistent id that is no tuple */
    assert_int_equal(RUN("r\xff\xff\xff\xff", ""), LD_E_FORMAT);
}

static void tensors_must_lie_in_their_storage(void **state)
{
    (void)state;
    static const struct {
        uint32_t elements, offset, rows, columns, stride;
    } bad[] = {
        {6, 1, 2, 3, 3},          /* one beyond the end */
        {7, 0, 2, 3, 3},          /* a storage longer than its entry */
        {6, 0, 3, 3, 3},          /* a row too many */
        {6, 0, 2, 3, 0x7FFFFFFF}, /* a stride out of the file */
        {6, 0x7FFFFFFF, 1, 1, 1},
        {6, 0, 0x7FFFFFFF, 0x7FFFFFFF, 0}, /* more elements than memory, all the same one */
        {6, 0, 0x80000000, 1, 1},          /* a negative dimension */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ld_embedding embedding;
        struct ld_buffer program = pickle_start();
        tensor(&program, bad[i].elements, bad[i].offset, bad[i].rows, bad[i].columns,
               bad[i].stride);
        ld_buffer_byte(&program, '.');
        assert_int_equal(open_pickle(&embedding, &program, NULL), LD_E_FORMAT);
        assert_null(embedding.values);
        ld_embedding_deinit(&embedding);
        ld_buffer_deinit(&program);
    }
}

static void nesting_and_loops_end(void **state)
{
    (void)state;
    struct ld_embedding embedding;
    struct ld_buffer program = pickle_start();
    for (int i = 0; i < 100000; i++)
        ld_buffer_byte(&program, '(');
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_E_TOO_LARGE);
    ld_buffer_deinit(&program);
    /* A dictionary that holds itself: its tensors are looked for two levels deep and no further. */
    program = pickle_start();
    ld_buffer_bytes(&program, "}q\x01", 3);
    text(&program, "self");
    ld_buffer_bytes(&program, "h\x01s.", 4);
    assert_int_equal(open_pickle(&embedding, &program, NULL), LD_E_FORMAT);
    ld_buffer_deinit(&program);
}

static void archives_are_checked(void **state)
{
    (void)state;
    struct ld_buffer program = pickle_start();
    struct ld_embedding embedding;
    tensor(&program, 6, 0, VECTORS, WIDTH, WIDTH);
    ld_buffer_byte(&program, '.');
    struct zip_builder zip = zip_start();
    zip_add(&zip, "x/data.pkl", program.data, program.size);
    zip_add(&zip, "x/data/0", numbers, sizeof numbers);
    const struct ld_span whole = zip_finish(&zip);
    for (size_t size = 0; size < whole.size; size += 3) { /* every cut of the archive */
        assert_int_not_equal(
            ld_embedding_open_bytes(&embedding, ld_span_of(whole.data, size), 0, NULL), LD_OK);
        ld_embedding_deinit(&embedding);
    }
    zip_free(&zip);
    for (int i = 0; i < 3; i++) {
        zip = zip_start();
        zip.method = i == 0 ? 8 : 0; /* deflated */
        zip.flags = i == 1 ? 1 : 0;  /* encrypted */
        zip_add(&zip, "x/data.pkl", program.data, program.size);
        if (i < 2)
            zip_add(&zip, "x/data/0", numbers, sizeof numbers);
        assert_int_equal(ld_embedding_open_bytes(&embedding, zip_finish(&zip), 0, NULL),
                         i < 2 ? LD_E_UNSUPPORTED : LD_E_FORMAT); /* last: no storage */
        ld_embedding_deinit(&embedding);
        zip_free(&zip);
    }
    ld_buffer_deinit(&program);
}

static void values_must_be_finite_and_shapes_sane(void **state)
{
    (void)state;
    static struct fixture fixture;
    static const float bad[] = {1, (float)INFINITY, 2, 3};
    char folder[256];
    struct ld_embedding embedding;
    fixture_folder(folder);
    const char *path = fixture_path(folder, "e.safetensors");
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "emb_params", LD_DTYPE_F32, 2, 2)->values = bad;
    fixture_write(&fixture, path);
    assert_int_equal(ld_embedding_open(&embedding, path, 0, NULL), LD_E_FORMAT);
    ld_embedding_deinit(&embedding);
    fixture.tensors[0].values = NULL;
    fixture.tensors[0].shape[0] = LD_EMBEDDING_VECTORS_MAX + 1;
    fixture_write(&fixture, path);
    assert_int_equal(ld_embedding_open(&embedding, path, 0, NULL), LD_E_TOO_LARGE);
    ld_embedding_deinit(&embedding);
    fixture.tensors[0].shape[0] = 0;
    fixture_write(&fixture, path);
    assert_int_equal(ld_embedding_open(&embedding, path, 0, NULL), LD_E_SHAPE);
    ld_embedding_deinit(&embedding);
    fixture_text(path, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(ld_embedding_open(&embedding, path, 0, NULL), LD_E_UNSUPPORTED);
    ld_embedding_deinit(&embedding);
    fixture_remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_the_same_vectors),
        cmocka_unit_test(strides_and_offsets_are_followed),
        cmocka_unit_test(newer_protocols_are_read),
        cmocka_unit_test(a_pickle_gets_nothing_but_tensors),
        cmocka_unit_test(damaged_pickles_are_refused),
        cmocka_unit_test(tensors_must_lie_in_their_storage),
        cmocka_unit_test(nesting_and_loops_end),
        cmocka_unit_test(archives_are_checked),
        cmocka_unit_test(values_must_be_finite_and_shapes_sane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
