/* The contract as part of the program. */
#include "api/respond.h"
#include "config/embedded.h"

struct ld_span ld_openapi_document(void)
{
    LD_ASSERT(ld_embedded_openapi_count == 1);
    return ld_span_of(ld_embedded_openapi[0].data, ld_embedded_openapi[0].size);
}
