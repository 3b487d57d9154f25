/*
 * Proves that PTX is read as it is meant, that what is not known is refused with its line, and that
 * no text, however it is cut or damaged, reads beyond its end. Built with AddressSanitizer.
 *
 *     test_ptx_parse [file.ptx]    also every beginning of that text
 */
#include "tests/ptx/ptx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD ".version 9.0\n.target sm_80\n.address_size 64\n"

static const char *real_path;
static struct ptx_why why;

/* From memory that ends with the text, so that a step too far is seen. */
static struct ptx_module *load(const char *text, size_t length)
{
    char *exact = malloc(length + (length == 0));
    assert_non_null(exact);
    memcpy(exact, text, length);
    snprintf(why.text, sizeof why.text, "no reason given");
    struct ptx_module *module = ptx_load(exact, length, &why);
    free(exact);
    return module;
}

/* The only kernel of a text. */
static struct ptx_kernel *load_one(const char *text)
{
    struct ptx_module *module = load(text, strlen(text));
    if (!module)
        fail_msg("%s", why.text);
    assert_int_equal(module->kernel_count, 1);
    assert_ptr_equal(module->kernels[0].module, module);
    return &module->kernels[0];
}

static const char *register_name(const struct ptx_kernel *kernel, const struct ptx_item *item)
{
    assert_int_equal(item->kind, PTX_REG);
    assert_in_range(item->reg, 0, kernel->register_count - 1);
    return kernel->registers[item->reg].name;
}

static void the_head_of_an_entry_is_read(void **state)
{
    (void)state;
    struct ptx_kernel *kernel = load_one(
        HEAD
        ".extern .shared .align 1024 .b8 pool[];\n"
        ".weak .entry run(.param .u8 a, .param .align 8 .b8 b[20],\n"
        "    .param .u64 .ptr .global .align 16 c, .param .u32 d)\n"
        ".maxntid 64, 2, 1\n.minnctapersm 2\n.pragma \"nounroll\";\n"
        "{\n.shared .align 4 .b8 first[10];\n.shared .align 16 .b8 second[4];\n.shared .u8 third;\n"
        ".reg .b32 %r<4>;\n"
        "mov.u32 %r1, first; mov.u32 %r2, second+8; mov.u32 %r3, third; mov.u32 %r1, pool;\n"
        "ld.param.u32 %r1, [d]; ld.shared.u32 %r2, [pool+-4]; ret;\n}\n");
    assert_string_equal(kernel->name, "run");
    assert_int_equal(kernel->threads_max, 128);
    assert_int_equal(kernel->param_count, 4);
    const uint32_t offsets[] = {0, 8, 32, 40}, bytes[] = {1, 20, 8, 4};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(kernel->params[i].offset, offsets[i]);
        assert_int_equal(kernel->params[i].bytes, bytes[i]);
    }
    assert_int_equal(kernel->param_bytes, 44);
    assert_int_equal(kernel->shared_bytes, 21);
    assert_int_equal(kernel->dynamic_align, 1024);
    assert_int_equal(kernel->inst_count, 7);
    const uint64_t symbols[] = {0, 16, 20, 1024};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(kernel->insts[i].operand[1].kind, PTX_SYMBOL);
        assert_int_equal(kernel->insts[i].operand[1].item[0].value, symbols[i]);
    }
    assert_int_equal(kernel->insts[1].operand[1].offset, 8);
    assert_int_equal(kernel->insts[4].operand[1].kind, PTX_ADDRESS);
    assert_int_equal(kernel->insts[4].operand[1].item[0].kind, PTX_SYMBOL);
    assert_int_equal(kernel->insts[4].operand[1].item[0].value, 40);
    assert_int_equal(kernel->insts[5].operand[1].item[0].value, 1024);
    assert_int_equal(kernel->insts[5].operand[1].offset, -4);
    assert_int_equal(kernel->insts[6].count, 0);
    ptx_unload(kernel->module);
}

