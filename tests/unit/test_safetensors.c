/*
 * Proves that the reader takes a file only if every rule holds, names the gravest rule broken, and
 * stays fast for many tensors. Headers are built in memory; what is written is read back.
 */
#include "runtime/model/safetensors.h"

#include "runtime/base/buffer.h"
#include "runtime/base/clock.h"
#include "tests/unit/model_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Length field, header and `data_size` zero bytes. */
static struct ld_buffer file_of(const char *header, size_t header_size, size_t data_size)
{
    struct ld_buffer bytes = ld_buffer_make((size_t)64 << 20);
    uint8_t length[8];
    ld_write_u64le(length, header_size);
    ld_buffer_bytes(&bytes, length, sizeof length);
    ld_buffer_bytes(&bytes, header, header_size);
    for (size_t i = 0; i < data_size; i++)
        ld_buffer_byte(&bytes, 0);
    return bytes;
}

static enum ld_st_class class_of(const char *header, size_t data_size)
{
    struct ld_buffer bytes = file_of(header, strlen(header), data_size);
    struct ld_safetensors *file;
    struct ld_error err = {0};
    enum ld_st_class why;
    const enum ld_code code =
        ld_safetensors_open_bytes(&file, ld_span_of(bytes.data, bytes.size), &why, &err);
    assert_int_equal(code == LD_OK, why == LD_ST_VALID);
    assert_int_equal(code == LD_OK, err.detail[0] == 0);
    ld_safetensors_close(file);
    ld_buffer_deinit(&bytes);
    return why;
}

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

static void each_rule_has_its_class(void **state)
{
    (void)state;
    assert_int_equal(class_of("{" TENSOR("a", "F16", "[2,2]", 0, 8) "}  \n", 8), LD_ST_VALID);
    assert_int_equal(class_of("{" TENSOR("a", "F4", "[4]", 0, 2) "}", 2), LD_ST_VALID);
    assert_int_equal(class_of("{" TENSOR("a", "F4", "[3]", 0, 2) "}", 2), LD_ST_SIZE);
    assert_int_equal(class_of("[]", 0), LD_ST_HEADER_START);
    assert_int_equal(class_of("{\"\xff\":1}", 0), LD_ST_HEADER_UTF8);
    assert_int_equal(class_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0), LD_ST_HEADER_JSON);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[-0]", 0, 0) "}", 0), LD_ST_HEADER_JSON);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[1.0]", 0, 1) "}", 1), LD_ST_HEADER_JSON);
    assert_int_equal(class_of("{\"__metadata__\":{\"a\":1}}", 0), LD_ST_METADATA);
    assert_int_equal(class_of("{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}}", 0),
                     LD_ST_DUPLICATE);
    assert_int_equal(class_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"x\":0,\"\\u0078\":0,"
                              "\"data_offsets\":[0,1]}}",
                              1),
                     LD_ST_DUPLICATE);
    assert_int_equal(class_of("{" TENSOR("", "U8", "[]", 0, 1) "}", 1), LD_ST_NAME);
    assert_int_equal(class_of("{" TENSOR("a", "f16", "[]", 0, 2) "}", 2), LD_ST_DTYPE);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1),
                     LD_ST_RANK);
    assert_int_equal(class_of("{" TENSOR("a", "F32", "[4611686018427387904]", 0, 0) "}", 0),
                     LD_ST_SIZE);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[0,9223372036854775808,4]", 0, 0) "}", 0),
                     LD_ST_VALID);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[1]", 1, 0) "}", 1), LD_ST_LAYOUT);
    assert_int_equal(class_of("{" TENSOR("a", "U8", "[1]", 0, 1) "}", 2), LD_ST_LAYOUT);
}

