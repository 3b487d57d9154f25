#include "tests/golden_check/gc.h"

const struct gc_kind gc_kinds_noise[] = {{NULL, NULL}};