static void operands_are_read(void **state)
{
    (void)state;
    struct ptx_kernel *kernel = load_one(
        HEAD ".visible .entry run()\n{\n"
             ".reg .pred %p<3>; .reg .b16 %rs<3>; .reg .f32 %f<9>; .reg .b64 %rd<2>; .reg .b32 "
             "one, two;\n"
             "@!%p2 add.s32 one, two, -5;\n"
             "mov.f32 %f1, 0f3F800000; mov.b64 %rd1, 0dBFF0000000000000; mov.u32 one, 0xFFFFFFFF;\n"
             "mov.u64 %rd1, 18446744073709551615; mov.s64 %rd1, -9223372036854775808;\n"
             "shfl.sync.bfly.b32 one|%p1, two, 1, 31, -1;\n"
             "mov.b64 {one, _}, %rd1; ld.global.v4.f32 {%f1, %f2, %f3, %f8}, [%rd1+0x10];\n"
             "mov.u32 one, %tid.x; mov.u32 one, %nctaid.z; st.global.u32 [%rd1-8], one;\n"
             "cvt.u16.u32 %rs1, one; ld.global.u32 one, [64];\n}\n");
    const struct ptx_inst *at = kernel->insts;
    assert_true(at[0].guard >= 0 && at[0].guard_not);
    assert_string_equal(kernel->registers[at[0].guard].name, "%p2");
    assert_string_equal(at[0].name, "add.s32");
    assert_int_equal(at[0].count, 3);
    assert_string_equal(register_name(kernel, &at[0].operand[1].item[0]), "two");
    assert_int_equal(at[0].operand[2].kind, PTX_IMM);
    assert_true(at[0].operand[2].item[0].value == (uint64_t)-5);
    assert_int_equal(at[1].guard, -1);
    assert_true(at[1].operand[1].item[0].value == 0x3F800000u);
    assert_true(at[2].operand[1].item[0].value == 0xBFF0000000000000u);
    assert_true(at[3].operand[1].item[0].value == 0xFFFFFFFFu);
    assert_true(at[4].operand[1].item[0].value == UINT64_MAX);
    assert_true(at[5].operand[1].item[0].value == (uint64_t)1 << 63);
    assert_int_equal(at[6].count, 6);
    assert_string_equal(register_name(kernel, &at[6].operand[1].item[0]), "%p1");
    assert_int_equal(at[7].operand[0].kind, PTX_VECTOR);
    assert_int_equal(at[7].operand[0].count, 2);
    assert_int_equal(at[7].operand[0].item[1].kind, PTX_SINK);
    assert_int_equal(at[8].operand[0].count, 4);
    assert_string_equal(register_name(kernel, &at[8].operand[0].item[3]), "%f8");
    assert_int_equal(at[8].operand[1].offset, 16);
    assert_int_equal(at[9].operand[1].kind, PTX_SPECIAL);
    assert_int_equal(at[9].operand[1].item[0].value, PTX_TID_X);
    assert_int_equal(at[10].operand[1].item[0].value, PTX_NCTAID_Z);
    assert_int_equal(at[11].operand[0].offset, -8);
    assert_int_equal(at[13].operand[1].item[0].kind, PTX_IMM);
    const char *names[] = {"%p2", "%f1", "%rs1", "%rd1", "one"};
    const uint8_t bytes[] = {0, 4, 2, 8, 4};
    for (int k = 0; k < 5; k++) {
        int32_t i = 0;
        while (i < kernel->register_count && strcmp(kernel->registers[i].name, names[k]) != 0)
            i++;
        assert_true(i < kernel->register_count);
        assert_int_equal(kernel->registers[i].bytes, bytes[k]);
    }
    ptx_unload(kernel->module);
}

