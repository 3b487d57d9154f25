#include "runtime/image/hint_canny.h"

#include "runtime/base/arena.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* tan(22.5 degrees) in 15 bits behind the point; tan(67.5) is that and 2. */
enum { DIRECTION_BITS = 15, TAN_22 = 13573 };

/* What is known of a pixel. */
enum { NOTHING = 0, MAYBE = 1, EDGE = 2 };

struct slope {
    int16_t dx, dy;
};

struct canny {
    const uint8_t *rgb;
    int32_t height, width;
    int32_t low, high;
    /* Slopes of a colour row before they are smoothed along it; a pixel more at either end. */
    int16_t *smooth, *step; /* [width + 2, 3] */
    /* The row that is judged with those above and below it; a zero more at either end. */
    int32_t *size[3];      /* |dx| + |dy|: [width + 2] */
    struct slope *turn[3]; /* [width] */
    uint8_t *map;          /* [height + 2, width + 2], NOTHING around the picture */
    uint32_t *stack;       /* places in the map of edges whose neighbours are still to see */
    size_t stack_count;    /* at most height * width: each place comes once */
};

/* ---- Slopes ---------------------------------------------------------------------------------- */

static const uint8_t *row_of(const struct canny *canny, int32_t y)
{
    const int32_t at = y < 0 ? 0 : y >= canny->height ? canny->height - 1 : y;
    return canny->rgb + (size_t)at * (size_t)canny->width * 3;
}

/* Sobel's columns: smoothed down for dx, the difference down for dy. */
static void slope_down(struct canny *canny, int32_t y)
{
    const uint8_t *above = row_of(canny, y - 1);
    const uint8_t *here = row_of(canny, y);
    const uint8_t *below = row_of(canny, y + 1);
    const size_t count = (size_t)canny->width * 3;
    int16_t *smooth = canny->smooth + 3;
    int16_t *step = canny->step + 3;
    for (size_t i = 0; i < count; i++) {
        smooth[i] = (int16_t)(above[i] + 2 * here[i] + below[i]);
        step[i] = (int16_t)(below[i] - above[i]);
    }
    for (size_t c = 0; c < 3; c++) {
        canny->smooth[c] = smooth[c];
        canny->step[c] = step[c];
        smooth[count + c] = smooth[count - 3 + c];
        step[count + c] = step[count - 3 + c];
    }
}

/* Row `y` of sizes and turns; a row outside the picture has the size 0. */
static void slope_row(struct canny *canny, int32_t y, int32_t *size, struct slope *turn)
{
    if (y < 0 || y >= canny->height) {
        memset(size, 0, ((size_t)canny->width + 2) * sizeof *size);
        return;
    }
    slope_down(canny, y);
    for (int32_t x = 0; x < canny->width; x++) {
        const int16_t *smooth = canny->smooth + 3 * (size_t)x; /* of the pixel before */
        const int16_t *step = canny->step + 3 * (size_t)x;
        int32_t most = -1, dx = 0, dy = 0;
        for (int c = 0; c < 3; c++) {
            const int32_t across = smooth[c + 6] - smooth[c];
            const int32_t down = step[c] + 2 * step[c + 3] + step[c + 6];
            const int32_t sum = abs(across) + abs(down);
            /* Choices, not branches: which colour is the steepest nobody can foretell. */
            const bool more = sum > most;
            dx = more ? across : dx;
            dy = more ? down : dy;
            most = more ? sum : most;
        }
        turn[x] = (struct slope){(int16_t)dx, (int16_t)dy};
        size[x + 1] = most;
    }
}

/* ---- Maxima ---------------------------------------------------------------------------------- */

/* Is the middle row's pixel `x` larger than its two neighbours across the edge? Of equal ones along
 * a row or a column the first is; of equal ones aslant none. */
static bool is_maximum(const struct canny *canny, int32_t x)
{
    const int32_t *above = canny->size[0] + 1 + x;
    const int32_t *here = canny->size[1] + 1 + x;
    const int32_t *below = canny->size[2] + 1 + x;
    const struct slope turn = canny->turn[1][x];
    const int32_t wide = abs(turn.dx);
    const int32_t tall = abs(turn.dy) << DIRECTION_BITS;
    const int32_t flat = wide * TAN_22;
    if (tall < flat)
        return *here > here[-1] && *here >= here[1];
    if (tall > flat + (wide << (DIRECTION_BITS + 1)))
        return *here > *above && *here >= *below;
    const int32_t lean = (turn.dx ^ turn.dy) < 0 ? -1 : 1;
    return *here > above[-lean] && *here > below[lean];
}

