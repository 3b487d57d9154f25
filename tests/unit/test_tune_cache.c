/*
 * Proves that decisions survive in a file, that a file is never half written nor believed when it
 * is of another device, damaged or hostile. Every truncation and every single-bit change of a valid
 * file is tried, and a few thousand random edits with a repaired checksum.
 */
#include "kernels/cuda/tune_cache.h"

#include "runtime/base/fsx.h"
#include "runtime/base/id.h"
#include "runtime/base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT_MAX = 8192 };

static const struct ldk_tune_identity identity = {.device = "NVIDIA Example 1",
                                                  .sm_count = 132,
                                                  .driver = 13000,
                                                  .cublaslt = 130100,
                                                  .cudnn = 91900,
                                                  .build = "0123456789abcdef"};

static void fill(struct ldk_tune_cache *cache)
{
    struct ld_error err = {0};
    const struct ldk_tune_choice first = {"own:128x160", 0x10, 0.125, "cublaslt:3", 0.25};
    const struct ldk_tune_choice second = {"cudnn:9", 0xffffffffU, 3.5, "", 0};
    assert_int_equal(ldk_tune_cache_put_signature(cache, "conv sm90 f16", 0x10, &err), LD_OK);
    assert_int_equal(ldk_tune_cache_put_signature(cache, "linear sm90 f16", 0xffffffffU, &err),
                     LD_OK);
    assert_int_equal(ldk_tune_cache_put_choice(cache, "conv sm90 f16 b2", &first, &err), LD_OK);
    assert_int_equal(ldk_tune_cache_put_choice(cache, "linear sm90 f16 b8", &second, &err), LD_OK);
}

static void check_filled(const struct ldk_tune_cache *cache)
{
    uint32_t signature;
    assert_int_equal(cache->class_count, 2);
    assert_int_equal(cache->entry_count, 2);
    assert_true(ldk_tune_cache_signature(cache, "linear sm90 f16", &signature));
    assert_int_equal(signature, 0xffffffffU);
    const struct ldk_tune_choice *first = ldk_tune_cache_choice(cache, "conv sm90 f16 b2");
    const struct ldk_tune_choice *second = ldk_tune_cache_choice(cache, "linear sm90 f16 b8");
    assert_non_null(first);
    assert_non_null(second);
    assert_string_equal(first->candidate, "own:128x160");
    assert_string_equal(first->runner_up, "cublaslt:3");
    assert_true(first->ms > 0.1249999 && first->ms < 0.1250001);
    assert_string_equal(second->runner_up, "");
    assert_int_equal(first->signature, 0x10);
    assert_null(ldk_tune_cache_choice(cache, "conv sm90 f16"));
}

/* A file's text with the right checksum at its end. */
static size_t with_crc(char *text, size_t size)
{
    return size + (size_t)snprintf(text + size, TEXT_MAX - size, "crc32c %08x\n",
                                   ld_crc32c(0, ld_span_of(text, size)));
}

static size_t head(char *text)
{
    char own[LDK_TUNE_IDENTITY_SIZE];
    ldk_tune_identity_text(&identity, own);
    return (size_t)snprintf(text, TEXT_MAX, "latentd-tune 1\nidentity %s\n", own);
}

static enum ld_code parse_body(const char *body, struct ldk_tune_cache *cache)
{
    char text[TEXT_MAX];
    struct ld_error err = {0};
    size_t size = head(text);
    size += (size_t)snprintf(text + size, TEXT_MAX - size, "%s", body);
    size = with_crc(text, size);
    return ldk_tune_cache_parse(cache, ld_span_of(text, size), &identity, &err);
}

/* ---- Files ----------------------------------------------------------------------------------- */

struct place {
    char folder[64], path[160];
};

static struct place make_place(void)
{
    struct place place;
    char name[LDK_TUNE_FILE_NAME_SIZE];
    (void)snprintf(place.folder, sizeof place.folder, "/tmp/test_tune.XXXXXX");
    assert_non_null(mkdtemp(place.folder));
    ldk_tune_file_name(&identity, name);
    (void)snprintf(place.path, sizeof place.path, "%s/%s", place.folder, name);
    return place;
}

