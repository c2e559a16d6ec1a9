#include "control/asking.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)200 << 10) /* of a chunk from stdin: a frame holds it */

const struct tm_cli_option tm_asking_options[] = {
    TM_SOCKET_OPTION,
    {"--json", NULL, "the value as JSON"},
    {0},
};

const struct tm_cli_option tm_tap_options_of_cli[] = {
    TM_SOCKET_OPTION,
    {"-n", "N", "so many rows, then end; default: until Ctrl-C"},
    {"--json", NULL, "a row is an object of JSON"},
    {0},
};

const struct tm_cli_option tm_repl_options[] = {TM_SOCKET_OPTION, {0}};

const char *tm_asking_socket(const struct tm_cli *cli)
{
    const char *path = tm_cli_value(cli, "--socket");
    if (!path)
        path = getenv("TIDEMILL_SOCKET");
    if (path && *path)
        return path;
    (void)tm_cli_usage(cli->command, "expected --socket PATH or TIDEMILL_SOCKET");
    return NULL;
}

/* ---- the terminal ---- */

bool tm_asking_color(int fd)
{
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    return isatty(fd) && !(none && *none) && term && strcmp(term, "dumb") != 0;
}

int tm_asking_width(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 100;
}

/* The length of a colour at `at`: ESC [ digits and ";" m; 0: it is none. */
static size_t color_length(const char *at, size_t len)
{
    size_t n = 2;
    if (len < 3 || at[1] != '[')
        return 0;
    while (n < len && ((at[n] >= '0' && at[n] <= '9') || at[n] == ';'))
        n++;
    return n < len && at[n] == 'm' ? n + 1 : 0;
}

void tm_asking_print(void *arg, const char *text, size_t len)
{
    FILE *to = arg;
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t color = c == 0x1b ? color_length(text + i, len - i) : 0;
        if (color) {
            fwrite(text + i, 1, color, to);
            i += color;
            continue;
        }
        fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : c, to);
        i++;
    }
    fflush(to);
}

static void on_interrupt(int number)
{
    (void)number;
    tm_frames_interrupted = 1;
}

void tm_asking_hold_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: who waits must see it */
    sigaction(SIGINT, &action, NULL);
}

/* ---- one question ---- */

static void print_result(const struct tm_frames_answer *answer, bool json)
{
    if (json) {
        printf("%.*s\n", answer->result.at ? (int)answer->result.len : 4,
               answer->result.at ? answer->result.at : "null");
    } else if (answer->text) {
        tm_asking_print(stdout, answer->text, strlen(answer->text));
        fputc('\n', stdout);
    }
}

static void print_error(const char *name, const char *text)
{
    fprintf(stderr, "tidemill %s: ", name);
    tm_asking_print(stderr, text, strlen(text));
    fputc('\n', stderr);
}

struct question {
    const char *name, *socket, *text;
    size_t len;
    bool json, quiet; /* quiet: its value is not printed */
};

static int ask(const struct question *q)
{
    struct tm_frames *f = NULL;
    struct tm_frames_answer answer = {0};
    struct tm_error err;
    struct tm_frames_request request = {.op = "eval",
                                        .text = q->text,
                                        .len = q->len,
                                        .json = q->json,
                                        .color = !q->json && tm_asking_color(STDOUT_FILENO),
                                        .width = tm_asking_width(),
                                        .on_output = tm_asking_print,
                                        .arg = stdout};
    tm_asking_hold_interrupts();
    int rc = tm_frames_open(q->socket, &f, &err);
    rc = rc ? rc : tm_frames_ask(f, &request, &answer, &err);
    if (rc)
        print_error(q->name, err.message);
    else if (!answer.ok)
        print_error(q->name, answer.error ? answer.error : "the answer is not understood");
    else if (!q->quiet)
        print_result(&answer, q->json);
    bool good = !rc && answer.ok && fflush(stdout) == 0;
    tm_frames_close(f);
    return good ? TM_EXIT_OK : TM_EXIT_FAILED;
}

/* ---- eval ---- */

