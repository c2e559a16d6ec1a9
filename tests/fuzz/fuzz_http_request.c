/* Request heads of the HTTP server: no byte read or written out of place, and only answers that the server
 * knows. */
#include "net/httpd_request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(int status, const struct tm_httpd_request *r, const char *bytes, size_t len)
{
    static const int known[] = {0, 200, 400, 405, 413, 414, 431, 505};
    size_t i = 0;
    while (i < sizeof known / sizeof known[0] && known[i] != status)
        i++;
    if (i == sizeof known / sizeof known[0])
        abort();
    if (status != 200)
        return;
    if (r->size > len || r->size > TM_HTTPD_HEAD_MAX || r->path[0] != '/' || r->path < bytes ||
        r->query + strlen(r->query) > bytes + r->size || strlen(r->path) > TM_HTTPD_TARGET_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = malloc(size + 1), *again = malloc(size + 1); /* exact size: the sanitizer guards the end */
    struct tm_httpd_request first, second;
    if (size)
        memcpy(bytes, data, size);
    bytes = realloc(bytes, size ? size : 1);
    int status = tm_httpd_request_parse(bytes, size, &first);
    check(status, &first, bytes, size);
    if (status == 200) { /* the head alone is answered as the head with something behind it */
        memcpy(again, data, first.size);
        if (tm_httpd_request_parse(again, first.size, &second) != 200 || strcmp(first.path, second.path) ||
            first.keep_alive != second.keep_alive)
            abort();
    }
    free(again);
    free(bytes);
    return 0;
}
