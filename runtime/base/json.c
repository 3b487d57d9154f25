#include "runtime/base/json.h"