/* The order of the classes decides, not that of the entries. */
static void the_gravest_rule_is_named(void **state)
{
    (void)state;
    static const char bad_size[] = TENSOR("a", "U8", "[3]", 0, 1);
    struct ld_buffer text = ld_buffer_make(4096);
    ld_buffer_format(&text, "{%s,%s}", bad_size, TENSOR("b", "nope", "[1]", 1, 2));
    assert_int_equal(class_of(text.data, 2), LD_ST_DTYPE);
    ld_buffer_clear(&text);
    ld_buffer_format(&text, "{%s,%s}", bad_size, TENSOR("b", "U8", "[1]", 2, 1));
    assert_int_equal(class_of(text.data, 2), LD_ST_LAYOUT); /* ends before it begins: comes first */
    ld_buffer_clear(&text);
    ld_buffer_format(&text, "{%s,%s} x", bad_size, TENSOR("b", "nope", "[1]", 1, 2));
    assert_int_equal(class_of(text.data, 2), LD_ST_HEADER_JSON);
    ld_buffer_deinit(&text);
}

static void lengths_are_checked_before_memory_is_taken(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {
        1, 2, LD_ST_HEADER_MAX + 1, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t bytes[8];
        struct ld_safetensors *file;
        enum ld_st_class why;
        ld_write_u64le(bytes, lengths[i]);
        assert_int_equal(ld_safetensors_open_bytes(&file, ld_span_of(bytes, 8), &why, NULL),
                         LD_E_FORMAT);
        assert_int_equal(why, LD_ST_HEADER_LENGTH);
        assert_int_equal(ld_safetensors_open_bytes(&file, ld_span_of(bytes, 7), &why, NULL),
                         LD_E_FORMAT);
        assert_int_equal(why, LD_ST_TRUNCATED);
    }
}

static struct ld_buffer many_tensors(uint32_t count)
{
    struct ld_buffer header = ld_buffer_make((size_t)64 << 20);
    ld_buffer_byte(&header, '{');
    for (uint32_t i = 0; i < count; i++) /* names and offsets in opposite orders */
        ld_buffer_format(&header,
                         "%s\"t%06u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
                         i ? "," : "", (i * 7919u) % count, count - 1 - i, count - i);
    ld_buffer_byte(&header, '}');
    return header;
}

