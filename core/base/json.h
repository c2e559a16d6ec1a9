/* Writing JSON, for what the process says of itself. */
#ifndef TM_BASE_JSON_H
#define TM_BASE_JSON_H

#include "base/buf.h"

/* Append `text` as a JSON string (NULL: an empty one); what is not printable ASCII is escaped byte by byte. */
int tm_json_put_string(struct tm_buf *out, const char *text) TM_MUST_CHECK;

#endif
