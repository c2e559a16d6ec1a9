/*
 * An archive's target from the command line, for process tests: what the daemons do with core/archive/target.h, one
 * operation a run.
 *
 *     target-tool [OPTION=VALUE ...] URL put KEY         the object is stdin; prints its size and SHA-256
 *     target-tool ... URL put-all KEY...                 stdin under each key; a line for each as soon as it is there
 *     target-tool ... URL get KEY | head KEY | read-at KEY OFFSET LENGTH | verify KEY SIZE SHA256
 *     target-tool ... URL list [PREFIX [AFTER]]          a line for each: size, ETag (or -), key
 *     target-tool ... URL sweep SECONDS                  prints how many it removed
 *
 * Options: credentials=SPEC part=BYTES timeout_ms=N tries=N pause_ms=N read_only=1 stats=1 (a last line of figures).
 * SIGTERM sets the flag that ends a call. Exit status 1 with "CODE: message" on stderr, CODE by tm_code_name.
 */
#include "archive/target.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_bool stop;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

static bool take_option(const char *argument, struct tm_target_options *o, bool *stats)
{
    const char *value = strchr(argument, '=');
    size_t len = value ? (size_t)(value - argument) : 0;
    long long number = value ? atoll(value + 1) : 0;
    if (!value || strstr(argument, "://"))
        return false;
    if (!strncmp(argument, "credentials", len))
        o->credentials = value + 1;
    else if (!strncmp(argument, "part", len))
        o->part_bytes = (size_t)number;
    else if (!strncmp(argument, "timeout_ms", len))
        o->timeout_us = number * TM_US_PER_MS;
    else if (!strncmp(argument, "tries", len))
        o->tries = (unsigned)number;
    else if (!strncmp(argument, "pause_ms", len))
        o->pause_us = number * TM_US_PER_MS;
    else if (!strncmp(argument, "read_only", len))
        o->read_only = number;
    else if (!strncmp(argument, "stats", len))
        *stats = number;
    else
        return false;
    return true;
}

static void print_hash(const struct tm_put_result *r)
{
    printf("%llu ", (unsigned long long)r->size);
    for (size_t i = 0; i < sizeof r->sha256; i++)
        printf("%02x", r->sha256[i]);
    printf("\n");
}

