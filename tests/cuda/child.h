/*
 * Runs this program again with one argument and reads what it says. For tests of what ends a
 * process.
 */
#ifndef LD_TESTS_CUDA_CHILD_H
#define LD_TESTS_CUDA_CHILD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exit status under any sanitizer that found something, as set for the child. */
enum { HC_SANITIZER_STATUS = 91 };

/*
 * `output` receives the beginning of stdout and stderr together, ended by a zero. Returns the exit
 * status, 128 + signal, or -1 when there was no child or it took longer than `seconds`. With
 * `lines` a sanitizer looks up source lines, which costs it a second.
 */
int hc_child(const char *argument, char *output, size_t bytes, int seconds, int lines);

#ifdef __cplusplus
}
#endif
#endif
