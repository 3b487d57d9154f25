#include "runtime/text/emphasis.h"

#include <math.h>

static const double mean_floor = 1e-12; /* model.md 4.3 */

enum ld_emphasis_rule ld_emphasis_rule_of(enum ld_syntax syntax, enum ld_emphasis emphasis)
{
    switch (syntax) {
    case LD_SYNTAX_COMFY:
    case LD_SYNTAX_NOVELAI:
        return LD_EMPHASIS_RULE_LERP;
    case LD_SYNTAX_PLAIN:
        return LD_EMPHASIS_RULE_NONE;
    case LD_SYNTAX_A1111:
        break;
    }
    if (emphasis == LD_EMPHASIS_ORIGINAL)
        return LD_EMPHASIS_RULE_ORIGINAL;
    return emphasis == LD_EMPHASIS_NO_NORM ? LD_EMPHASIS_RULE_SCALE : LD_EMPHASIS_RULE_NONE;
}

static void lerp_token(float *z, const float *empty, double weight, size_t width)
{
    for (size_t i = 0; i < width; i++)
        z[i] = (float)((double)empty[i] + weight * ((double)z[i] - (double)empty[i]));
}

static void scale_all(float *z, const double *weights, size_t tokens, size_t width,
                      bool restore_mean)
{
    double before = 0;
    double after = 0;
    for (size_t t = 0; t < tokens; t++) {
        double row = 0;
        for (size_t i = 0; i < width; i++)
            row += (double)z[t * width + i];
        before += row;
        after += weights[t] * row;
    }
    const double count = (double)tokens * (double)width;
    const double factor = restore_mean && fabs(after / count) >= mean_floor ? before / after : 1.0;
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 0; i < width; i++)
            z[t * width + i] = (float)((double)z[t * width + i] * weights[t] * factor);
}

void ld_emphasis_apply(enum ld_emphasis_rule rule, float *z, const float *empty,
                       const double *weights, size_t tokens, size_t width)
{
    bool weighted = false;
    for (size_t t = 0; t < tokens; t++)
        weighted = weighted || weights[t] != 1.0;
    if (!weighted || rule == LD_EMPHASIS_RULE_NONE || width == 0)
        return;
    if (rule != LD_EMPHASIS_RULE_LERP) {
        scale_all(z, weights, tokens, width, rule == LD_EMPHASIS_RULE_ORIGINAL);
        return;
    }
    LD_ASSERT(empty != NULL);
    for (size_t t = 0; t < tokens; t++)
        if (weights[t] != 1.0)
            lerp_token(z + t * width, empty + t * width, weights[t], width);
}
