/*
 * Leaving one stack for another. On x86-64 a dozen instructions, elsewhere swapcontext, which makes
 * a system call and is some twenty times slower.
 */
#ifndef LDK_HOST_SWITCH_H
#define LDK_HOST_SWITCH_H

#include <stddef.h>

/* Saves where this stack was left in *from and goes on where `to` was left. */
void ldk_stack_switch(void **from, void *to);

/* A stack of `bytes` at `low` on which the first switch calls entry(), which must not return.
 * Returns what ldk_stack_switch takes. */
void *ldk_stack_prepare(char *low, size_t bytes, void (*entry)(void));

#endif