static void remove_place(const struct place *place)
{
    (void)unlink(place->path);
    assert_int_equal(rmdir(place->folder), 0); /* no temporary file was left */
}

/* By root in a service's folder, however it masks its files; and by no right without a warning. */
static void a_file_of_roots_is_the_folders_owners(void **state)
{
    (void)state;
    enum { SERVICE = 65534 };
    const bool root = geteuid() == 0;
    const struct place place = make_place();
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_cache again = {0};
    struct ld_error err = {0};
    fill(&cache);
    if (root)
        assert_int_equal(chown(place.folder, SERVICE, SERVICE), 0);
    const mode_t mask = umask(0077);
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &identity, &err), LD_OK);
    (void)umask(mask);
    if (root)
        assert_int_equal(seteuid(SERVICE), 0);
    ldk_tune_cache_read(&again, place.folder, &identity);
    const uint32_t entries = again.entry_count;
    const bool shut = chmod(place.path, 0) == 0; /* the owner may */
    ldk_tune_cache_read(&again, place.folder, &identity);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(entries, 2);
    assert_true(shut);
    assert_int_equal(again.entry_count, 0);
    ldk_tune_cache_deinit(&again);
    ldk_tune_cache_deinit(&cache);
    remove_place(&place);
}

static void what_was_written_is_read_again(void **state)
{
    (void)state;
    const struct place place = make_place();
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_cache again = {0};
    struct ld_error err = {0};
    struct stat info;
    ldk_tune_cache_read(&cache, place.folder, &identity);
    assert_int_equal(cache.entry_count, 0);
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &identity, &err), LD_OK);
    assert_int_not_equal(stat(place.path, &info), 0); /* nothing to say, no file */
    fill(&cache);
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &identity, &err), LD_OK);
    assert_false(cache.changed);
    ldk_tune_cache_read(&again, place.folder, &identity);
    check_filled(&again);
    /* Another device has another file. */
    struct ldk_tune_identity other = identity;
    other.driver++;
    ldk_tune_cache_read(&again, place.folder, &other);
    assert_int_equal(again.entry_count, 0);
    ldk_tune_cache_deinit(&again);
    ldk_tune_cache_deinit(&cache);
    remove_place(&place);
}

static void a_file_of_rubbish_is_ignored_and_replaced(void **state)
{
    (void)state;
    const struct place place = make_place();
    struct ldk_tune_cache cache = {0};
    struct ld_error err = {0};
    FILE *file = fopen(place.path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 5000; i++)
        (void)fputc(i * 7 % 251, file);
    assert_int_equal(fclose(file), 0);
    ldk_tune_cache_read(&cache, place.folder, &identity);
    assert_int_equal(cache.entry_count + cache.class_count, 0);
    fill(&cache);
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &identity, &err), LD_OK);
    ldk_tune_cache_read(&cache, place.folder, &identity);
    check_filled(&cache);
    ldk_tune_cache_deinit(&cache);
    remove_place(&place);
}

static void a_link_in_the_files_place_is_not_followed(void **state)
{
    (void)state;
    const struct place place = make_place();
    struct ldk_tune_cache cache = {0};
    assert_int_equal(symlink("/dev/zero", place.path), 0);
    ldk_tune_cache_read(&cache, place.folder, &identity);
    assert_int_equal(cache.entry_count, 0);
    ldk_tune_cache_deinit(&cache);
    remove_place(&place);
}

/* ---- Texts ----------------------------------------------------------------------------------- */

static void unknown_lines_are_ignored_and_later_ones_win(void **state)
{
    (void)state;
    struct ldk_tune_cache cache = {0};
    uint32_t signature;
    assert_int_equal(parse_body("colour 12 of the future\nclass 00000001 k\nword\n\n"
                                "class 00000002 k\nunit own:a 00000002 5 - 0 k b2\n",
                                &cache),
                     LD_OK);
    assert_int_equal(cache.class_count, 1);
    assert_true(ldk_tune_cache_signature(&cache, "k", &signature));
    assert_int_equal(signature, 2);
    assert_string_equal(ldk_tune_cache_choice(&cache, "k b2")->candidate, "own:a");
    ldk_tune_cache_deinit(&cache);
}

