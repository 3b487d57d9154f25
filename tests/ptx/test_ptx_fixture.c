#include "tests/ptx/test_ptx_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GAP_WORDS = 1024 };

static const char *const HEAD = ".version 9.0\n"
                                ".target sm_80\n"
                                ".address_size 64\n"
                                ".entry k(.param .u64 k_out, .param .u64 k_in)\n"
                                "{\n"
                                ".reg .pred %p<16>;\n"
                                ".reg .b16 %rs<16>;\n"
                                ".reg .b32 %r<64>;\n"
                                ".reg .f32 %f<64>;\n"
                                ".reg .b64 %rd<32>;\n"
                                ".shared .align 16 .b8 s[4096];\n"
                                "ld.param.u64 %rd0, [k_out];\n"
                                "ld.param.u64 %rd1, [k_in];\n"
                                "mov.u32 %r0, %tid.x;\n"
                                "mov.u32 %r1, %ctaid.x;\n"
                                "mov.u32 %r2, %ntid.x;\n"
                                "mad.lo.s32 %r2, %r1, %r2, %r0;\n"
                                "mov.u32 %r3, s;\n"
                                "shl.b32 %r4, %r0, 2;\n"
                                "add.s32 %r4, %r3, %r4;\n"
                                "mul.wide.u32 %rd3, %r2, 4;\n"
                                "add.s64 %rd2, %rd0, %rd3;\n"
                                "add.s64 %rd3, %rd1, %rd3;\n";

void fixture_start(struct fixture *f, uint32_t blocks, uint32_t threads)
{
    *f = (struct fixture){.blocks = blocks, .threads = threads};
    f->memory = aligned_alloc(64, (2 * FIXTURE_WORDS + 3 * GAP_WORDS) * sizeof *f->memory);
    assert_non_null(f->memory);
    f->in = f->memory + GAP_WORDS;
    f->out = f->in + FIXTURE_WORDS + GAP_WORDS;
    for (uint32_t i = 0; i < FIXTURE_WORDS; i++)
        f->in[i] = i * 2654435761u;
    ptx_memory_add(f->in, FIXTURE_WORDS * sizeof *f->in);
    ptx_memory_add(f->out, FIXTURE_WORDS * sizeof *f->out);
}

void fixture_end(struct fixture *f)
{
    ptx_memory_remove(f->in);
    ptx_memory_remove(f->out);
    free(f->memory);
}

bool fixture_run(struct fixture *f, const char *body)
{
    char text[32768];
    const int length = snprintf(text, sizeof text, "%s%s\n}\n", HEAD, body);
    assert_true(length > 0 && (size_t)length < sizeof text);
    memset(f->out, 0xff, FIXTURE_WORDS * sizeof *f->out);
    struct ptx_module *module = ptx_load(text, (size_t)length, &f->why);
    if (module == NULL)
        return false;
    const uint64_t params[2] = {(uint64_t)(uintptr_t)f->out, (uint64_t)(uintptr_t)f->in};
    const struct ptx_launch launch = {
        .kernel = ptx_find(module, "k"),
        .grid = {f->blocks, 1, 1},
        .block = {f->threads, 1, 1},
        .params = (const unsigned char *)params,
    };
    const bool ran = ptx_run(&launch, &f->why);
    ptx_unload(module);
    return ran;
}

void fixture_expect(const char *body, uint32_t blocks, uint32_t threads, const uint32_t *want,
                    uint32_t count)
{
    static const uint64_t orders[] = {0, 1, 2, 77, 123456789};
    struct fixture f;
    fixture_start(&f, blocks, threads);
    for (size_t o = 0; o < 2 * sizeof orders / sizeof orders[0]; o++) {
        ptx_options()->order = orders[o / 2];
        ptx_options()->races = o % 2 != 0;
        if (!fixture_run(&f, body))
            fail_msg("order %d: %s", (int)orders[o / 2], f.why.text);
        for (uint32_t i = 0; i < count; i++)
            if (f.out[i] != want[i])
                fail_msg("order %d: out[%u] is 0x%x, not 0x%x", (int)orders[o / 2], i, f.out[i],
                         want[i]);
    }
    ptx_options()->order = 0;
    ptx_options()->races = false;
    fixture_end(&f);
}

void fixture_refuse(const char *body, uint32_t blocks, uint32_t threads, const char *part,
                    const char *other_part)
{
    static const uint64_t orders[] = {0, 1, 77};
    struct fixture f;
    fixture_start(&f, blocks, threads);
    ptx_options()->races = true;
    for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
        ptx_options()->order = orders[o];
        if (fixture_run(&f, body))
            fail_msg("order %d: this ran: %s", (int)orders[o], body);
        if (strstr(f.why.text, part) == NULL || strstr(f.why.text, other_part) == NULL)
            fail_msg("order %d: not \"%s\", \"%s\": %s", (int)orders[o], part, other_part,
                     f.why.text);
    }
    ptx_options()->order = 0;
    ptx_options()->races = false;
    fixture_end(&f);
}