static int put(struct tm_target *t, const char *key, struct tm_error *err)
{
    static char bytes[1 << 20];
    struct tm_put *p;
    struct tm_put_result result;
    ssize_t n = 0;
    int rc = tm_put_begin(t, key, &p, err);
    if (rc)
        return rc;
    while (!rc && ((n = read(STDIN_FILENO, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)))
        rc = n > 0 ? tm_put_append(p, bytes, (size_t)n, err) : TM_OK;
    if (rc) {
        tm_put_abort(p);
        return rc;
    }
    rc = tm_put_finish(p, &result, err);
    if (!rc)
        print_hash(&result);
    return rc;
}

static int put_all(struct tm_target *t, int count, char **keys, struct tm_error *err)
{
    struct tm_buf body = {0};
    struct tm_put_result result;
    ssize_t n = 1;
    int rc = TM_OK;
    while (!rc && n > 0 && !(rc = tm_buf_reserve(&body, 65536)) &&
           (n = read(STDIN_FILENO, body.data + body.len, 65536)) > 0)
        body.len += (size_t)n;
    for (int i = 0; !rc && i < count; i++) {
        rc = tm_target_put(t, keys[i], body.data, body.len, &result, err);
        if (!rc)
            print_hash(&result);
        fflush(stdout);
    }
    tm_buf_fini(&body);
    return rc;
}

static int get(struct tm_target *t, const char *key, struct tm_error *err)
{
    struct tm_buf body = {0};
    int rc = tm_target_read(t, key, (size_t)1 << 30, &body, err);
    if (!rc && fwrite(body.data, 1, body.len, stdout) != body.len)
        rc = tm_error_set(err, TM_EIO, "stdout");
    tm_buf_fini(&body);
    return rc;
}

static int head(struct tm_target *t, const char *key, struct tm_error *err)
{
    struct tm_object o;
    int rc = tm_target_head(t, key, &o, err);
    if (!rc)
        printf("%llu %s %lld\n", (unsigned long long)o.size, o.etag[0] ? o.etag : "-", (long long)o.modified_us);
    return rc;
}

static int read_at(struct tm_target *t, const char *key, const char *offset, const char *length, struct tm_error *err)
{
    size_t len = strtoull(length, NULL, 10);
    char *to = malloc(len + 1);
    int rc = tm_target_read_at(t, key, strtoull(offset, NULL, 10), to, len, err);
    if (!rc)
        fwrite(to, 1, len, stdout);
    free(to);
    return rc;
}

static int verify(struct tm_target *t, const char *key, const char *size, const char *hash, struct tm_error *err)
{
    struct tm_put_result expected = {.size = strtoull(size, NULL, 10)};
    for (size_t i = 0; i < sizeof expected.sha256; i++) {
        char digits[] = {hash[2 * i], hash[2 * i + 1], 0};
        expected.sha256[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return tm_target_verify(t, key, &expected, err);
}

static int each(void *arg, const char *key, const struct tm_object *o)
{
    (void)arg;
    printf("%llu %s %s\n", (unsigned long long)o->size, o->etag[0] ? o->etag : "-", key);
    return 0;
}

static int sweep(struct tm_target *t, const char *seconds, struct tm_error *err)
{
    size_t removed;
    int rc = tm_target_sweep(t, atoll(seconds) * TM_US_PER_S, &removed, err);
    if (!rc)
        printf("%zu\n", removed);
    return rc;
}

static int run(struct tm_target *t, int argc, char **argv, struct tm_error *err)
{
    const char *verb = argv[0];
    if (!strcmp(verb, "put") && argc == 2)
        return put(t, argv[1], err);
    if (!strcmp(verb, "put-all") && argc > 1)
        return put_all(t, argc - 1, argv + 1, err);
    if (!strcmp(verb, "get") && argc == 2)
        return get(t, argv[1], err);
    if (!strcmp(verb, "head") && argc == 2)
        return head(t, argv[1], err);
    if (!strcmp(verb, "read-at") && argc == 4)
        return read_at(t, argv[1], argv[2], argv[3], err);
    if (!strcmp(verb, "verify") && argc == 4 && strlen(argv[3]) == 64)
        return verify(t, argv[1], argv[2], argv[3], err);
    if (!strcmp(verb, "list") && argc <= 3)
        return tm_target_list(t, argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : NULL, each, NULL, err);
    if (!strcmp(verb, "sweep") && argc == 2)
        return sweep(t, argv[1], err);
    return tm_error_set(err, TM_EINVAL, "usage: see tests/tools/target_tool.c");
}

int main(int argc, char **argv)
{
    struct tm_target_options o = {.stop = &stop};
    struct tm_target *t = NULL;
    struct tm_error err = {0};
    bool stats = false;
    int i = 1;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    signal(SIGTERM, on_signal);
    while (i < argc && take_option(argv[i], &o, &stats))
        i++;
    if (argc - i < 2)
        return 2;
    o.url = argv[i];
    int rc = tm_target_open(&o, &t, &err);
    if (!rc)
        rc = run(t, argc - i - 1, argv + i + 1, &err);
    if (t && stats) {
        struct tm_target_stats s;
        tm_target_stats(t, &s);
        fprintf(stderr, "requests=%llu retries=%llu sent=%llu received=%llu\n", (unsigned long long)s.requests,
                (unsigned long long)s.retries, (unsigned long long)s.bytes_sent, (unsigned long long)s.bytes_received);
    }
    tm_target_close(t);
    if (rc)
        fprintf(stderr, "%s: %s\n", tm_code_name(rc), err.message);
    return rc != 0;
}