static void lines_that_make_no_sense_spoil_the_whole_file(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "class 1 k\n",
        "class 0000000g k\n",
        "class 00000001 \n",
        "class 00000001\n",
        "class 00000001 k\x01\n",
        "unit own:a 00000001 5 - 0\n",
        "unit own:a 00000001 -5 - 0 k\n",
        "unit own:a 00000001 5e3 - 0 k\n",
        "unit own:a 00000001 99999999999999999999 - 0 k\n",
        "unit own:a 00000001 600000000001 - 0 k\n",
        "unit  00000001 5 - 0 k\n",
        "unit own:a 00000001 5 - 0 \n",
        "unit " /* a name beyond LDK_TUNE_NAME_SIZE */
        "own:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaa "
        "00000001 "
        "5 - 0 k\n",
        "class 00000001 k", /* cut before its end */
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct ldk_tune_cache cache = {0};
        fill(&cache);
        assert_int_not_equal(parse_body(bodies[i], &cache), LD_OK);
        assert_int_equal(cache.entry_count + cache.class_count, 0);
        ldk_tune_cache_deinit(&cache);
    }
}

static void a_file_of_another_identity_is_no_answer(void **state)
{
    (void)state;
    struct ldk_tune_cache cache = {0};
    struct ld_error err = {0};
    char text[TEXT_MAX];
    const size_t size = with_crc(text, head(text));
    struct ldk_tune_identity other[6];
    for (int i = 0; i < 6; i++)
        other[i] = identity;
    other[0].device[7] = '\n'; /* becomes '?', no line of its own */
    other[1].sm_count = 0;
    other[2].driver = 12090;
    other[3].cublaslt = 0;
    other[4].cudnn = 1;
    other[5].build[0] = 'f';
    const struct ld_span span = ld_span_of(text, size);
    assert_int_equal(ldk_tune_cache_parse(&cache, span, &identity, &err), LD_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(ldk_tune_cache_parse(&cache, span, &other[i], &err), LD_E_CONFLICT);
}

/* ---- Hostile bytes --------------------------------------------------------------------------- */

static size_t valid_file(char *text)
{
    size_t size = head(text);
    size += (size_t)snprintf(text + size, TEXT_MAX - size,
                             "class 00000010 conv sm90 f16\n"
                             "unit own:128x160 00000010 125000 cublaslt:3 250000 conv sm90 f16 "
                             "b2\n");
    return with_crc(text, size);
}

static void every_cut_and_every_flipped_bit_is_seen(void **state)
{
    (void)state;
    char text[TEXT_MAX];
    struct ldk_tune_cache cache = {0};
    struct ld_error err = {0};
    const size_t size = valid_file(text);
    assert_int_equal(ldk_tune_cache_parse(&cache, ld_span_of(text, size), &identity, &err), LD_OK);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_not_equal(ldk_tune_cache_parse(&cache, ld_span_of(text, cut), &identity, &err),
                             LD_OK);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
        assert_int_not_equal(ldk_tune_cache_parse(&cache, ld_span_of(text, size), &identity, &err),
                             LD_OK);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
    }
    assert_int_equal(cache.entry_count, 0);
}

/* A right checksum over random damage: the parser itself must hold. The bytes stand in a block of
 * exactly their size, so that a sanitizer sees a read beyond it. */
