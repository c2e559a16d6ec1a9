/* Writing JSON, for what the process says of itself. */
#ifndef TM_BASE_JSON_H
#define TM_BASE_JSON_H

#include "base/buf.h"

/* Append `text` as a JSON string (NULL: an empty one); what is not printable ASCII is escaped byte by byte. */
int tm_json_put_string(struct tm_buf *out, const char *text) TM_MUST_CHECK;

/* Appends until the first failure, which is kept: so a long document is written without a check after each piece. */
struct tm_json {
    struct tm_buf *out;
    int rc;
};

void tm_json_add(struct tm_json *j, const char *fmt, ...) TM_PRINTF(2, 3);
void tm_json_add_string(struct tm_json *j, const char *name, const char *value); /* "name":"value", no comma */

#endif