static void a_hundred_thousand_tensors_are_quick_and_one_more_is_refused(void **state)
{
    (void)state;
    for (uint32_t extra = 0; extra < 2; extra++) {
        struct ld_buffer header = many_tensors(LD_ST_TENSORS_MAX + extra);
        struct ld_buffer bytes = file_of(header.data, header.size, LD_ST_TENSORS_MAX + extra);
        struct ld_safetensors *file;
        enum ld_st_class why;
        const int64_t start = ld_clock_monotonic_us();
        const enum ld_code code =
            ld_safetensors_open_bytes(&file, ld_span_of(bytes.data, bytes.size), &why, NULL);
        assert_int_equal(code, extra ? LD_E_TOO_LARGE : LD_OK);
        assert_int_equal(why, extra ? LD_ST_LIMIT : LD_ST_VALID);
        /* 0.1 s as built for release; a quadratic search would need minutes. */
        assert_true(ld_clock_monotonic_us() - start < 20 * 1000 * 1000);
        ld_safetensors_close(file);
        ld_buffer_deinit(&bytes);
        ld_buffer_deinit(&header);
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    static struct fixture fixture;
    char folder[256];
    memset(&fixture, 0, sizeof fixture);
    fixture_folder(folder);
    fixture_add_matrix(&fixture, "odd", LD_DTYPE_U8, 3, 0);
    fixture_add_matrix(&fixture, "matrix", LD_DTYPE_F16, 3, 5);
    fixture_add_matrix(&fixture, "scalar", LD_DTYPE_F64, 0, 0);
    fixture_add_matrix(&fixture, "a \"quoted\" \xc3\xa9", LD_DTYPE_F32, 2, 0);
    fixture_note(&fixture, "key", "two\nlines");
    const char *path = fixture_path(folder, "x.safetensors");
    fixture_write(&fixture, path);
    struct ld_safetensors *file;
    assert_int_equal(ld_safetensors_open(&file, path, NULL, NULL), LD_OK);
    assert_int_equal(ld_safetensors_count(file), 4);
    assert_int_equal(ld_safetensors_data_start(file) % 8, 0);
    assert_string_equal(ld_safetensors_metadata(file, "key"), "two\nlines");
    assert_null(ld_safetensors_metadata(file, "other"));
    assert_null(ld_safetensors_find(file, "nothing"));
    const struct ld_st_tensor *matrix = ld_safetensors_find(file, "matrix");
    assert_non_null(matrix);
    float values[15];
    ld_safetensors_decode(file, matrix, values, 15);
    for (uint32_t i = 0; i < 15; i++)
        assert_true(values[i] == ld_f16_to_f32(ld_f16_from_f32(fixture_value("matrix", i))));
    assert_non_null(ld_safetensors_find(file, "a \"quoted\" \xc3\xa9"));
    ld_safetensors_drop_pages(file, ld_safetensors_data(file, matrix), 30);
    ld_safetensors_close(file);
    fixture_remove_folder(folder);
}

/* Sparse files: they take no room. The header says that the tensor fills all that follows it. */
static void a_file_of_sixteen_gibibytes_is_the_largest(void **state)
{
    enum { HEADER = 120 };
    (void)state;
    char folder[256];
    fixture_folder(folder);
    const char *path = fixture_path(folder, "large.safetensors");
    for (int step = -1; step <= 1; step++) {
        const long long size = (long long)LD_ST_FILE_MAX + step;
        const long long data = size - 8 - HEADER;
        uint8_t length[8];
        char header[HEADER + 1];
        struct ld_safetensors *file;
        enum ld_st_class why;
        ld_write_u64le(length, HEADER);
        memset(header, ' ', sizeof header);
        const int used = snprintf(
            header, sizeof header,
            "{\"t\":{\"dtype\":\"U8\",\"shape\":[%lld],\"data_offsets\":[0,%lld]}}", data, data);
        assert_in_range(used, 1, HEADER);
        header[used] = ' ';
        const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, length, 8), 8);
        assert_int_equal(write(fd, header, HEADER), HEADER);
        const bool sparse = ftruncate(fd, (off_t)size) == 0;
        (void)close(fd);
        if (!sparse) { /* a disk that has no such files */
            fixture_remove_folder(folder);
            skip();
        }
        const enum ld_code code = ld_safetensors_open(&file, path, &why, NULL);
        if (step <= 0) {
            assert_int_equal(code, LD_OK);
            assert_int_equal(ld_safetensors_count(file), 1);
            ld_safetensors_close(file);
        } else {
            assert_int_equal(why, LD_ST_LIMIT);
            assert_int_not_equal(code, LD_OK);
        }
    }
    fixture_remove_folder(folder);
}

static void only_regular_files_are_opened(void **state)
{
    (void)state;
    char folder[256];
    struct ld_safetensors *file;
    fixture_folder(folder);
    const char *fifo = fixture_path(folder, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(ld_safetensors_open(&file, fifo, NULL, NULL), LD_E_FORMAT); /* and returns */
    assert_int_equal(ld_safetensors_open(&file, folder, NULL, NULL), LD_E_FORMAT);
    assert_int_equal(ld_safetensors_open(&file, fixture_path(folder, "none"), NULL, NULL),
                     LD_E_NOT_FOUND);
    assert_null(file);
    fixture_remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_has_its_class),
        cmocka_unit_test(the_gravest_rule_is_named),
        cmocka_unit_test(lengths_are_checked_before_memory_is_taken),
        cmocka_unit_test(a_hundred_thousand_tensors_are_quick_and_one_more_is_refused),
        cmocka_unit_test(a_file_of_sixteen_gibibytes_is_the_largest),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(only_regular_files_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
