/*
 * Proves of the tiles of 256 rows what test_matmul_conv.c and test_matmul_linear.c prove of the
 * others, and that they can take the place of tiles half as tall: the same outputs and the same
 * moments, bit for bit, whether their second half is full, short or not there at all.
 */
#include "matmul_fixture.h"

#define SAME .kernel = 3, .stride = 1, .pad_before = 1, .pad_after = 1

static const struct matmul_case cases[] = {
    {.name = "3x3, a short second half, two n tiles",
     .variant = "256x160",
     .kin = true,
     .batch = 2,
     .in_h = 11,
     .in_w = 13,
     .c0 = 32,
     .rows = 168,
     .residual = true,
     .row_add = ROW_ADD_F32,
     .moments = true,
     SAME},
    {.name = "3x3, two m tiles, the last one has no second half",
     .variant = "256x128",
     .kin = true,
     .batch = 1,
     .in_h = 16,
     .in_w = 17,
     .c0 = 32,
     .c1 = 32,
     .rows = 40,
     .moments = true,
     SAME},
    {.name = "3x3, stride 2",
     .variant = "256x160",
     .batch = 1,
     .in_h = 9,
     .in_w = 12,
     .c0 = 64,
     .rows = 24,
     .moments = true,
     .kernel = 3,
     .stride = 2,
     .pad_before = 0,
     .pad_after = 1},
    {.name = "up by two, phases",
     .variant = "256x160",
     .kin = true,
     .batch = 1,
     .in_h = 10,
     .in_w = 13,
     .c0 = 32,
     .rows = 24,
     .up_h = 20,
     .up_w = 26,
     .phase = true,
     .moments = true,
     .residual = true,
     SAME},
    {.name = "1x1, one slice",
     .variant = "256x160",
     .batch = 3,
     .in_h = 2,
     .in_w = 3,
     .c0 = 32,
     .rows = 8,
     .kernel = 1,
     .stride = 1},
    {.name = "geglu",
     .variant = "256x160",
     .kin = true,
     .batch = 1,
     .tokens = 150,
     .c0 = 96,
     .rows = 176,
     .activation = LDK_ACT_GEGLU,
     .residual = true,
     .moments = true},
    {.name = "geglu",
     .variant = "256x128",
     .batch = 2,
     .tokens = 77,
     .c0 = 32,
     .rows = 144,
     .activation = LDK_ACT_GEGLU},
    {.name = "silu, two sources",
     .variant = "256x160",
     .batch = 1,
     .tokens = 259,
     .c0 = 64,
     .c1 = 32,
     .rows = 40,
     .activation = LDK_ACT_SILU,
     .residual = true,
     .moments = true},
    {.name = "quick gelu, exactly half a tile",
     .variant = "256x128",
     .kin = true,
     .batch = 1,
     .tokens = 128,
     .c0 = 64,
     .rows = 136,
     .activation = LDK_ACT_QUICK_GELU,
     .moments = true},
};

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct matmul_case c = cases[i];
        c.dtype = i % 2 == 0 ? LDK_F16 : LDK_BF16;
        matmul_check(&c);
        if (c.kin && i > 0)
            continue; /* the type changes the last conversion only */
        c.dtype = i % 2 == 0 ? LDK_BF16 : LDK_F16;
        matmul_check(&c);
    }
    return hc_report();
}
