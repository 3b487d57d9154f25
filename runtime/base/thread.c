#include "runtime/base/thread.h"
