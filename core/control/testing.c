#include "control/testing.h"

#include "base/hash.h"
#include "script/test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATHS_MAX 10000
#define DEPTH_MAX 16

const struct tm_cli_option tm_testing_options[] = {
    {"--filter", "TEXT", "only tests with this text in their name"},
    {"--seed", "N", "of math.random; default: another one each time, printed when a test fails"},
    {"--tap", NULL, "print TAP (Test Anything Protocol, version 13)"},
    {"--junit", "FILE", "also write JUnit XML"},
    {0},
};

struct paths {
    char *list[PATHS_MAX];
    size_t count;
};

struct report {
    bool tap, colours;
    uint32_t seed;
    const char *path; /* of the file at hand */
    size_t passed, failed, file_failed, file_count;
    struct tm_buf junit, suite; /* suite: the test cases of the file at hand */
    int64_t suite_us;
    bool want_junit;
};

/* ---- which files ---- */

static void add_path(struct paths *p, const char *path)
{
    if (p->count == PATHS_MAX)
        return;
    p->list[p->count] = strdup(path);
    TM_FATAL_UNLESS(p->list[p->count]);
    p->count++;
}

static bool is_test_file(const char *name)
{
    size_t len = strlen(name);
    return len > 9 && strcmp(name + len - 9, "_test.lua") == 0;
}

static void add_directory(struct paths *p, const char *directory, int depth)
{
    DIR *dir = depth < DEPTH_MAX ? opendir(directory) : NULL;
    if (!dir)
        return;
    for (const struct dirent *e; (e = readdir(dir));) {
        struct tm_buf path = {0};
        struct stat st;
        if (e->d_name[0] == '.' || tm_buf_printf(&path, "%s/%s", directory, e->d_name) || !tm_buf_cstr(&path))
            continue;
        const char *text = (const char *)path.data;
        if (stat(text, &st) == 0 && S_ISDIR(st.st_mode))
            add_directory(p, text, depth + 1);
        else if (is_test_file(e->d_name))
            add_path(p, text);
        tm_buf_fini(&path);
    }
    closedir(dir);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_argument(struct paths *p, const char *path)
{
    struct stat st;
    size_t before = p->count, len = strlen(path);
    if (stat(path, &st) < 0) {
        fprintf(stderr, "tidemill test: %s: %s\n", path, strerror(errno));
        return TM_EXIT_FAILED;
    }
    if (!S_ISDIR(st.st_mode)) {
        add_path(p, path);
        return TM_EXIT_OK;
    }
    char *directory = strndup(path, len > 1 && path[len - 1] == '/' ? len - 1 : len);
    TM_FATAL_UNLESS(directory);
    add_directory(p, directory, 0);
    free(directory);
    qsort(p->list + before, p->count - before, sizeof *p->list, compare_paths);
    return TM_EXIT_OK;
}

/* ---- text and TAP ---- */

static const char *colour(const struct report *r, const char *code)
{
    return r->colours ? code : "";
}

/* Each line of the text with something in front. */
static void print_lines(const char *text, const char *before)
{
    for (const char *line = text; *line;) {
        int len = (int)strcspn(line, "\n");
        printf("%s%.*s\n", before, len, line);
        line += len + (line[len] == '\n');
    }
}

static void print_text(const struct report *r, const struct tm_test_result *result)
{
    if (!result->message) {
        printf("  %sok%s    %s\n", colour(r, "\033[32m"), colour(r, "\033[0m"), result->name);
        return;
    }
    printf("  %sFAIL%s  %s\n        %s\n", colour(r, "\033[1;31m"), colour(r, "\033[0m"), result->name, result->where);
    print_lines(result->message, "        ");
}

/* "#" begins a directive in a TAP line. */
static void print_tap(const struct report *r, const struct tm_test_result *result)
{
    printf("%s %zu - %s: ", result->message ? "not ok" : "ok", r->passed + r->failed, r->path);
    for (const char *c = result->name; *c; c++)
        printf(*c == '#' || *c == '\\' ? "\\%c" : *c == '\n' ? " " : "%c", *c);
    putchar('\n');
    if (!result->message)
        return;
    printf("  ---\n  at: \"%s\"\n  message: |\n", result->where);
    print_lines(result->message, "    ");
    printf("  ...\n");
}

/* ---- JUnit ---- */

/* XML 1.0 has no control characters but tab and line ends. */
static void put_xml(struct tm_buf *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&quot;"
                             : c == '\n' ? "&#10;"
                             : c < 0x20  ? "?"
                                         : NULL;
        int rc = entity ? tm_buf_append(out, entity, strlen(entity)) : tm_buf_append(out, text, 1);
        TM_FATAL_UNLESS(rc == TM_OK);
    }
}

#define PUT(...) TM_FATAL_UNLESS(tm_buf_printf(__VA_ARGS__) == TM_OK)