static void scopes_labels_and_lines_are_kept(void **state)
{
    (void)state;
    struct ptx_kernel *kernel = load_one(
        HEAD ".entry run()\n{\n.reg .pred %p<2>;\n.reg .b32 t;\n.reg .b32 %r<2>;\n"
             ".loc 2 40 3, function_name $L__info_string0+5, inlined_at 1 61 13\n"
             "@%p1 bra $end;\n"
             "{ .reg .b32 t; .reg .b16 %r<2>; inner: mov.u32 t, 1; mov.b16 %r1, 0; bra inner; }\n"
             "{ .reg .b32 t; mov.u32 t, 2; /* %r1\n is outside */ mov.u32 %r1, t; bra outer; }\n"
             ".loc 1 7 0\n"
             "outer: mov.u32 t, 3; // bra nowhere;\n$end:\n}\n"
             ".file 1 \"a.cu\", 12, 34\n.file 2 \"b.h\"\n"
             ".section .debug_str\n{\n$L__info_string0:\n.b8 95,0\n}\n");
    const struct ptx_inst *at = kernel->insts;
    assert_int_equal(kernel->inst_count, 8);
    assert_int_equal(at[0].operand[0].kind, PTX_LABEL);
    assert_int_equal(at[0].operand[0].item[0].value, 8);
    assert_int_equal(at[3].operand[0].item[0].value, 1);
    assert_int_equal(at[6].operand[0].item[0].value, 7);
    int32_t t[] = {at[1].operand[0].item[0].reg, at[4].operand[0].item[0].reg,
                   at[7].operand[0].item[0].reg};
    assert_true(t[0] != t[1] && t[1] != t[2] && t[0] != t[2]);
    assert_int_equal(at[5].operand[1].item[0].reg, t[1]);
    assert_int_equal(kernel->registers[at[2].operand[0].item[0].reg].bytes, 2);
    assert_int_equal(kernel->registers[at[5].operand[0].item[0].reg].bytes, 4);
    assert_int_equal(at[0].line, 10);
    assert_int_equal(at[0].source_file, 2);
    assert_int_equal(at[0].source_line, 40);
    assert_int_equal(at[5].line, 13);
    assert_int_equal(at[7].source_file, 1);
    assert_int_equal(at[7].source_line, 7);
    assert_true(kernel->module->file_count > 2);
    assert_null(kernel->module->files[0]);
    assert_string_equal(kernel->module->files[1], "a.cu");
    assert_string_equal(kernel->module->files[2], "b.h");
    assert_ptr_equal(ptx_find(kernel->module, "run"), kernel);
    assert_null(ptx_find(kernel->module, "ru"));
    ptx_unload(kernel->module);
}

static void entries_do_not_share_names(void **state)
{
    (void)state;
    const char *text =
        HEAD ".extern .shared .align 16 .b8 pool[];\n"
             ".entry a(.param .u32 x)\n{ .shared .b8 s[100]; .reg .b32 %r<2>; L: mov.u32 %r1, "
             "pool; bra L; }\n"
             ".entry b(.param .u64 y, .param .u32 x)\n{ .shared .b8 s[8]; .reg .b64 %r<2>;\n"
             "mov.b64 %r1, x; mov.u64 %r1, s; L: bra L; }\n";
    struct ptx_module *module = load(text, strlen(text));
    assert_non_null(module);
    assert_int_equal(module->kernel_count, 2);
    const struct ptx_kernel *a = ptx_find(module, "a"), *b = ptx_find(module, "b");
    assert_int_equal(a->insts[0].operand[1].item[0].value, 112);
    assert_int_equal(a->dynamic_align, 16);
    assert_int_equal(b->dynamic_align, 0);
    assert_int_equal(b->shared_bytes, 8);
    assert_int_equal(b->register_count, 1);
    assert_int_equal(b->registers[0].bytes, 8);
    assert_int_equal(b->insts[0].operand[1].item[0].value, 8);
    assert_int_equal(b->insts[2].operand[0].item[0].value, 2);
    ptx_unload(module);
}

