/*
 * Proves that the GGUF reader gives what was written, refuses every damaged file with one sentence
 * and never reads beyond a file. Files are built in memory, cut at each byte and overwritten at
 * each byte.
 */
#include "runtime/tipo/gguf.h"

#include "runtime/base/arena.h"
#include "tests/unit/gguf_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Opens a copy of exactly that size, so that a sanitizer sees each byte too many. */
static enum ld_code open_copy(struct ld_gguf **file, uint8_t **copy, const void *bytes, size_t size,
                              struct ld_error *err)
{
    *copy = ld_heap_alloc(size);
    assert_non_null(*copy);
    if (size > 0)
        memcpy(*copy, bytes, size);
    *err = (struct ld_error){0};
    const enum ld_code code = ld_gguf_open_bytes(file, ld_span_of(*copy, size), err);
    assert_int_equal(code == LD_OK, *file != NULL);
    assert_int_equal(code == LD_OK, err->detail[0] == '\0');
    return code;
}

/* Takes `bytes`. The sentence must hold `part`. */
static void expect_refused(struct ld_buffer bytes, enum ld_code expected, const char *part)
{
    struct ld_gguf *file;
    uint8_t *copy;
    struct ld_error err;
    const enum ld_code code = open_copy(&file, &copy, bytes.data, bytes.size, &err);
    if (code != expected || strstr(err.detail, part) == NULL)
        print_message("got '%s' (%s), wanted '%s'\n", err.detail, ld_code_name(code), part);
    assert_int_equal(code, expected);
    assert_non_null(strstr(err.detail, part));
    ld_gguf_close(file);
    ld_heap_free(copy);
    ld_buffer_deinit(&bytes);
}

static const uint64_t vector4[1] = {4};

/* Every kind of value and every type of tensor. */
static struct ld_buffer rich_file(void)
{
    static const char *const words[] = {"one", "", "three"};
    static const float reals[] = {0.5f, -2.0f};
    static const int32_t wholes[] = {-7, 8, 9};
    static const uint64_t matrix[2] = {32, 2};
    uint8_t data[256];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    struct gguf_fixture f = gguf_begin();
    gguf_text(&f, "general.name", "rich");
    gguf_u32(&f, "z.u32", 4000000000u);
    gguf_f32(&f, "f32", 1.25f);
    gguf_bool(&f, "yes", true);
    gguf_key(&f, "i8", LD_GGUF_I8);
    ld_buffer_byte(&f.keys, -3);
    gguf_key(&f, "u16", LD_GGUF_U16);
    ld_buffer_bytes(&f.keys, "\x34\x12", 2);
    gguf_key(&f, "i64", LD_GGUF_I64);
    gguf_put_u64(&f.keys, 77);
    gguf_key(&f, "u64.large", LD_GGUF_U64);
    gguf_put_u64(&f.keys, UINT64_MAX);
    gguf_key(&f, "f64", LD_GGUF_F64);
    gguf_put_u64(&f.keys, UINT64_C(0x3FF8000000000000)); /* 1.5 */
    gguf_texts(&f, "words", words, 3);
    gguf_f32s(&f, "reals", reals, 2);
    gguf_i32s(&f, "wholes", wholes, 3);
    gguf_tensor(&f, "q8", LD_GGUF_TENSOR_Q8_0, 2, matrix, data, 68);
    gguf_tensor(&f, "half", LD_GGUF_TENSOR_F16, 2, matrix, data, 128);
    gguf_tensor(&f, "brain", LD_GGUF_TENSOR_BF16, 1, vector4, data, 8);
    gguf_tensor(&f, "full", LD_GGUF_TENSOR_F32, 1, vector4, data, 16);
    return gguf_finish(&f);
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    struct ld_buffer bytes = rich_file();
    struct ld_gguf *file;
    uint8_t *copy;
    struct ld_error err;
    assert_int_equal(open_copy(&file, &copy, bytes.data, bytes.size, &err), LD_OK);
    uint32_t number = 0;
    double real = 0.0;
    bool flag = false;
    struct ld_span text;
    const struct ld_gguf_value *array;
    assert_int_equal(ld_gguf_u32(file, "z.u32", true, &number, &err), LD_OK);
    assert_int_equal(number, 4000000000u);
    assert_int_equal(ld_gguf_u32(file, "u16", true, &number, &err), LD_OK);
    assert_int_equal(number, 0x1234);
    assert_int_equal(ld_gguf_u32(file, "i64", true, &number, &err), LD_OK);
    assert_int_equal(number, 77);
    assert_int_equal(ld_gguf_real(file, "f32", true, &real, &err), LD_OK);
    assert_true(real == 1.25);
    assert_int_equal(ld_gguf_real(file, "f64", true, &real, &err), LD_OK);
    assert_true(real == 1.5);
    assert_int_equal(ld_gguf_flag(file, "yes", true, &flag, &err), LD_OK);
    assert_true(flag);
    assert_int_equal(ld_gguf_text(file, "general.name", true, &text, &err), LD_OK);
    assert_true(ld_span_is(text, "rich"));

