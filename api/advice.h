/*
 * A manifest as clients see it: what the model wants where a request says nothing, its prompt
 * presets, and the samplers and schedulers that it is known to do well with.
 */
#ifndef LD_API_ADVICE_H
#define LD_API_ADVICE_H

#include "config/manifest.h"
#include "runtime/base/buffer.h"

/* {"defaults":{field: value},"quality":[{"name","text","position","default"}],
 *  "undesired":[{"name","text"}],"samplers":[name],"schedulers":[name]}; best first. */
void ld_respond_advice(const struct ld_manifest *manifest, struct ld_buffer *out);

#endif
