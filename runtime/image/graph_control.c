#include "runtime/image/graph_control.h"

#include <math.h>

/* ComfyUI's thresholds are shares of 255; NAN: the usual ones (hint.h). */
static double threshold(double given, double usual)
{
    return (isnan(given) ? usual : given) / 255;
}

static bool in_canny(double threshold)
{
    return threshold >= 0.01 && threshold <= 0.99;
}

static struct ld_graph_link put_canny(struct ld_graph_writer *w,
                                      const struct ld_request_control *unit,
                                      struct ld_graph_link image)
{
    const double low = threshold(unit->low, 100), high = threshold(unit->high, 200);
    const bool said = in_canny(low) && in_canny(high);
    const struct ld_graph_link node = ld_graph_open(w, "Canny");
    ld_graph_put_link(w, "image", image);
    ld_graph_put_number(w, "low_threshold", said ? low : 0.4);
    ld_graph_put_number(w, "high_threshold", said ? high : 0.8);
    ld_graph_close(w);
    return node;
}

static struct ld_graph_link put_inverse(struct ld_graph_writer *w, struct ld_graph_link image)
{
    const struct ld_graph_link node = ld_graph_open(w, "ImageInvert");
    ld_graph_put_link(w, "image", image);
    ld_graph_close(w);
    return node;
}

/* ComfyUI cuts a hint's middle, so a picture that is to be stretched gets the shape before. */
static struct ld_graph_link put_stretched(struct ld_graph_writer *w,
                                          const struct ld_request_control *unit,
                                          struct ld_graph_link image)
{
    const struct ld_request *r = w->request;
    const bool own = unit->passes == LD_CONTROL_SECOND && r->hires.width > 0 && r->hires.height > 0;
    const struct ld_graph_link node = ld_graph_open(w, "ImageScale");
    ld_graph_put_link(w, "image", image);
    ld_graph_put_text(w, "upscale_method", "lanczos");
    ld_graph_put_whole(w, "width", own ? r->hires.width : r->width);
    ld_graph_put_whole(w, "height", own ? r->hires.height : r->height);
    ld_graph_put_text(w, "crop", "disabled");
    ld_graph_close(w);
    return node;
}

static struct ld_graph_link put_hint(struct ld_graph_writer *w,
                                     const struct ld_request_control *unit)
{
    struct ld_graph_link image = w->init;
    if (unit->image[0]) {
        image = ld_graph_open(w, "LoadImage");
        ld_graph_put_text(w, "image", unit->image);
        ld_graph_close(w);
        if (unit->resize == LD_FIT_STRETCH)
            image = put_stretched(w, unit, image);
    }
    if (unit->preprocess == LD_HINT_CANNY)
        image = put_canny(w, unit, image);
    else if (unit->preprocess == LD_HINT_INVERT)
        image = put_inverse(w, image);
    return image;
}

static void put_unit(struct ld_graph_writer *w, const struct ld_request_control *unit,
                     struct ld_graph_link *net, struct ld_graph_link *hint,
                     struct ld_graph_link *positive, struct ld_graph_link *negative)
{
    if (net->node == 0) {
        *net = ld_graph_open(w, "ControlNetLoader");
        ld_graph_put_file(w, "control_net_name", unit->model);
        ld_graph_close(w);
        *hint = put_hint(w, unit);
    }
    const struct ld_graph_link node = ld_graph_open(w, "ControlNetApplyAdvanced");
    ld_graph_put_link(w, "positive", *positive);
    ld_graph_put_link(w, "negative", *negative);
    ld_graph_put_link(w, "control_net", *net);
    ld_graph_put_link(w, "image", *hint);
    ld_graph_put_number(w, "strength", unit->weight);
    ld_graph_put_number(w, "start_percent", unit->start);
    ld_graph_put_number(w, "end_percent", unit->end);
    ld_graph_close(w);
    *positive = node;
    *negative = (struct ld_graph_link){node.node, 1};
}

void ld_graph_put_controls(struct ld_graph_writer *w, struct ld_graph_controls *controls,
                           bool second, struct ld_graph_link *positive,
                           struct ld_graph_link *negative)
{
    const struct ld_request *request = w->request;
    for (uint32_t i = 0; i < request->control_count; i++) {
        const struct ld_request_control *unit = &request->controls[i];
        if (unit->passes == (second ? LD_CONTROL_FIRST : LD_CONTROL_SECOND))
            continue;
        put_unit(w, unit, &controls->net[i], &controls->hint[i], positive, negative);
    }
}
