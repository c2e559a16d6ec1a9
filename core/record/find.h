/* Finding one value in a whole JSON document by its path; for documents, not for the hot path. */
#ifndef TM_RECORD_FIND_H
#define TM_RECORD_FIND_H

#include "record/decode.h"
#include "record/scanner.h"

/*
 * The value at `path` ("" for the document itself) of a document, which is checked whole. A name that comes twice in an
 * object means the last. TM_EPARSE: not JSON. TM_ENOENT: nothing there. TM_EINVAL: the path is not one.
 */
int tm_json_find(struct tm_span document, const char *path, struct tm_value *out, struct tm_error *err) TM_MUST_CHECK;

#endif