/* A text around the given lines of a body, the first of which is line 7. */
static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body, *says;
    } bodies[] = {
        {"mov.u32 %r4, 0;", "line 7: unknown register: '%r4'"},
        {"mov.u32 %r01, 0;", "line 7: unknown register: '%r01'"},
        {"\nbra nowhere;", "line 8: unknown name: 'nowhere'"},
        {"{ in: ret; }\nbra in;", "line 8: unknown name: 'in'"},
        {"mov.u32 %r1, 08;", "line 7: expected a number, found: '08'"},
        {"mov.u32 %r1, 1.5;", "line 7: expected a number, found: '1.5'"},
        {"mov.u32 %r1, 18446744073709551616;",
         "line 7: expected a number, found: '18446744073709551616'"},
        {"mov.u32 %r1, -9223372036854775809;", "line 7: too large a number: '9223372036854775809'"},
        {"mov.u32 %r1, 0x;", "line 7: expected a number, found: '0x'"},
        {"mov.f32 %r1, 0f3F80000;", "line 7: expected a number, found: '0f3F80000'"},
        {"mov.f32 %r1, -0f3F800000;", "line 7: a whole number is wanted here, not: '0f3F800000'"},
        {"ld.global.u32 %r1, [%rd1+0f3F800000];",
         "line 7: a whole number is wanted here, not: '0f3F800000'"},
        {"ld.global.u32 %r1, [%tid.x];", "line 7: no such address is known; before: ']'"},
        {"mov.u32 {%r1, %r1, %r1, %r1, %r1}, 0;",
         "line 7: a vector of more than four; before: '%r1'"},
        {"mov.u32 {%r1, s}, 0;", "line 7: no such thing may stand here: 's'"},
        {"mov.u32 %r1, run;", "line 7: no such thing may stand here: 'run'"},
        {"x %r1, 1, 2, 3, 4, 5, 6;", "line 7: more operands than any instruction has; before: '6'"},
        {"x %r1, %r1|%r1;", "line 7: expected ';', found: '|'"},
        {"call f, (%r1);", "line 7: expected an operand, found: '('"},
        {"@%r1 ret;", "line 7: expected a predicate, found: '%r1'"},
        {"@ret;", "line 7: expected a predicate, found: 'ret'"},
        {"ADD %r1;", "line 7: expected an instruction, found: 'ADD'"},
        {"ret", "line 8: expected an operand, found: '}'"},
        {"L: ret; L: ret;", "line 7: declared twice: 'L'"},
        {".reg .b32 %q<2>; .reg .b64 %q<3>;", "line 7: declared twice: '%q'"},
        {".reg .b32 %r3;", "line 7: declared twice: '%r3'"},
        {".reg .b32 %q1<2>;", "line 7: a range of registers whose name ends in a digit: '%q1'"},
        {".reg .b32 %q<16777217>;", "line 7: too large a number: '16777217'"},
        {".reg .b8 %q;", "line 7: registers of 8 bits are not known; before: '%q'"},
        {".reg .v2 .b32 %q;", "line 7: unknown type: '.v2'"},
        {".shared .b8 big[1048577];", "line 7: too large a number: '1048577'"},
        {".shared .b8 none[0];", "line 7: shared memory of no or too many bytes; before: ';'"},
        {".shared .align 3 .b8 odd[4];", "line 7: an alignment is a power of two; before: '.b8'"},
        {".local .b8 depot[4];", "line 7: unknown directive: '.local'"},
        {".pragma 5;", "line 7: expected a string, found: '5'"},
        {"{{{{ {{{{ {{{{ {{{{", "line 7: braces nested too deep: '{'"},
        {"/* ret;", "line 7: expected an instruction, found: '/*'"},
        {"mov.u32 %r1, \x01;", "line 7: expected an operand, found: '?'"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 HEAD ".entry run()\n{ .reg .b32 %%r<4>; .reg .pred %%p<2>;\n"
                      ".reg .b64 %%rd<2>; .shared .u32 s;\n%s\n}\n",
                 bodies[i].body);
        if (load(text, strlen(text)))
            fail_msg("was read: %s", bodies[i].body);
        assert_string_equal(why.text, bodies[i].says);
    }
    static const struct {
        const char *text, *says;
    } texts[] = {
        {"", "line 1: unknown word: 'end of the text'"},
        {".version 9.0\n.target sm_90\n", "line 2: unknown word: 'sm_90'"},
        {".version 9.0\n.target sm_80\n.address_size 32\n.entry",
         "line 4: only addresses of 64 bits are known; before: '.entry'"},
        {HEAD ".global .u32 x;", "line 4: unknown word outside an entry: '.global'"},
        {HEAD ".extern .shared .b8 x[4];",
         "line 4: an extern shared array has no size; before: ';'"},
        {HEAD ".entry a() { ret; }\n.entry a() { ret; }", "line 5: declared twice: 'a'"},
        {HEAD ".entry a(.param .b8 x[40000]) { ret; }", "line 4: too large a number: '40000'"},
        {HEAD ".entry a() .maxntid 64, 32 { ret; }",
         "line 4: no number of threads a block may have; before: '{'"},
        {HEAD ".entry a() .noreturn { ret; }",
         "line 4: unknown word between an entry's head and its body: '.noreturn'"},
        {HEAD ".entry a() { ret;", "line 4: expected an instruction, found: 'end of the text'"},
        {HEAD ".file 5000 \"x\"", "line 4: too large a number: '5000'"},
        {HEAD ".file 5 \"x", "line 4: expected a string, found: 'x'"},
        {HEAD ".section .x { .b8 1", "line 4: a section without end: 'end of the text'"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (load(texts[i].text, strlen(texts[i].text)))
            fail_msg("was read: %s", texts[i].text);
        assert_string_equal(why.text, texts[i].says);
    }
}