static void random_damage_never_breaks_the_parser(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252U;
    uint32_t accepted = 0;
    for (int turn = 0; turn < 4000; turn++) {
        char text[TEXT_MAX];
        size_t size = valid_file(text) - 16;
        const size_t fixed = head((char[TEXT_MAX]){0});
        for (int edit = 0; edit <= turn % 5 && size > fixed; edit++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17; /* xorshift64, Marsaglia 2003 */
            const size_t at = fixed + (size_t)(random >> 8) % (size - fixed);
            switch (random % 4) {
            case 0:
                text[at] = (char)(random >> 40);
                break;
            case 1:
                text[at] = " \n-0f"[(random >> 40) % 5];
                break;
            case 2:
                memmove(text + at, text + at + 1, size - at - 1);
                size--;
                break;
            default:
                size = at + 1;
                break;
            }
        }
        size = with_crc(text, size);
        char *exact = malloc(size);
        assert_non_null(exact);
        memcpy(exact, text, size);
        struct ldk_tune_cache cache = {0};
        struct ld_error err = {0};
        const enum ld_code code =
            ldk_tune_cache_parse(&cache, ld_span_of(exact, size), &identity, &err);
        if (code != LD_OK)
            assert_int_equal(cache.entry_count + cache.class_count, 0);
        accepted += code == LD_OK;
        for (uint32_t i = 0; i < cache.entry_count; i++)
            assert_true(strlen(cache.entries[i].key) > 0);
        ldk_tune_cache_deinit(&cache);
        free(exact);
    }
    assert_true(accepted > 0 && accepted < 4000); /* both ways were taken */
}

static void a_flood_of_lines_ends_at_the_bound(void **state)
{
    (void)state;
    struct ldk_tune_cache cache = {0};
    struct ld_error err = {0};
    const struct ldk_tune_choice choice = {"own:a", 1, 1, "", 0};
    enum ld_code code = LD_OK;
    char key[32];
    uint32_t i = 0;
    for (; code == LD_OK && i < LDK_TUNE_ENTRIES_MAX + 10; i++) {
        (void)snprintf(key, sizeof key, "k%u", i);
        code = ldk_tune_cache_put_choice(&cache, key, &choice, &err);
    }
    assert_int_equal(code, LD_E_TOO_LARGE);
    assert_int_equal(cache.entry_count, LDK_TUNE_ENTRIES_MAX);
    ldk_tune_cache_deinit(&cache);
}

static int silence(void **state)
{
    (void)state;
    ld_log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return 0;
}

static void idle_times_have_a_file_of_their_own(void **state)
{
    (void)state;
    struct ldk_tune_cache cache = {0};
    struct ldk_tune_identity idle = identity;
    struct ld_error err = {0};
    char name[LDK_TUNE_FILE_NAME_SIZE];
    char path[160];
    struct place place = make_place();
    idle.idle = true;
    assert_false(ldk_tune_cache_any("/nowhere/at/all"));
    assert_false(ldk_tune_cache_any(place.folder));
    fill(&cache);
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &idle, &err), LD_OK);
    assert_false(ldk_tune_cache_any(place.folder));
    ldk_tune_cache_read(&cache, place.folder, &identity);
    assert_int_equal(cache.entry_count, 0);
    ldk_tune_cache_read(&cache, place.folder, &idle);
    check_filled(&cache);
    cache.changed = true;
    assert_int_equal(ldk_tune_cache_write(&cache, place.folder, &identity, &err), LD_OK);
    assert_true(ldk_tune_cache_any(place.folder));
    ldk_tune_cache_deinit(&cache);
    ldk_tune_file_name(&idle, name);
    assert_memory_equal(name, "idle-", 5);
    (void)snprintf(path, sizeof path, "%s/%s", place.folder, name);
    assert_int_equal(unlink(path), 0);
    remove_place(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_again),
        cmocka_unit_test(a_file_of_roots_is_the_folders_owners),
        cmocka_unit_test(a_file_of_rubbish_is_ignored_and_replaced),
        cmocka_unit_test(a_link_in_the_files_place_is_not_followed),
        cmocka_unit_test(unknown_lines_are_ignored_and_later_ones_win),
        cmocka_unit_test(lines_that_make_no_sense_spoil_the_whole_file),
        cmocka_unit_test(a_file_of_another_identity_is_no_answer),
        cmocka_unit_test(every_cut_and_every_flipped_bit_is_seen),
        cmocka_unit_test(random_damage_never_breaks_the_parser),
        cmocka_unit_test(a_flood_of_lines_ends_at_the_bound),
        cmocka_unit_test(idle_times_have_a_file_of_their_own),
    };
    return cmocka_run_group_tests(tests, silence, NULL);
}
