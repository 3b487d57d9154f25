/*
 * Cleaning of a text before it is cut into words, in the four profiles of the programs whose token
 * ids we match (model.md 3.2).
 */
#ifndef LD_TEXT_CLEAN_H
#define LD_TEXT_CLEAN_H

#include "runtime/text/list.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ld_clean {
    LD_CLEAN_COMFY,  /* slow tokenizer without text repair: the default */
    LD_CLEAN_FAST,   /* fast tokenizer */
    LD_CLEAN_WEBUI,  /* text repair, then lower case */
    LD_CLEAN_OPENAI, /* text repair, HTML references twice, then lower case */
    LD_CLEAN_COUNT
};

/*
 * Append the cleaned, lower-case form of `text` to `out`. Time is linear in the text (the repair
 * of webui and openai repeats at most 32 times).
 * Errors   none returned; out->failed when it grew beyond its ceiling.
 */
void ld_clean(enum ld_clean profile, struct ld_span text, struct ld_list *out);

#ifdef __cplusplus
}
#endif
#endif