    assert_int_equal(ld_gguf_array(file, "words", LD_GGUF_STRING, &array, &err), LD_OK);
    assert_int_equal(array->count, 3);
    struct ld_span rest = array->bytes;
    assert_true(ld_gguf_next_string(&rest, &text) && ld_span_is(text, "one"));
    assert_true(ld_gguf_next_string(&rest, &text) && text.size == 0);
    assert_true(ld_gguf_next_string(&rest, &text) && ld_span_is(text, "three"));
    assert_false(ld_gguf_next_string(&rest, &text));
    assert_int_equal(ld_gguf_array(file, "reals", LD_GGUF_F32, &array, &err), LD_OK);
    assert_true(ld_gguf_element_f32(array, 1) == -2.0f);
    assert_int_equal(ld_gguf_array(file, "wholes", LD_GGUF_I32, &array, &err), LD_OK);
    assert_int_equal(ld_gguf_element_i32(array, 0), -7);

    assert_int_equal(ld_gguf_tensor_count(file), 4);
    const struct ld_gguf_tensor *half = ld_gguf_find_tensor(file, "half");
    assert_true(half != NULL && half->rank == 2 && half->dims[0] == 32 && half->dims[1] == 2 &&
                half->dims[2] == 1 && half->elements == 64 && half->bytes == 128);
    assert_int_equal(half->offset % 32, 0);
    assert_int_equal(((const uint8_t *)ld_gguf_data(file, half))[127], 127);
    assert_int_equal(ld_gguf_find_tensor(file, "q8")->bytes, 68);
    assert_null(ld_gguf_find_tensor(file, "hal"));
    assert_null(ld_gguf_find_tensor(file, "half."));
    ld_gguf_close(file);
    ld_heap_free(copy);
    ld_buffer_deinit(&bytes);
}

