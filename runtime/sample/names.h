/*
 * Looking a name up among aliases; both registries (samplers, schedulers) use it.
 */
#ifndef LD_SAMPLE_NAMES_H
#define LD_SAMPLE_NAMES_H

#include <stdbool.h>

/* Is `name` one of the comma-separated entries of `list`? ASCII case does not matter; an empty name
 * or one with a comma is in no list. */
bool ld_name_in_list(const char *list, const char *name);

#endif