/* ---- Real text ------------------------------------------------------------------------------- */

static char *read_real(size_t *length)
{
    FILE *file = real_path ? fopen(real_path, "rb") : NULL;
    if (!file) {
        print_message("skip: needs PTX of a kernel: test_ptx_parse FILE.ptx\n");
        return NULL;
    }
    enum { MOST = 1 << 20 };
    char *text = malloc(MOST);
    *length = text ? fread(text, 1, MOST, file) : 0;
    fclose(file);
    return text;
}

/* Cut at any byte: a shorter module if between two entries, else a sentence with a line. */
static void every_beginning_of_a_real_text_ends(void **state)
{
    (void)state;
    size_t length;
    char *text = read_real(&length);
    if (!text) {
        skip();
        return;
    }
    struct ptx_module *module = load(text, length);
    if (!module)
        fail_msg("%s", why.text);
    assert_true(module->kernel_count > 0);
    int32_t kernels = module->kernel_count;
    ptx_unload(module);
    /* What lies behind the first entry is more of the same. */
    const char *end = strstr(text, "\n}\n");
    size_t first = end ? (size_t)(end - text) + 3 : length;
    size_t read = 0;
    for (size_t cut = 0; cut < first; cut++) {
        module = load(text, cut);
        if (!module)
            assert_memory_equal(why.text, "line ", 5);
        else
            assert_true(module->kernel_count < kernels);
        read += module != NULL;
        ptx_unload(module);
    }
    assert_true(read < 100);
    free(text);
}

/* One byte changed: any end is right that is one. */
static void damaged_texts_end(void **state)
{
    (void)state;
    size_t length;
    char *text = read_real(&length);
    if (!text) {
        skip();
        return;
    }
    static const char bytes[] = "\0{}[]<>,;:%@\"/*\n-+09.\xff";
    uint64_t seed = 1;
    for (int i = 0; i < 500; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % length;
        char was = text[at];
        text[at] = bytes[(seed >> 20) % sizeof bytes];
        ptx_unload(load(text, length));
        text[at] = was;
    }
    free(text);
}

