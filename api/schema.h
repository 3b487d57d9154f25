/*
 * What the table of fields says, for readers of documents: the schema of a request in OpenAPI 3.1
 * (JSON Schema 2020-12), the page of the manual, the dictionary of the fuzzer. A tool writes them
 * into the tree and a test sees that they are in step.
 */
#ifndef LD_API_SCHEMA_H
#define LD_API_SCHEMA_H

#include "runtime/base/buffer.h"

/* The schema object of components/schemas/Request. */
void ld_schema_write_request(struct ld_buffer *out);
/* docs/fields.md */
void ld_schema_write_docs(struct ld_buffer *out);
/* One quoted token a line, as libFuzzer and AFL++ read it. */
void ld_schema_write_dictionary(struct ld_buffer *out);

#endif