static int read_all(FILE *from, struct tm_buf *out)
{
    size_t n;
    int rc = TM_OK;
    do {
        rc = tm_buf_reserve(out, 4096);
        n = rc ? 0 : fread(out->data + out->len, 1, 4096, from);
        out->len += n;
    } while (n > 0 && out->len <= TEXT_MAX);
    return rc ? rc : out->len > TEXT_MAX ? TM_EFULL : ferror(from) ? TM_EIO : TM_OK;
}

int tm_eval_command(const struct tm_cli *cli)
{
    struct question q = {.name = "eval", .socket = tm_asking_socket(cli), .json = tm_cli_given(cli, "--json")};
    struct tm_buf text = {0};
    if (!q.socket)
        return TM_EXIT_USAGE;
    q.text = cli->files[0];
    q.len = strlen(q.text);
    if (strcmp(q.text, "-") == 0) {
        int rc = read_all(stdin, &text);
        if (rc) {
            print_error("eval", rc == TM_EFULL ? "expected at most 200 KiB of text on stdin" : tm_code_name(rc));
            tm_buf_fini(&text);
            return TM_EXIT_FAILED;
        }
        q.text = (const char *)text.data;
        q.len = text.len;
    }
    int status = ask(&q);
    tm_buf_fini(&text);
    return status;
}

/* ---- tap ---- */

static bool is_safe(const char *value)
{
    return *value &&
           strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-*") == strlen(value);
}

static int put_fields(struct tm_buf *out, const char *list)
{
    int rc = tm_buf_printf(out, ", fields = {");
    for (const char *at = list; !rc && *at;) {
        size_t len = strcspn(at, ",");
        rc = tm_buf_printf(out, " \"%.*s\",", (int)len, at);
        at += len + (at[len] == ',');
    }
    return rc ? rc : tm_buf_printf(out, " }");
}

/* "ticker=KX*", "seconds=5", "fields=a,b" as a field of the options; TM_EINVAL. */
static int put_option(struct tm_buf *out, const char *word)
{
    const char *value = strchr(word, '=');
    long long seconds;
    if (!value)
        return TM_EINVAL;
    size_t len = (size_t)(value++ - word);
    if (len == 6 && strncmp(word, "ticker", len) == 0 && is_safe(value))
        return tm_buf_printf(out, ", ticker = \"%s\"", value);
    if (len == 7 && strncmp(word, "seconds", len) == 0 && tm_cli_number(value, 1, 86400, &seconds))
        return tm_buf_printf(out, ", seconds = %lld", seconds);
    if (len == 6 && strncmp(word, "fields", len) == 0 && *value &&
        strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_,") == strlen(value))
        return put_fields(out, value);
    return TM_EINVAL;
}

int tm_tap_command(const struct tm_cli *cli)
{
    struct question q = {.name = "tap", .socket = tm_asking_socket(cli), .json = tm_cli_given(cli, "--json")};
    const char *count = tm_cli_value(cli, "-n");
    long long n = 0;
    struct tm_buf text = {0};
    if (!q.socket)
        return TM_EXIT_USAGE;
    if (!is_safe(cli->files[0]))
        return tm_cli_usage(cli->command, "expected the name of a stream, got %s", cli->files[0]);
    if (count && !tm_cli_number(count, 1, 1000000, &n))
        return tm_cli_usage(cli->command, "-n: expected 1 to 1000000, got %s", count);
    int rc = tm_buf_printf(&text, "tap(\"%s\", { n = %lld", cli->files[0], n);
    for (size_t i = 1; !rc && i < cli->file_count; i++) {
        rc = put_option(&text, cli->files[i]);
        if (rc == TM_EINVAL) {
            tm_buf_fini(&text);
            return tm_cli_usage(cli->command, "expected ticker=TICKER, seconds=N or fields=A,B, got %s", cli->files[i]);
        }
    }
    rc = rc ? rc : tm_buf_printf(&text, " })");
    q.text = (const char *)text.data;
    q.len = text.len;
    q.quiet = q.json;
    int status = rc ? TM_EXIT_FAILED : ask(&q);
    tm_buf_fini(&text);
    return status;
}