static void values_of_another_kind_are_refused(void **state)
{
    (void)state;
    struct ld_buffer bytes = rich_file();
    struct ld_gguf *file;
    uint8_t *copy;
    struct ld_error err;
    assert_int_equal(open_copy(&file, &copy, bytes.data, bytes.size, &err), LD_OK);
    uint32_t number = 5;
    double real = 5.0;
    bool flag = true;
    struct ld_span text = ld_span_text("kept");
    const struct ld_gguf_value *array;
    assert_int_equal(ld_gguf_u32(file, "absent", false, &number, &err), LD_OK);
    assert_int_equal(ld_gguf_text(file, "absent", false, &text, &err), LD_OK);
    assert_true(number == 5 && ld_span_is(text, "kept"));
    assert_int_equal(ld_gguf_u32(file, "absent", true, &number, &err), LD_E_FORMAT);
    assert_non_null(strstr(err.detail, "lacks the key absent"));
    assert_int_equal(ld_gguf_u32(file, "i8", true, &number, &err), LD_E_FORMAT); /* -3 */
    assert_int_equal(ld_gguf_u32(file, "u64.large", true, &number, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_u32(file, "f32", true, &number, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_u32(file, "words", true, &number, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_real(file, "z.u32", true, &real, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_flag(file, "i8", true, &flag, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_text(file, "words", true, &text, &err), LD_E_FORMAT);
    assert_int_equal(ld_gguf_array(file, "general.name", LD_GGUF_STRING, &array, &err),
                     LD_E_FORMAT);
    assert_int_equal(ld_gguf_array(file, "reals", LD_GGUF_I32, &array, &err), LD_E_FORMAT);
    assert_non_null(strstr(err.detail, "reals"));
    ld_gguf_close(file);
    ld_heap_free(copy);
    ld_buffer_deinit(&bytes);
}

/* Everything that an accepted file offers is within it. */
static void walk(const struct ld_gguf *file, const uint8_t *start, size_t size)
{
    unsigned sum = 0;
    for (uint32_t i = 0; i < ld_gguf_tensor_count(file); i++) {
        const struct ld_gguf_tensor *tensor = ld_gguf_tensor_at(file, i);
        const uint8_t *data = ld_gguf_data(file, tensor);
        assert_true(data >= start && tensor->bytes > 0 &&
                    tensor->bytes <= size - (size_t)(data - start));
        sum += data[0] + data[tensor->bytes - 1];
    }
    for (uint32_t i = 0; i < ld_gguf_key_count(file); i++) {
        const struct ld_gguf_value *value = ld_gguf_value_at(file, i);
        struct ld_span rest = value->bytes;
        struct ld_span text;
        uint32_t strings = 0;
        while (value->element == LD_GGUF_STRING && ld_gguf_next_string(&rest, &text))
            strings++;
        assert_true(value->element != LD_GGUF_STRING ||
                    (strings == value->count && rest.size == 0));
        if (value->bytes.size > 0)
            sum += value->bytes.data[value->bytes.size - 1];
    }
    assert_true(sum < 1u << 30);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct ld_buffer bytes = rich_file();
    for (size_t size = 0; size < bytes.size; size++) {
        struct ld_gguf *file;
        uint8_t *copy;
        struct ld_error err;
        assert_int_equal(open_copy(&file, &copy, bytes.data, size, &err), LD_E_FORMAT);
        ld_heap_free(copy);
    }
    ld_buffer_deinit(&bytes);
}

static void a_file_overwritten_anywhere_stays_within_itself(void **state)
{
    (void)state;
    static const uint64_t patterns[] = {UINT64_MAX, INT64_MAX,         UINT64_C(1) << 63, 0,
                                        UINT32_MAX, UINT64_C(1) << 20, 1000000,           4096,
                                        9,          LD_GGUF_STRING};
    struct ld_buffer bytes = rich_file();
    size_t accepted = 0;
    for (size_t pattern = 0; pattern < sizeof patterns / sizeof patterns[0]; pattern++) {
        for (size_t at = 4; at < bytes.size; at++) {
            uint8_t kept[8];
            uint8_t value[8];
            const size_t width = bytes.size - at < 8 ? bytes.size - at : pattern % 2 ? 4 : 8;
            const size_t used = width < bytes.size - at ? width : bytes.size - at;
            ld_write_u64le(value, patterns[pattern]);
            memcpy(kept, bytes.data + at, used);
            memcpy(bytes.data + at, value, used);
            struct ld_gguf *file;
            uint8_t *copy;
            struct ld_error err;
            if (open_copy(&file, &copy, bytes.data, bytes.size, &err) == LD_OK) {
                walk(file, copy, bytes.size);
                accepted++;
            }
            ld_gguf_close(file);
            ld_heap_free(copy);
            memcpy(bytes.data + at, kept, used);
        }
    }
    assert_true(accepted > 100); /* data and numbers may be anything */
    ld_buffer_deinit(&bytes);
}

/* ---- Sentences ------------------------------------------------------------------------------- */

static struct ld_buffer bare(const char *magic, uint32_t version, uint64_t tensors, uint64_t keys)
{
    struct ld_buffer bytes = ld_buffer_make(1 << 16);
    ld_buffer_text(&bytes, magic);
    gguf_put_u32(&bytes, version);
    gguf_put_u64(&bytes, tensors);
    gguf_put_u64(&bytes, keys);
    return bytes;
}

static struct ld_buffer with_tensor(const char *name, uint32_t type, uint32_t rank,
                                    const uint64_t *dims, size_t size)
{
    static const uint8_t data[256];
    struct gguf_fixture f = gguf_begin();
    gguf_tensor(&f, name, type, rank, dims, data, size);
    return gguf_finish(&f);
}

static void the_start_is_checked(void **state)
{
    (void)state;
    expect_refused(bare("GGML", 3, 0, 0), LD_E_FORMAT, "does not start with \"GGUF\"");
    expect_refused(bare("GGUF", 1, 0, 0), LD_E_UNSUPPORTED, "version 1");
    expect_refused(bare("GGUF", 4, 0, 0), LD_E_UNSUPPORTED, "version 4");
    expect_refused(bare("GGUF", 3u << 24, 0, 0), LD_E_UNSUPPORTED, "big-endian");
    expect_refused(bare("GGUF", 3, 4097, 0), LD_E_TOO_LARGE, "4097 tensors");
    expect_refused(bare("GGUF", 3, 0, UINT64_MAX), LD_E_TOO_LARGE, "18446744073709551615 keys");
    expect_refused(bare("GGUF", 3, 4096, 4096), LD_E_FORMAT, "too short");
    struct gguf_fixture f = gguf_begin();
    f.version = 2;
    struct ld_buffer second = gguf_finish(&f);
    struct ld_gguf *file;
    uint8_t *copy;
    struct ld_error err;
    assert_int_equal(open_copy(&file, &copy, second.data, second.size, &err), LD_OK);
    ld_gguf_close(file);
    ld_heap_free(copy);
    ld_buffer_deinit(&second);
}

static void keys_are_checked(void **state)
{
    (void)state;
    struct gguf_fixture f = gguf_begin();
    gguf_u32(&f, "twice", 1);
    gguf_u32(&f, "once", 1);
    gguf_u32(&f, "twice", 2);
    expect_refused(gguf_finish(&f), LD_E_FORMAT, "key 'twice' twice");
    f = gguf_begin();
    gguf_u32(&f, "", 1);
    expect_refused(gguf_finish(&f), LD_E_FORMAT, "a key at byte 24 of the GGUF file is empty");
    f = gguf_begin();
    gguf_key(&f, "odd\nkey", 13);
    gguf_put_u64(&f.keys, 0);
    expect_refused(gguf_finish(&f), LD_E_FORMAT, "'odd?key' in the GGUF file has the kind 13");
    f = gguf_begin();
    gguf_key(&f, "nested", LD_GGUF_ARRAY);
    gguf_put_u32(&f.keys, LD_GGUF_ARRAY);
    gguf_put_u64(&f.keys, 1);
    expect_refused(gguf_finish(&f), LD_E_UNSUPPORTED, "'nested' in the GGUF file is an array of");
    f = gguf_begin();
    gguf_key(&f, "many", LD_GGUF_ARRAY);
    gguf_put_u32(&f.keys, LD_GGUF_U8);
    gguf_put_u64(&f.keys, 1000001);
    expect_refused(gguf_finish(&f), LD_E_TOO_LARGE, "'many' in the GGUF file has 1000001 elements");
    f = gguf_begin();
    gguf_key(&f, "far", LD_GGUF_ARRAY);
    gguf_put_u32(&f.keys, LD_GGUF_U64);
    gguf_put_u64(&f.keys, 1000000);
    expect_refused(gguf_finish(&f), LD_E_FORMAT, "'far' leads past the end");
    f = gguf_begin();
    gguf_key(&f, "long", LD_GGUF_STRING);
    gguf_put_u64(&f.keys, (1 << 20) + 1);
    expect_refused(gguf_finish(&f), LD_E_TOO_LARGE, "1048577 bytes");
    f = gguf_begin();
    char name[LD_GGUF_NAME_MAX + 2];
    memset(name, 'k', sizeof name);
    name[sizeof name - 1] = '\0';
    gguf_u32(&f, name, 1);
    expect_refused(gguf_finish(&f), LD_E_TOO_LARGE, "a key at byte 24");
}

static void tensors_are_checked(void **state)
{
    (void)state;
    static const uint64_t odd[1] = {33};
    static const uint64_t zero[2] = {4, 0};
    static const uint64_t huge[4] = {1u << 31, 1u << 31, 4, 1};
    static const uint64_t wrapping[2] = {3, UINT64_C(0xAAAAAAAAAAAAAAAC)}; /* 4 more than 2^65 */
    static const uint64_t large[2] = {1u << 20, 1u << 12};
    static const uint64_t five[5] = {1, 1, 1, 1, 1};
    expect_refused(with_tensor("w", 12, 1, vector4, 16), LD_E_UNSUPPORTED,
                   "tensor 'w' has the type Q4_K, which is not read: take the file in F16 or Q8_0");
    expect_refused(with_tensor("w", 99, 1, vector4, 16), LD_E_UNSUPPORTED, "type number 99");
    expect_refused(with_tensor("w", LD_GGUF_TENSOR_Q8_0, 1, odd, 68), LD_E_FORMAT, "'w' is Q8_0");
    expect_refused(with_tensor("w", 0, 2, zero, 16), LD_E_FORMAT, "shape of tensor 'w'");
    expect_refused(with_tensor("w", 0, 4, huge, 16), LD_E_FORMAT, "shape of tensor 'w'");
    expect_refused(with_tensor("w", 0, 2, wrapping, 16), LD_E_FORMAT, "shape of tensor 'w'");
    expect_refused(with_tensor("w", 0, 2, large, 16), LD_E_FORMAT, "'w' lies beyond the end");
    expect_refused(with_tensor("w", 0, 5, five, 16), LD_E_FORMAT, "'w' has 5 dimensions");
    expect_refused(with_tensor("w", 0, 0, five, 16), LD_E_FORMAT, "'w' has 0 dimensions");
    expect_refused(with_tensor("w", 0, 1, vector4, 15), LD_E_FORMAT, "'w' lies beyond the end");
    struct gguf_fixture f = gguf_begin();
    gguf_tensor(&f, "w", 0, 1, vector4, five, 16);
    gguf_tensor(&f, "w", 0, 1, vector4, five, 16);
    expect_refused(gguf_finish(&f), LD_E_FORMAT, "tensor 'w' twice");
    f = gguf_begin();
    f.alignment = 8; /* but the file says nothing, so 32 holds */
    gguf_tensor(&f, "a", 0, 1, vector4, five, 16);
    gguf_tensor(&f, "b", 0, 1, vector4, five, 16);
    expect_refused(gguf_finish(&f), LD_E_FORMAT,
                   "'b' starts at 16, no multiple of the alignment 32");
    static const uint32_t alignments[] = {0, 4, 24, 1 << 17};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        f = gguf_begin();
        gguf_u32(&f, "general.alignment", alignments[i]);
        expect_refused(gguf_finish(&f), LD_E_FORMAT, "general.alignment of the GGUF file is");
    }
}

static void another_alignment_and_overlaps_are_fine(void **state)
{
    (void)state;
    static const uint64_t dims[1] = {16};
    uint8_t data[64];
    memset(data, 7, sizeof data);
    struct gguf_fixture f = gguf_begin();
    f.alignment = 64;
    gguf_u32(&f, "general.alignment", 64);
    gguf_tensor(&f, "a", 0, 1, dims, data, sizeof data);
    gguf_tensor(&f, "b", 0, 1, dims, data, sizeof data);
    ld_write_u64le((uint8_t *)f.infos.data + f.infos.size - 8, 0); /* b lies where a does */
    struct ld_buffer bytes = gguf_finish(&f);
    struct ld_gguf *file;
    uint8_t *copy;
    struct ld_error err;
    assert_int_equal(open_copy(&file, &copy, bytes.data, bytes.size, &err), LD_OK);
    const void *a = ld_gguf_data(file, ld_gguf_find_tensor(file, "a"));
    assert_ptr_equal(a, ld_gguf_data(file, ld_gguf_find_tensor(file, "b")));
    assert_int_equal(((const uint8_t *)a - copy) % 64, 0);
    ld_gguf_close(file);
    ld_heap_free(copy);
    ld_buffer_deinit(&bytes);
}

static void paths_are_opened(void **state)
{
    (void)state;
    char path[] = "/tmp/test_gguf.XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct ld_gguf *file;
    struct ld_error err = {0};
    assert_int_equal(ld_gguf_open(&file, path, &err), LD_E_FORMAT);
    assert_non_null(strstr(err.detail, "empty"));
    struct ld_buffer bytes = rich_file();
    assert_int_equal(write(fd, bytes.data, bytes.size), (ssize_t)bytes.size);
    assert_int_equal(ld_gguf_open(&file, path, &err), LD_OK);
    assert_int_equal(ld_gguf_tensor_count(file), 4);
    ld_gguf_close(file);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ld_gguf_open(&file, path, &err), LD_E_NOT_FOUND);
    assert_null(file);
    assert_int_equal(ld_gguf_open(&file, "/tmp", &err), LD_E_FORMAT);
    assert_null(strstr(err.detail, "/tmp")); /* no path in a sentence for clients */
    assert_int_equal(close(fd), 0);
    ld_gguf_close(NULL);
    ld_buffer_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(values_of_another_kind_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_file_overwritten_anywhere_stays_within_itself),
        cmocka_unit_test(the_start_is_checked),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(another_alignment_and_overlaps_are_fine),
        cmocka_unit_test(paths_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
