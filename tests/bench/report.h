/*
 * What every benchmark in C prints: results, one a line, for people, or with --json as one object each on stdout (notes
 * are on stderr then). scripts/bench adds limits, ratios and commands; the shape is described in tests/bench/README.md.
 *
 *     tm_bench_begin(&argc, argv);                  takes --json and --quick out of the arguments
 *     tm_bench_report(&(struct tm_bench_result){.name = "decode/rate", .figure = 4.6e6, .unit = "msg/s"});
 *
 * One thread.
 */
#ifndef TESTS_BENCH_REPORT_H
#define TESTS_BENCH_REPORT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool tm_bench_json, tm_bench_quick;

struct tm_bench_result {
    const char *name; /* BENCH/what */
    double figure;
    const char *unit; /* more is better if it ends in "/s", less for all others */
    double floor;     /* measured in the same run, of the same unit; 0: there is none */
    const char *floor_is;
};

static inline void tm_bench_begin(int *argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            tm_bench_json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            tm_bench_quick = true;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    argv[kept] = NULL;
}

static inline __attribute__((format(printf, 1, 2))) void tm_bench_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(tm_bench_json ? stderr : stdout, format, args);
    va_end(args);
}

static inline void tm_bench_report(const struct tm_bench_result *r)
{
    if (tm_bench_json) {
        printf("{\"name\": \"%s\", \"figure\": %.6g, \"unit\": \"%s\", \"floor\": ", r->name, r->figure, r->unit);
        if (r->floor > 0)
            printf("%.6g, \"floor_is\": \"%s\"}\n", r->floor, r->floor_is);
        else
            printf("null}\n");
    } else {
        printf("%-28s %14.6g %s", r->name, r->figure, r->unit);
        if (r->floor > 0)
            printf("   %s %.6g: ratio %.2f", r->floor_is, r->floor, r->figure / r->floor);
        printf("\n");
    }
    (void)fflush(stdout);
}

#endif
