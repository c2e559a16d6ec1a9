#include "control/remote.h"
#include "control/client.h"
#include "control/offline.h"

#include "record/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELOAD_TIMEOUT_US INT64_C(30000000)
#define LOOK_AHEAD 16 /* the scanner's */

void tm_remote_print_string(FILE *to, struct tm_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned byte;
        if (s.at[i] == '"' && (i == 0 || i + 1 == s.len))
            continue;
        if (s.at[i] != '\\' || i + 1 >= s.len) {
            fputc(s.at[i], to);
        } else if (s.at[i + 1] == 'u' && i + 5 < s.len && sscanf(s.at + i + 2, "%4x", &byte) == 1) {
            fputc((int)byte & 0xff, to);
            i += 5;
        } else {
            fputc(s.at[++i], to);
        }
    }
}

static bool get(struct tm_span document, const char *path, struct tm_span *out)
{
    return tm_json_get(document, path, out) == TM_OK;
}

static bool get_numbered(struct tm_span document, const char *format, int number, struct tm_span *out)
{
    char path[64];
    (void)snprintf(path, sizeof path, "%s[%d]", format, number);
    return get(document, path, out);
}

static int print_success(struct tm_span document)
{
    struct tm_span generation = {"?", 1}, duration = {"?", 1}, line;
    (void)get(document, "result.generation", &generation);
    (void)get(document, "result.duration_ms", &duration);
    printf("reloaded in %.*s ms: generation %.*s\n", (int)duration.len, duration.at, (int)generation.len,
           generation.at);
    int count = 0;
    while (get_numbered(document, "result.changed", count, &line)) {
        fputs("  ", stdout);
        tm_remote_print_string(stdout, line);
        fputc('\n', stdout);
        count++;
    }
    if (!count)
        puts("  nothing changed");
    return 0;
}

static int print_failure(struct tm_span document)
{
    struct tm_span problem, part;
    int count = 0;
    while (get_numbered(document, "problems", count, &problem)) {
        if (get(problem, "at", &part))
            tm_remote_print_string(stderr, part);
        fputs(": ", stderr);
        if (get(problem, "message", &part))
            tm_remote_print_string(stderr, part);
        fputc('\n', stderr);
        count++;
    }
    if (count)
        return TM_EXIT_CONFIG;
    fputs("tidemill reload: ", stderr);
    tm_remote_print_string(stderr, get(document, "error", &part) ? part : document);
    fputc('\n', stderr);
    return 1;
}

static int print_answer(struct tm_buf *answer, bool json)
{
    struct tm_span ok, problems;
    size_t len = answer->len;
    if (tm_buf_reserve(answer, LOOK_AHEAD) < 0)
        return 1;
    memset(answer->data + len, 0, LOOK_AHEAD);
    struct tm_span document = {(const char *)answer->data, len};
    bool good = get(document, "ok", &ok) && ok.len == 4 && !memcmp(ok.at, "true", 4);
    if (!json)
        return good ? print_success(document) : print_failure(document);
    printf("%.*s\n", (int)len, document.at);
    return good ? 0 : get(document, "problems", &problems) ? TM_EXIT_CONFIG : 1;
}

int tm_remote_reload(const char *socket_path, bool json)
{
    struct tm_buf answer = {0};
    struct tm_error err;
    int rc = tm_client_ask(socket_path, "reload", RELOAD_TIMEOUT_US, &answer, &err);
    if (rc)
        fprintf(stderr, "tidemill reload: %s\n", err.message);
    rc = rc ? 1 : print_answer(&answer, json);
    tm_buf_fini(&answer);
    return rc;
}
