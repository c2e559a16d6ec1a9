/*
 * Parquet files from and to the binary format of COPY, for tests that compare with other readers.
 *
 *     parquet_tool write FILE COLUMN... [rows=N] [bytes=N] [level=N] [meta=KEY=VALUE]   COPY's bytes from standard input
 *     parquet_tool read FILE [COLUMN...] [range=NAME,FROM,UNTIL] [lenient]              COPY's bytes to standard output
 *
 * A COLUMN is name:type[:scale][:required]. `read` without columns gives all of the file; what it met goes to standard
 * error as "rows N groups N skipped N". Exit status 1 with the error, 2 for wrong arguments.
 */
#include "archive/parquet.h"

#include "base/endian.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t copy_header[19] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

struct arguments {
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    size_t count;
    struct tm_parquet_meta meta[16];
    size_t meta_count;
    struct tm_parquet_writer_options writer;
    char *range;
    unsigned leniency;
};

_Noreturn static void usage(const char *what)
{
    fprintf(stderr, "parquet_tool: not understood: %s\n", what);
    exit(2);
}

static enum tm_type type_of(const char *name)
{
    static const char *const names[] = {"bool", "int2", "int4",        "int8",  "float8",
                                        "text", "uuid", "timestamptz", "jsonb", "bytea"};
    for (int i = 0; i <= TM_TYPE_BYTEA; i++)
        if (strcmp(names[i], name) == 0)
            return (enum tm_type)i;
    usage(name);
}

static void add_column(struct arguments *a, char *text)
{
    struct tm_parquet_column *c = &a->columns[a->count++];
    char *name = strsep(&text, ":"), *type = strsep(&text, ":"), *more;
    if (!type || a->count > TM_COLUMNS_MAX)
        usage(name);
    *c = (struct tm_parquet_column){.name = name, .type = type_of(type), .nullable = true};
    while ((more = strsep(&text, ":"))) {
        if (strcmp(more, "required") == 0)
            c->nullable = false;
        else
            c->scale = atoi(more);
    }
}

static void add_meta(struct arguments *a, char *text)
{
    if (a->meta_count == sizeof a->meta / sizeof *a->meta || !strchr(text, '='))
        usage(text);
    const char *key = strsep(&text, "=");
    a->meta[a->meta_count++] = (struct tm_parquet_meta){key, text};
}

static void parse(struct arguments *a, char **argv)
{
    for (; *argv; argv++) {
        if (strncmp(*argv, "rows=", 5) == 0)
            a->writer.group_rows = (uint32_t)atoi(*argv + 5);
        else if (strncmp(*argv, "bytes=", 6) == 0)
            a->writer.group_bytes = (size_t)atol(*argv + 6);
        else if (strncmp(*argv, "level=", 6) == 0)
            a->writer.level = atoi(*argv + 6);
        else if (strncmp(*argv, "meta=", 5) == 0)
            add_meta(a, *argv + 5);
        else if (strncmp(*argv, "range=", 6) == 0)
            a->range = *argv + 6;
        else if (strcmp(*argv, "lenient") == 0)
            a->leniency = TM_PARQUET_MISSING_NULL | TM_PARQUET_IGNORE_OTHERS;
        else
            add_column(a, *argv);
    }
}

static int fail(const struct tm_error *err)
{
    fprintf(stderr, "%s: %s\n", tm_code_name(err->code), err->message);
    return 1;
}

/* ---- write ---- */

static int to_file(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    return fwrite(bytes, 1, len, arg) == len ? TM_OK : tm_error_errno(err, TM_EIO, errno, "writing");
}

static void read_all(struct tm_buf *in)
{
    size_t got;
    do {
        TM_FATAL_UNLESS(!tm_buf_reserve(in, 1 << 16));
        got = fread(in->data + in->len, 1, in->cap - in->len, stdin);
        in->len += got;
    } while (got);
}