/* ---- Fat binaries ---------------------------------------------------------------------------- */

static void put(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

/* A head, an entry of machine code and one of PTX, as nvcc lays them out; freed by the caller. */
enum { CODE_AT = 16, PTX_AT = 16 + 64 + 24, TEXT_AT = PTX_AT + 80, FAT_BYTES = TEXT_AT + 16 };
static unsigned char *make_fat(void)
{
    unsigned char *fat = calloc(1, FAT_BYTES);
    assert_non_null(fat);
    put(fat, 0xBA55ED50, 4);
    put(fat + 4, 1, 2);
    put(fat + 6, 16, 2);
    put(fat + 8, FAT_BYTES - 16, 8);
    put(fat + CODE_AT, 2, 2);
    put(fat + CODE_AT + 4, 64, 4);
    put(fat + CODE_AT + 8, 24, 8);
    put(fat + PTX_AT, 1, 2);
    put(fat + PTX_AT + 4, 80, 4);
    put(fat + PTX_AT + 8, 16, 8);
    put(fat + PTX_AT + 40, 0x11, 8);
    memcpy(fat + TEXT_AT, ".version", 8);
    return fat;
}

static void expect_fat(size_t at, uint64_t value, int bytes, const char *says)
{
    unsigned char *fat = make_fat();
    char *text;
    size_t length;
    put(fat + at, value, bytes);
    bool found = ptx_fatbin(fat, &text, &length, &why);
    free(fat);
    if (!says) {
        assert_true(found);
        assert_int_equal(length, 8);
        assert_string_equal(text, ".version");
        free(text);
        return;
    }
    assert_false(found);
    assert_null(text);
    assert_string_equal(why.text, says);
}

static void fat_binaries_are_searched_within_their_bounds(void **state)
{
    (void)state;
    expect_fat(CODE_AT, 2, 2, NULL);
    expect_fat(PTX_AT + 8, 8, 8, NULL); /* no zero behind the text */
    expect_fat(0, 0xBA55ED51, 4, "fat binary: another format");
    expect_fat(4, 2, 2, "fat binary: another format");
    expect_fat(6, 32, 2, "fat binary: another size of the head");
    expect_fat(8, 0, 8, "fat binary: no PTX in it");
    expect_fat(8, 63, 8, "fat binary: an entry is cut off");
    expect_fat(8, 87, 8, "fat binary: an entry is larger than the rest");
    expect_fat(8, 88, 8, "fat binary: no PTX in it");
    expect_fat(8, FAT_BYTES - 17, 8, "fat binary: an entry is larger than the rest");
    expect_fat(CODE_AT + 4, 0, 4, "fat binary: an entry is larger than the rest");
    expect_fat(CODE_AT + 8, UINT64_MAX, 8, "fat binary: an entry is larger than the rest");
    expect_fat(PTX_AT + 4, 97, 4, "fat binary: an entry is larger than the rest");
    expect_fat(PTX_AT, 2, 2, "fat binary: no PTX in it");
    const char *packed = "fat binary: the PTX is compressed: nvcc must be told -no-compress";
    expect_fat(PTX_AT + 16, 9, 4, packed);
    expect_fat(PTX_AT + 40, 0x8011, 8, packed);
}

int main(int argc, char **argv)
{
    real_path = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_of_an_entry_is_read),
        cmocka_unit_test(operands_are_read),
        cmocka_unit_test(scopes_labels_and_lines_are_kept),
        cmocka_unit_test(entries_do_not_share_names),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(every_beginning_of_a_real_text_ends),
        cmocka_unit_test(damaged_texts_end),
        cmocka_unit_test(fat_binaries_are_searched_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
