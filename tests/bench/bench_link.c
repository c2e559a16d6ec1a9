/*
 * Messages a second that one link receives: 291-byte text frames from a raw sender on loopback that writes
 * many frames with each call, for some seconds, plain. Prints the rate and the processor time per message of
 * the receiver.
 *
 *     bench_link [SECONDS]
 */
#include "base/clock.h"
#include "base/log.h"
#include "net/link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD 291
#define FRAME (PAYLOAD + 4)
#define FRAMES_PER_WRITE 220

struct bench {
    struct tm_loop *loop;
    struct tm_link *link;
    struct tm_timer end;
    uint64_t messages;
    int64_t first_us;
    double first_cpu;
};

static double thread_cpu(void)
{
    struct rusage use;
    getrusage(RUSAGE_THREAD, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void upgrade(int fd)
{
    char request[4096] = "", text[200], answer[300];
    unsigned char sha[SHA_DIGEST_LENGTH], accept[64];
    for (size_t len = 0; len < sizeof request - 1 && !strstr(request, "\r\n\r\n"); len++)
        if (read(fd, request + len, 1) != 1)
            return;
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    if (!key)
        return;
    int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    SHA1((unsigned char *)text, (size_t)n, sha);
    EVP_EncodeBlock(accept, sha, sizeof sha);
    n = snprintf(answer, sizeof answer,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
    (void)!write(fd, answer, (size_t)n);
}

static void *send_frames(void *arg)
{
    static char frames[FRAMES_PER_WRITE * FRAME];
    int listener = *(int *)arg, fd = accept(listener, NULL, NULL);
    for (size_t i = 0; i < sizeof frames; i += FRAME) {
        memcpy(frames + i, "\x81\x7e\x01\x23", 4);
        memset(frames + i + 4, 'x', PAYLOAD);
    }
    upgrade(fd);
    size_t at = 0;
    ssize_t n;
    while ((n = send(fd, frames + at, sizeof frames - at, MSG_NOSIGNAL)) > 0)
        at = (at + (size_t)n) % sizeof frames;
    close(fd);
    return NULL;
}

static void on_message(void *arg, const char *bytes, size_t len)
{
    struct bench *b = arg;
    (void)bytes;
    if (len != PAYLOAD)
        abort();
    if (!b->messages++) {
        b->first_us = tm_clock_mono_us();
        b->first_cpu = thread_cpu();
    }
}

static void on_down(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct bench *b = arg;
    if (why != TM_WS_LOCAL)
        fprintf(stderr, "lost: %s %d %s\n", tm_ws_why_name(why), status, text);
    tm_loop_stop(b->loop);
}

static void on_end(void *arg)
{
    struct bench *b = arg;
    double seconds = (double)(tm_clock_mono_us() - b->first_us) / 1e6, cpu = thread_cpu() - b->first_cpu;
    double n = (double)b->messages;
    printf("%.0f messages in %.2f s: %.0f/s, %.2f us of processor time each\n", n, seconds, n / seconds, cpu / n * 1e6);
    tm_link_stop(b->link);
}

static int listen_on_loopback(int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    if (bind(fd, (struct sockaddr *)&a, len) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)&a, &len))
        abort();
    *port = ntohs(a.sin_port);
    return fd;
}

int main(int argc, char **argv)
{
    static const struct tm_link_events events = {.on_message = on_message, .on_down = on_down};
    struct bench b = {.loop = tm_loop_create()};
    struct tm_ws_context *context;
    struct tm_error err;
    char url[64];
    int port, listener = listen_on_loopback(&port);
    pthread_t sender;
    tm_log_init(TM_LOG_WARN, TM_LOG_LOGFMT, NULL);
    signal(SIGPIPE, SIG_IGN);
    pthread_create(&sender, NULL, send_frames, &listener);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", port);
    struct tm_ws_options options = {.url = url};
    struct tm_link_limiter *limiter = tm_link_limiter_create(100, 100);
    if (tm_ws_context_create(b.loop, &context, &err) ||
        tm_link_create(context, limiter, &options, &events, &b, &b.link, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    tm_timer_init(&b.end, b.loop, on_end, &b);
    tm_timer_start(&b.end, (argc > 1 ? atoi(argv[1]) : 5) * TM_US_PER_S, 0);
    tm_link_start(b.link);
    tm_loop_run(b.loop);
    pthread_join(sender, NULL);
    tm_link_destroy(b.link);
    tm_ws_context_destroy(context);
    tm_link_limiter_destroy(limiter);
    tm_loop_destroy(b.loop);
    return 0;
}
