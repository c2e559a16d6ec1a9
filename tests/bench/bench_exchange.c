/*
 * How many frames a second tidemill-exchange makes: starts it flat out, subscribes to everything over one raw
 * connection, reads frame heads and throws the rest away. No markets come or go meanwhile, so that every
 * event is for this reader. `reader` is what it reads per second of its own processor time: what receiving costs at least.
 *
 *     bench_exchange [--quick] [--json] PATH/tidemill-exchange [SECONDS [OPTION OF THE EXCHANGE]...]
 *
 * Two virtual cores of an AMD EPYC, one for each side, both shared with other work: 1.5 to 1.9 M frames/s (0.33 us of
 * the exchange's processor a frame), 1.1 M with --ledger (0.51 us).
 */
#include "report.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/endian.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_CHUNK (1u << 20)

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_exchange: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Start the exchange, held until our subscription; its port. */
static int start(char **argv, int options, pid_t *pid)
{
    const char *args[64] = {argv[1], "--rate", "0", "--wait-clients", "1", "--markets", "1000", "--mix", "lifecycle=0"};
    size_t count = 9;
    int ends[2], port = 0;
    char line[512];
    for (int i = 0; i < options && count < 63; i++)
        args[count++] = argv[3 + i];
    if (pipe(ends) || (*pid = fork()) < 0)
        die("cannot start a process");
    if (*pid == 0) {
        (void)dup2(ends[1], 1);
        execv(args[0], (char *const *)args);
        die(args[0]);
    }
    (void)close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    if (!out || !fgets(line, sizeof line, out) || sscanf(line, "listening ws=ws://127.0.0.1:%d/", &port) != 1)
        die("the exchange does not listen");
    return port;
}

static int dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at))
        die("connect");
    return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        at += (size_t)n;
    }
}

static void hear(int fd, struct tm_buf *in)
{
    if (tm_buf_reserve(in, READ_CHUNK))
        die("memory");
    ssize_t n = recv(fd, in->data + in->len, READ_CHUNK, 0);
    if (n <= 0)
        die("the exchange closed the connection");
    in->len += (size_t)n;
}

/* The tickers of GET /markets as `"A","B",...`. */
static void list_markets(int port, struct tm_buf *list)
{
    static const char get[] = "GET /trade-api/v2/markets?limit=1000 HTTP/1.1\r\nConnection: close\r\n\r\n";
    static const char key[] = "{\"ticker\":";
    struct tm_buf in = {0};
    ssize_t n;
    int fd = dial(port);
    say(fd, get, sizeof get - 1);
    while (!tm_buf_reserve(&in, READ_CHUNK) && (n = recv(fd, in.data + in.len, READ_CHUNK, 0)) > 0)
        in.len += (size_t)n;
    (void)close(fd);
    for (const char *at = tm_buf_cstr(&in); at && (at = strstr(at, key)); at++) {
        const char *name = at + sizeof key - 1, *end = strchr(name + 1, '"');
        if (tm_buf_printf(list, "%s%.*s", list->len ? "," : "", (int)(end + 1 - name), name))
            die("memory");
    }
    tm_buf_fini(&in);
}

static void subscribe(int fd, const struct tm_buf *tickers)
{
    static const char upgrade[] =
        "GET /trade-api/ws/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    static const char others[] = "{\"id\":2,\"cmd\":\"subscribe\",\"params\":{\"channels\":[\"trade\",\"ticker\","
                                 "\"market_lifecycle_v2\"]}}";
    struct tm_buf text = {0};
    uint8_t head[14] = {0x81, 0x80 | 127}; /* the mask is zero: nothing to undo */
    say(fd, upgrade, sizeof upgrade - 1);
    if (tm_buf_printf(&text,
                      "{\"id\":1,\"cmd\":\"subscribe\",\"params\":{\"channels\":[\"orderbook_delta\"],"
                      "\"market_tickers\":[%.*s]}}",
                      (int)tickers->len, (const char *)tickers->data))
        die("memory");
    tm_put_be64(head + 2, sizeof others - 1);
    say(fd, head, sizeof head);
    say(fd, others, sizeof others - 1);
    tm_put_be64(head + 2, text.len);
    say(fd, head, sizeof head);
    say(fd, text.data, text.len);
    tm_buf_fini(&text);
}

static void skip_http_head(int fd, struct tm_buf *in)
{
    const char *end;
    while (!(end = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL))
        hear(fd, in);
    tm_buf_consume(in, (size_t)(end + 4 - (const char *)in->data));
}

/* Count and drop the whole frames at the front. */
static uint64_t count_frames(struct tm_buf *in)
{
    uint64_t frames = 0;
    size_t at = 0;
    while (in->len - at >= 10) {
        uint64_t len = in->data[at + 1] & 127, head = len == 126 ? 4 : len == 127 ? 10 : 2;
        len = len == 126 ? tm_get_be16(in->data + at + 2) : len == 127 ? tm_get_be64(in->data + at + 2) : len;
        if (head + len > in->len - at)
            break;
        at += head + len;
        frames++;
    }
    tm_buf_consume(in, at);
    return frames;
}

int main(int argc, char **argv)
{
    struct tm_buf tickers = {0}, in = {0};
    uint64_t frames = 0, bytes = 0;
    pid_t pid;
    tm_bench_begin(&argc, argv);
    if (argc < 2) {
        fprintf(stderr, "usage: bench_exchange PATH/tidemill-exchange [SECONDS [OPTION]...]\n");
        return 2;
    }
    int64_t run_us = (int64_t)((argc > 2 ? atof(argv[2]) : tm_bench_quick ? 0.5 : 3) * 1e6);
    int port = start(argv, argc > 3 ? argc - 3 : 0, &pid);
    list_markets(port, &tickers);
    int fd = dial(port);
    subscribe(fd, &tickers);
    skip_http_head(fd, &in);
    int64_t from = tm_clock_mono_us(), now = from, cpu_from = tm_clock_thread_us();
    for (; now - from < run_us; now = tm_clock_mono_us()) {
        size_t had = in.len;
        hear(fd, &in);
        bytes += in.len - had;
        frames += count_frames(&in);
    }
    double seconds = (double)(now - from) / 1e6, reader_s = (double)(tm_clock_thread_us() - cpu_from) / 1e6;
    struct rusage used;
    (void)kill(pid, SIGTERM);
    (void)wait4(pid, NULL, 0, &used);
    double cpu_us = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
                    (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    tm_bench_note("%.2f M frames/s, %.0f MB/s, %.0f bytes a frame, %.2f us of the exchange's processor a frame\n",
                  (double)frames / seconds / 1e6, (double)bytes / seconds / 1e6,
                  (double)bytes / (double)(frames ? frames : 1), cpu_us / (double)(frames ? frames : 1));
    tm_bench_report(
        &(struct tm_bench_result){.name = "exchange/rate", .figure = (double)frames / seconds, .unit = "msg/s"});
    tm_bench_report(
        &(struct tm_bench_result){.name = "exchange/reader", .figure = (double)frames / reader_s, .unit = "msg/s"});
    tm_buf_fini(&tickers);
    tm_buf_fini(&in);
    return 0;
}
