#include "control/granting.h"

#include "script/grant.h"

#include <stdlib.h>
#include <string.h>

#define OPTION "--grant"

int tm_granting_take(int *argc, char **argv, struct tm_error *err)
{
    const char *text = NULL;
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        size_t len = strlen(OPTION);
        bool separate = strcmp(argv[i], OPTION) == 0;
        if (!separate && strncmp(argv[i], OPTION "=", len + 1) != 0) {
            argv[kept++] = argv[i];
            continue;
        }
        text = separate ? (i + 1 < *argc ? argv[++i] : "") : argv[i] + len + 1;
        if (!*text)
            return tm_error_set(err, TM_EINVAL, "--grant: expected libraries like io,os");
    }
    *argc = kept;
    argv[kept] = NULL;
    if (!text)
        text = getenv("TIDEMILL_GRANT");
    uint32_t grants;
    int rc = tm_grant_parse(text ? text : "", &grants, err);
    if (!rc)
        tm_grants_set(grants);
    return rc;
}