static void put_case(struct report *r, const struct tm_test_result *result)
{
    PUT(&r->suite, "    <testcase classname=\"");
    put_xml(&r->suite, r->path);
    PUT(&r->suite, "\" name=\"");
    put_xml(&r->suite, result->name);
    PUT(&r->suite, "\" time=\"%.6f\"", (double)result->cpu_us / 1e6);
    if (!result->message) {
        PUT(&r->suite, "/>\n");
        return;
    }
    PUT(&r->suite, ">\n      <failure message=\"");
    put_xml(&r->suite, result->where);
    PUT(&r->suite, ": ");
    put_xml(&r->suite, result->message);
    PUT(&r->suite, "\"/>\n    </testcase>\n");
}

static void end_suite(struct report *r)
{
    if (r->want_junit) {
        PUT(&r->junit, "  <testsuite name=\"");
        put_xml(&r->junit, r->path);
        PUT(&r->junit, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" time=\"%.6f\">\n", r->file_count, r->file_failed,
            (double)r->suite_us / 1e6);
        if (r->suite.len)
            TM_FATAL_UNLESS(tm_buf_append(&r->junit, r->suite.data, r->suite.len) == TM_OK);
        PUT(&r->junit, "  </testsuite>\n");
    }
    tm_buf_clear(&r->suite);
    r->suite_us = 0;
    r->file_count = r->file_failed = 0;
}

static int write_junit(const struct report *r, const char *path)
{
    FILE *f = fopen(path, "we");
    bool ok = f != NULL;
    if (ok)
        ok = fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"%zu\" failures=\"%zu\">\n",
                     r->passed + r->failed, r->failed) > 0;
    if (ok)
        ok = fwrite(r->junit.data, 1, r->junit.len, f) == r->junit.len && fputs("</testsuites>\n", f) >= 0;
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "tidemill test: %s: %s\n", path, strerror(errno));
    return ok ? TM_EXIT_OK : TM_EXIT_FAILED;
}

/* ---- the whole ---- */

static void on_result(void *arg, const struct tm_test_result *result)
{
    struct report *r = arg;
    result->message ? r->failed++ : r->passed++;
    r->file_failed += result->message != NULL;
    r->file_count++;
    r->suite_us += result->cpu_us;
    if (r->want_junit)
        put_case(r, result);
    if (r->tap)
        print_tap(r, result);
    else
        print_text(r, result);
    fflush(stdout);
}

static void run_file(struct report *r, const char *path, const char *filter)
{
    struct tm_test_options options = {.path = path, .filter = filter, .seed = r->seed};
    struct tm_error err;
    r->path = path;
    if (!r->tap)
        printf("%s\n", path);
    if (tm_test_run(&options, on_result, r, &err) < 0) {
        struct tm_test_result result = {.name = "(load)", .where = path, .message = err.message};
        on_result(r, &result);
    }
    end_suite(r);
}

static void print_end(const struct report *r)
{
    if (r->tap) {
        printf("1..%zu\n# %zu passed, %zu failed, seed %u\n", r->passed + r->failed, r->passed, r->failed, r->seed);
        return;
    }
    if (r->failed)
        printf("\nseed %u: repeat with --seed %u", r->seed, r->seed);
    printf("\n%s%zu passed, %zu failed%s\n", colour(r, r->failed ? "\033[1;31m" : "\033[1;32m"), r->passed, r->failed,
           colour(r, "\033[0m"));
}

static uint32_t random_seed(void)
{
    uint32_t seed;
    tm_random_bytes(&seed, sizeof seed);
    return seed % 1000000; /* short enough to be read out */
}

static int run_paths(struct report *r, const struct paths *paths, const struct tm_cli *cli)
{
    const char *junit = tm_cli_value(cli, "--junit");
    if (r->tap)
        puts("TAP version 13");
    for (size_t i = 0; i < paths->count; i++)
        run_file(r, paths->list[i], tm_cli_value(cli, "--filter"));
    print_end(r);
    int rc = r->failed || r->passed == 0 ? TM_EXIT_FAILED : TM_EXIT_OK;
    if (junit && write_junit(r, junit))
        rc = TM_EXIT_FAILED;
    tm_buf_fini(&r->junit);
    tm_buf_fini(&r->suite);
    return rc;
}

int tm_testing_command(const struct tm_cli *cli)
{
    const char *seed = tm_cli_value(cli, "--seed");
    long long number = 0;
    if (seed && !tm_cli_number(seed, 0, UINT32_MAX, &number))
        return tm_cli_usage(cli->command, "--seed: expected a number from 0 to 4294967295, got %s", seed);
    struct paths *paths = calloc(1, sizeof *paths);
    TM_FATAL_UNLESS(paths);
    int rc = TM_EXIT_OK;
    for (size_t i = 0; i < cli->file_count && !rc; i++)
        rc = add_argument(paths, cli->files[i]);
    struct report report = {
        .tap = tm_cli_given(cli, "--tap"),
        .colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
        .want_junit = tm_cli_given(cli, "--junit"),
        .seed = seed ? (uint32_t)number : random_seed(),
    };
    if (!rc)
        rc = run_paths(&report, paths, cli);
    for (size_t i = 0; i < paths->count; i++)
        free(paths->list[i]);
    free(paths);
    return rc;
}