static int write_file(struct arguments *a, FILE *file)
{
    struct tm_buf in = {0};
    struct tm_error err;
    struct tm_parquet_writer *w;
    struct tm_parquet_summary summary;
    read_all(&in);
    if (in.len < sizeof copy_header + 2 || memcmp(in.data, copy_header, sizeof copy_header) != 0)
        usage("standard input, which is not COPY's binary format");
    a->writer.columns = a->columns;
    a->writer.column_count = a->count;
    a->writer.sink = to_file;
    a->writer.arg = file;
    int rc = tm_parquet_writer_create(&a->writer, &w, &err);
    if (rc)
        return fail(&err);
    rc = tm_parquet_writer_put(w, in.data + sizeof copy_header, in.len - sizeof copy_header - 2, &err);
    rc = rc ? rc : tm_parquet_writer_finish(w, a->meta, a->meta_count, &summary, &err);
    tm_parquet_writer_destroy(w);
    tm_buf_fini(&in);
    if (rc)
        return fail(&err);
    fprintf(stderr, "rows %llu groups %u bytes %llu\n", (unsigned long long)summary.rows, summary.groups,
            (unsigned long long)summary.bytes);
    return 0;
}

/* ---- read ---- */

static int from_file(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err)
{
    if (fseeko(arg, (off_t)offset, SEEK_SET) || fread(bytes, 1, len, arg) != len)
        return tm_error_set(err, TM_EIO, "reading %zu bytes at %llu", len, (unsigned long long)offset);
    return TM_OK;
}

static int set_up(struct arguments *a, struct tm_parquet_reader *r, struct tm_error *err)
{
    int rc = a->count ? tm_parquet_reader_expect(r, a->columns, a->count, a->leniency, err) : TM_OK;
    if (rc || !a->range)
        return rc;
    const char *name = strsep(&a->range, ","), *from = strsep(&a->range, ","), *until = strsep(&a->range, ",");
    if (!until)
        usage(name);
    return tm_parquet_reader_range(r, name, atoll(from), atoll(until), err);
}

static int copy_out(struct tm_parquet_reader *r, struct tm_error *err)
{
    static const uint8_t trailer[2] = {0xff, 0xff};
    struct tm_buf out = {0};
    size_t rows, group, total = 0;
    int rc;
    fwrite(copy_header, 1, sizeof copy_header, stdout);
    while ((rc = tm_parquet_reader_next(r, 1 << 16, &out, &rows, &group, err)) > 0) {
        fwrite(out.data, 1, out.len, stdout);
        tm_buf_clear(&out);
        total += rows;
    }
    fwrite(trailer, 1, sizeof trailer, stdout);
    tm_buf_fini(&out);
    if (!rc)
        fprintf(stderr, "rows %zu groups %zu skipped %zu\n", total, tm_parquet_reader_groups(r),
                tm_parquet_reader_skipped(r));
    return rc;
}

static int read_file(struct arguments *a, FILE *file)
{
    struct tm_parquet_reader_options o = {.read_at = from_file, .arg = file};
    struct tm_parquet_reader *r;
    struct tm_error err;
    fseeko(file, 0, SEEK_END);
    o.size = (uint64_t)ftello(file);
    if (tm_parquet_reader_open(&o, &r, &err))
        return fail(&err);
    int rc = set_up(a, r, &err);
    rc = rc ? rc : copy_out(r, &err);
    tm_parquet_reader_close(r);
    return rc ? fail(&err) : 0;
}

int main(int argc, char **argv)
{
    static struct arguments a;
    if (argc < 3)
        usage("expected write or read, and a file");
    bool write = strcmp(argv[1], "write") == 0;
    FILE *file = fopen(argv[2], write ? "wb" : "rb");
    if (!file) {
        perror(argv[2]);
        return 1;
    }
    parse(&a, argv + 3);
    int rc = write ? write_file(&a, file) : read_file(&a, file);
    return fclose(file) || rc ? 1 : 0;
}
