/*
 * Advice on the order of tags: models trained on tag lists saw them in a fixed order, and follow it
 * best. Never more than advice.
 */
#ifndef LD_API_TAG_ORDER_H
#define LD_API_TAG_ORDER_H

#include "api/resolve.h"

/* Reads the prompt before presets are placed; at most one warning of each kind. Says nothing for a
 * model without quality presets: it was not trained on tags as far as is known. */
void ld_tag_order_advise(const char *prompt, const struct ld_manifest *manifest,
                         struct ld_warnings *warnings);

/* "1girl", "2boys", "6+girls", "multiple girls", "no humans": how many there are. */
bool ld_tag_is_count(const char *tag);

#endif