static void push(struct canny *canny, size_t place)
{
    canny->map[place] = EDGE;
    canny->stack[canny->stack_count++] = (uint32_t)place;
}

static void judge_row(struct canny *canny, int32_t y)
{
    const size_t first = ((size_t)y + 1) * ((size_t)canny->width + 2) + 1;
    for (int32_t x = 0; x < canny->width; x++) {
        const int32_t size = canny->size[1][x + 1];
        if (size <= canny->low || !is_maximum(canny, x))
            continue;
        if (size > canny->high)
            push(canny, first + (size_t)x);
        else
            canny->map[first + (size_t)x] = MAYBE;
    }
}

/* The three rows move one down: the lowest is made anew in the memory of the highest. */
static void turn_rows(struct canny *canny, int32_t lowest)
{
    int32_t *size = canny->size[0];
    struct slope *turn = canny->turn[0];
    for (int i = 0; i < 2; i++) {
        canny->size[i] = canny->size[i + 1];
        canny->turn[i] = canny->turn[i + 1];
    }
    canny->size[2] = size;
    canny->turn[2] = turn;
    slope_row(canny, lowest, size, turn);
}

/* ---- Joining --------------------------------------------------------------------------------- */

/* Whatever may be an edge and touches one is one. */
static void join(struct canny *canny)
{
    const size_t stride = (size_t)canny->width + 2;
    while (canny->stack_count > 0) {
        const size_t place = canny->stack[--canny->stack_count];
        for (size_t y = 0; y < 3; y++) {
            const size_t left = place + y * stride - stride - 1;
            for (size_t i = left; i < left + 3; i++)
                if (canny->map[i] == MAYBE)
                    push(canny, i);
        }
    }
}

/* ---- Picture --------------------------------------------------------------------------------- */

static bool reserve(struct canny *canny, int32_t *sizes, struct slope *turns, int16_t *sobel)
{
    const size_t width = (size_t)canny->width + 2;
    canny->map = ld_heap_calloc(width, (size_t)canny->height + 2);
    canny->stack = ld_heap_calloc((size_t)canny->width * (size_t)canny->height, sizeof(uint32_t));
    if (!sizes || !turns || !sobel || !canny->map || !canny->stack)
        return false;
    for (size_t i = 0; i < 3; i++) {
        canny->size[i] = sizes + i * width;
        canny->turn[i] = turns + i * width;
    }
    canny->smooth = sobel;
    canny->step = sobel + 3 * width;
    return true;
}

static void find_edges(struct canny *canny, float *edges)
{
    const size_t width = (size_t)canny->width;
    slope_row(canny, 0, canny->size[2], canny->turn[2]);
    for (int32_t y = 0; y < canny->height; y++) {
        turn_rows(canny, y + 1);
        judge_row(canny, y);
    }
    join(canny);
    for (size_t y = 0; y < (size_t)canny->height; y++)
        for (size_t x = 0; x < width; x++)
            edges[y * width + x] = canny->map[(y + 1) * (width + 2) + x + 1] == EDGE ? 1.0F : 0.0F;
}

enum ld_code ld_hint_canny(float *edges, const uint8_t *rgb, int32_t height, int32_t width,
                           double low, double high, struct ld_error *err)
{
    struct canny canny = {.rgb = rgb,
                          .height = height,
                          .width = width,
                          .low = (int32_t)floor(fmin(low, high)),
                          .high = (int32_t)floor(fmax(low, high))};
    const size_t places = 3 * ((size_t)width + 2);
    int32_t *sizes = ld_heap_calloc(places, sizeof *sizes);
    struct slope *turns = ld_heap_calloc(places, sizeof *turns);
    int16_t *sobel = ld_heap_calloc(2 * places, sizeof *sobel);
    enum ld_code code = LD_OK;
    if (reserve(&canny, sizes, turns, sobel))
        find_edges(&canny, edges);
    else
        code = LD_FAIL(err, LD_E_NOMEM, "no memory to find the edges of the image");
    ld_heap_free(canny.stack);
    ld_heap_free(canny.map);
    ld_heap_free(sobel);
    ld_heap_free(turns);
    ld_heap_free(sizes);
    return code;
}
