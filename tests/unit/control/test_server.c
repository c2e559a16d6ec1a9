/* The control socket under rude peers: split writes, hang-ups, long lines, silence, too many of them. */
#include "base/clock.h"
#include "base/json.h"
#include "control/server.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_US INT64_C(10000000)

static struct tm_loop *loop;
static struct tm_control *control;
static struct tm_timer deadline;
static char dir[64], path[96];
static int runs;

static int echo(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)context;
    (void)err;
    runs++;
    return tm_json_put_string(out, args);
}

static int large(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)context;
    (void)err;
    size_t n = (size_t)atol(args);
    if (tm_buf_reserve(out, n + 2) < 0)
        return TM_ENOMEM;
    memset(out->data + out->len, 'x', n + 2);
    out->data[out->len] = out->data[out->len + n + 1] = '"';
    out->len += n + 2;
    return TM_OK;
}

static int fails(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)context;
    (void)args;
    if (tm_buf_append(out, "half an answ", 12) < 0)
        return TM_ENOMEM;
    return tm_error_set(err, TM_EINVAL, "it \"failed\"");
}

static int explain(void *context, struct tm_buf *out)
{
    (void)context;
    return tm_buf_printf(out, ",\"why\":[1,2]");
}

static const struct tm_command commands[] = {{"echo", TM_COMMAND_READ, "", echo, explain},
                                             {"large", TM_COMMAND_READ, "", large, NULL},
                                             {"fails", TM_COMMAND_READ, "", fails, NULL},
                                             {"explains", TM_COMMAND_READ, "", fails, explain},
                                             {0}};

#define SESSIONS 4

static struct tm_sessions *sessions;
static int64_t makes_room_us;

static int open_control(int64_t idle_us, struct tm_control **out, struct tm_error *err)
{
    struct tm_control_options options = {.loop = loop,
                                         .path = path,
                                         .commands = commands,
                                         .idle_us = idle_us,
                                         .begin_us = 300000,
                                         .makes_room_us = makes_room_us,
                                         .settings.sessions_max = SESSIONS,
                                         .sessions = sessions,
                                         .library = TM_SOURCE_DIR "/lua"};
    return tm_control_open(&options, out, err);
}

static int setup(void **state)
{
    (void)state;
    struct tm_error err;
    (void)snprintf(dir, sizeof dir, "/tmp/tm-control-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s", dir);
    loop = tm_loop_create();
    sessions = tm_sessions_create(loop, NULL);
    runs = 0;
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return open_control(0, &control, &err);
}

static int teardown(void **state)
{
    (void)state;
    tm_control_close(control);
    tm_sessions_destroy(sessions);
    tm_loop_destroy(loop);
    (void)unlink(path);
    return rmdir(dir);
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* ---- running the loop until the peer has what it waits for ---- */

struct peer {
    int fd;
    struct tm_io io;
    char in[4096];
    size_t len;
    size_t total;
    int lines;
    bool closed;
    int stop_lines; /* stop the loop at so many lines; 0: at the end of the stream */
};

static void on_readable(void *arg, int events)
{
    (void)events;
    struct peer *p = arg;
    char bytes[16384];
    ssize_t n = read(p->fd, bytes, sizeof bytes);
    p->closed = n == 0 || (n < 0 && errno != EAGAIN);
    for (ssize_t i = 0; i < n; i++) {
        p->lines += bytes[i] == '\n';
        if (p->len + 1 < sizeof p->in)
            p->in[p->len++] = bytes[i];
    }
    p->total += n > 0 ? (size_t)n : 0;
    if (p->closed || (p->stop_lines && p->lines >= p->stop_lines))
        tm_loop_stop(loop);
}

static void on_deadline(void *arg)
{
    (void)arg;
    tm_loop_stop(loop);
}

static void wait_for(struct peer *p, int lines)
{
    p->stop_lines = lines;
    tm_timer_init(&deadline, loop, on_deadline, NULL);
    tm_timer_start(&deadline, DEADLINE_US, 0);
    tm_io_init(&p->io, loop, p->fd, on_readable, p);
    tm_io_set(&p->io, EV_READ);
    tm_loop_run(loop);
    tm_io_set(&p->io, 0);
    tm_timer_stop(&deadline);
    p->in[p->len] = '\0';
    if (lines ? p->lines < lines : !p->closed)
        fail_msg("got %d lines of %d, closed %d: %s", p->lines, lines, p->closed, p->in);
}

/* Let the server do what it can with what has been sent. */
static void turn_once(void)
{
    tm_timer_init(&deadline, loop, on_deadline, NULL);
    tm_timer_start(&deadline, 1000, 0);
    tm_loop_run(loop);
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* ---- tests ---- */

static void test_commands(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    send_text(p.fd, "echo hello \"you\"\r\n\n  echo\nnonsense\nfails\nexplains\n");
    wait_for(&p, 5);
    assert_string_equal(
        p.in,
        "{\"ok\":true,\"result\":\"hello \\\"you\\\"\"}\n"
        "{\"ok\":true,\"result\":\"\"}\n"
        "{\"ok\":false,\"error\":\"unknown command \\\"nonsense\\\": expected one of echo large fails explains\"}\n"
        "{\"ok\":false,\"error\":\"it \\\"failed\\\"\"}\n"
        "{\"ok\":false,\"error\":\"it \\\"failed\\\"\",\"why\":[1,2]}\n");
    close(p.fd);
}

static void test_split_writes(void **state)
{
    (void)state;
    static const char line[] = "echo abc\necho d";
    struct peer p = {.fd = dial()};
    for (size_t i = 0; i < sizeof line - 1; i++) {
        assert_int_equal(send(p.fd, line + i, 1, MSG_NOSIGNAL), 1);
        turn_once();
    }
    assert_int_equal(runs, 1);
    send_text(p.fd, "ef\n");
    wait_for(&p, 2);
    assert_string_equal(p.in, "{\"ok\":true,\"result\":\"abc\"}\n{\"ok\":true,\"result\":\"def\"}\n");
    close(p.fd);
}

static void test_half_close_still_gets_the_answers(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    send_text(p.fd, "echo a\necho b\nhalf a li");
    shutdown(p.fd, SHUT_WR);
    wait_for(&p, 0);
    assert_int_equal(p.lines, 2);
    assert_int_equal(runs, 2);
    close(p.fd);
}

static void test_hang_ups_cost_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int fd = dial();
        send_text(fd, i % 2 ? "large 900000\n" : "echo no new li");
        if (i % 3)
            turn_once();
        close(fd);
        turn_once();
    }
    struct peer p = {.fd = dial()};
    send_text(p.fd, "echo still here\n");
    wait_for(&p, 1);
    close(p.fd);
}

static void test_long_line_is_refused(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    static char text[TM_CONTROL_LINE_MAX + 2];
    memset(text, 'a', sizeof text);
    for (size_t sent = 0; sent < sizeof text;) {
        ssize_t n = send(p.fd, text + sent, sizeof text - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        turn_once();
    }
    wait_for(&p, 0);
    assert_string_equal(p.in, "{\"ok\":false,\"error\":\"expected a line of at most 64 KiB\"}\n");
    close(p.fd);
}

static void test_large_answers(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    send_text(p.fd, "large 1000000\nlarge 2000000\necho end\n");
    wait_for(&p, 3);
    /* 1,000,000 and its frame; then an error instead of 2 MB; then "end" */
    size_t frame = strlen("{\"ok\":true,\"result\":\"\"}\n");
    assert_int_equal(p.total, 1000000 + frame +
                                  strlen("{\"ok\":false,\"error\":\"the answer is larger than 1 MiB\"}\n") + frame + 3);
    close(p.fd);
}

/* A peer that does not read its answers is not read from: memory stays bounded. */
static void test_peer_that_does_not_read(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    int sent = 0;
    for (int i = 0; i < 40; i++) { /* 36 MB: more than the kernel's buffers hold */
        static const char line[] = "large 900000\n";
        if (send(p.fd, line, sizeof line - 1, MSG_NOSIGNAL) == (ssize_t)sizeof line - 1)
            sent++;
        if (i % 10 == 0)
            turn_once();
    }
    struct peer other = {.fd = dial()};
    send_text(other.fd, "echo served\n");
    wait_for(&other, 1);
    close(other.fd);
    shutdown(p.fd, SHUT_WR);
    wait_for(&p, 0);
    assert_int_equal(p.lines, sent);
    close(p.fd);
}

static void test_binary_garbage(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    static const char garbage[] = "\x00\xff\x1b[2J%n%s\x00\necho\x00x\n\x80\x81\n";
    assert_int_equal(send(p.fd, garbage, sizeof garbage - 1, MSG_NOSIGNAL), sizeof garbage - 1);
    wait_for(&p, 3);
    assert_int_equal(runs, 0);
    for (size_t i = 0; i < p.len; i++)
        assert_true(p.in[i] == '\n' || (p.in[i] >= 0x20 && p.in[i] < 0x7f));
    close(p.fd);
}

static void test_sessions_are_bounded(void **state)
{
    (void)state;
    int fds[SESSIONS];
    for (int i = 0; i < SESSIONS; i++)
        fds[i] = dial();
    turn_once();
    struct peer p = {.fd = dial()};
    wait_for(&p, 0);
    assert_non_null(strstr(p.in, "4 sessions are open already"));
    close(p.fd);
    close(fds[0]);
    turn_once();
    struct peer q = {.fd = dial()};
    send_text(q.fd, "echo in\n");
    wait_for(&q, 1);
    close(q.fd);
    for (int i = 1; i < SESSIONS; i++)
        close(fds[i]);
}

#define READER 12345

/* The kernel tells the effective user of the moment. */
static int dial_as(uid_t uid)
{
    assert_int_equal(seteuid(uid), 0);
    int fd = dial();
    assert_int_equal(seteuid(0), 0);
    return fd;
}

static struct peer greet(int fd)
{
    struct peer p = {.fd = fd};
    send_text(fd, "echo hello\n");
    wait_for(&p, 1);
    return p;
}

static void test_no_session_makes_room_for_a_lower_role(void **state)
{
    (void)state;
    struct tm_error err;
    struct tm_config_control_rule rule = {.name = "12345", .role = TM_COMMAND_READ};
    struct tm_config_control settings = {.sessions_max = SESSIONS, .rules = &rule, .rule_count = 1};
    struct peer admins[SESSIONS];
    if (geteuid() != 0)
        skip();
    tm_control_close(control);
    makes_room_us = 1;
    assert_int_equal(open_control(0, &control, &err), TM_OK);
    makes_room_us = 0;
    assert_int_equal(tm_control_configure(control, &settings, &err), TM_OK);
    assert_int_equal(chmod(dir, 0711), 0);
    for (int i = 0; i < SESSIONS; i++)
        admins[i] = greet(dial());
    struct peer reader = {.fd = dial_as(READER)};
    wait_for(&reader, 0);
    assert_non_null(strstr(reader.in, "4 sessions are open already"));
    close(reader.fd);
    struct peer admin = greet(dial()); /* the first one makes room for its like */
    wait_for(&admins[0], 0);
    close(admins[0].fd);
    close(admin.fd);
    turn_once();
    reader = greet(dial_as(READER));
    admins[0] = greet(dial()); /* the others are idle for longer */
    wait_for(&admins[1], 0);
    struct peer second = {.fd = dial_as(READER)};
    send_text(second.fd, "echo hello\n");
    wait_for(&second, 1); /* in the place of the reader, the only one that is not above it */
    assert_non_null(strstr(second.in, "hello"));
    wait_for(&reader, 0);
    close(reader.fd);
    close(second.fd);
    for (int i = 0; i < SESSIONS; i++)
        close(admins[i].fd);
}

static void test_idle_sessions_end(void **state)
{
    (void)state;
    struct tm_error err;
    tm_control_close(control);
    assert_int_equal(open_control(20000, &control, &err), TM_OK);
    struct peer p = {.fd = dial()};
    wait_for(&p, 0);
    assert_int_equal(p.total, 0);
    close(p.fd);
}

static void test_the_socket_file(void **state)
{
    (void)state;
    struct stat st;
    struct tm_error err;
    struct tm_control *second;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(open_control(0, &second, &err), TM_ESTATE); /* a live one is not replaced */
    assert_non_null(strstr(err.message, "another process listens there"));
    struct peer p = {.fd = dial()};
    send_text(p.fd, "echo unharmed\n");
    wait_for(&p, 1);
    close(p.fd);
    tm_control_close(control);
    control = NULL;
    assert_int_equal(stat(path, &st), -1);
}

/* A reload gives mode and group to the socket alone, not to what a link in its place leads to. */
static void test_a_link_in_the_place_of_the_socket(void **state)
{
    (void)state;
    struct stat st;
    struct tm_error err;
    struct tm_config_control_rule rule = {.name = "12345", .role = TM_COMMAND_READ};
    struct tm_config_control settings = {.rules = &rule, .rule_count = 1};
    char precious[128];
    (void)snprintf(precious, sizeof precious, "%s/precious", dir);
    assert_int_equal(tm_control_configure(control, &settings, &err), TM_OK);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666);
    FILE *f = fopen(precious, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(chmod(precious, 0600) || unlink(path) || symlink(precious, path), 0);
    assert_int_equal(tm_control_configure(control, &settings, &err), TM_ESTATE);
    assert_non_null(strstr(err.message, "another file is in its place"));
    assert_int_equal(stat(precious, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(tm_control_configure(control, &settings, &err), TM_EIO);
    assert_int_equal(unlink(precious), 0);
}

static void test_a_stale_socket_is_replaced_and_a_file_is_not(void **state)
{
    (void)state;
    struct tm_error err;
    tm_control_close(control);
    control = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd); /* as after a crash */
    assert_int_equal(open_control(0, &control, &err), TM_OK);
    tm_control_close(control);
    control = NULL;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("precious", f);
    fclose(f);
    assert_int_equal(open_control(0, &control, &err), TM_EINVAL);
    assert_int_equal(access(path, F_OK), 0);
}

/* ---- slow and busy peers ---- */

/* A line that has begun must come to its end, however often a byte of it comes. */
static void test_a_line_in_drips(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    int64_t begun_us = tm_clock_mono_us();
    send_text(p.fd, "ech");
    while (!p.closed && tm_clock_mono_us() - begun_us < DEADLINE_US) {
        char byte;
        (void)!send(p.fd, "o", 1, MSG_NOSIGNAL);
        turn_once();
        p.closed = recv(p.fd, &byte, 1, MSG_DONTWAIT) == 0;
    }
    assert_true(p.closed);
    assert_in_range(tm_clock_mono_us() - begun_us, 250000, 5000000);
    close(p.fd);
}

static void test_too_many_commands_wait(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    int64_t begun_us = tm_clock_mono_us();
    for (int i = 0; i < 260; i++) /* 200 at once, then 100 a second */
        send_text(p.fd, "echo a\n");
    wait_for(&p, 260);
    assert_true(tm_clock_mono_us() - begun_us > 500000);
    assert_int_equal(runs, 260);
    close(p.fd);
}

/* ---- frames ---- */

static void send_frame(int fd, const char *json)
{
    char text[512];
    (void)snprintf(text, sizeof text, "%zu\n%s", strlen(json), json);
    send_text(fd, text);
}

static int wanted_frames;

/* Each answer here holds "ok" once, and none holds a line break but behind its length: lines are lengths. */
static const char *frames_of(struct peer *p, int count)
{
    wait_for(p, wanted_frames += count);
    turn_once();
    ssize_t n = read(p->fd, p->in + p->len, sizeof p->in - 1 - p->len);
    p->len += n > 0 ? (size_t)n : 0;
    p->in[p->len] = '\0';
    return p->in;
}

static struct peer dial_frames(void)
{
    struct peer p = {.fd = dial()};
    send_text(p.fd, "frames\n");
    wanted_frames = 1;
    wait_for(&p, 1);
    assert_non_null(strstr(p.in, "{\"ok\":true,\"result\":{\"session\":"));
    return p;
}

static void test_frames(void **state)
{
    (void)state;
    struct peer p = dial_frames();
    send_frame(p.fd, "{\"id\":7,\"op\":\"command\",\"text\":\"echo \\u0041 b\"}");
    assert_non_null(strstr(frames_of(&p, 1), "\n{\"id\":7,\"ok\":true,\"result\":\"A b\"}"));
    send_frame(p.fd, "{\"id\":\"x\",\"op\":\"eval\",\"json\":true,\"text\":\"print(1) return 2\"}");
    const char *in = frames_of(&p, 2);
    assert_non_null(strstr(in, "{\"id\":\"x\",\"out\":\"1\\u000a\"}"));
    assert_non_null(strstr(in, "\"result\":2"));
    close(p.fd);
}

static void test_cancel_by_frame(void **state)
{
    (void)state;
    struct peer p = dial_frames();
    send_frame(p.fd, "{\"id\":1,\"op\":\"eval\",\"text\":\"while true do end\"}");
    turn_once();
    send_frame(p.fd, "{\"id\":2,\"op\":\"eval\",\"text\":\"1\"}");
    assert_non_null(strstr(frames_of(&p, 1), "{\"id\":2,\"ok\":false,\"error\":\"a command runs already"));
    send_frame(p.fd, "{\"op\":\"cancel\"}");
    assert_non_null(strstr(frames_of(&p, 1), "{\"id\":1,\"ok\":false,\"error\":\"cancelled\"}"));
    send_frame(p.fd, "{\"id\":3,\"op\":\"eval\",\"json\":true,\"text\":\"3\"}");
    assert_non_null(strstr(frames_of(&p, 1), "\"result\":3"));
    close(p.fd);
}

static void test_frames_that_are_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "x\n", "-1\n", "0\n", "12345678\n", "262145\n", "99999999999999999999", "\n", "1 \n", "GET / HTTP/1.1\r\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct peer p = dial_frames();
        send_text(p.fd, wrong[i]);
        wait_for(&p, 0);
        assert_non_null(strstr(p.in, "expected a frame"));
        close(p.fd);
    }
    static const char *const odd[] = {
        "[]",
        "{}",
        "{\"op\":5}",
        "{\"op\":\"fly\",\"text\":\"\"}",
        "{\"id\":{},\"op\":\"\"}",
        "x",
        "{\"id\":\"0123456789012345678901234567890123456789\",\"op\":\"eval\",\"text\":1}"};
    struct peer p = dial_frames();
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        send_frame(p.fd, odd[i]);
        assert_non_null(strstr(frames_of(&p, 1), "\"ok\":false"));
    }
    send_frame(p.fd, "{\"id\":3,\"op\":\"eval\",\"json\":true,\"text\":\"3\"}");
    assert_non_null(strstr(frames_of(&p, 1), "\"result\":3"));
    close(p.fd);
}

static void test_eval_in_a_line(void **state)
{
    (void)state;
    struct peer p = {.fd = dial()};
    send_text(p.fd, "eval print('a') return 1 + 1\neval (\neval sleep(0.01)\necho after\n");
    wait_for(&p, 4);
    assert_non_null(strstr(p.in, "\"result\":2"));
    assert_non_null(strstr(p.in, "\"output\":\"a\\u000a\""));
    assert_non_null(strstr(p.in, "\"unfinished\":true"));
    assert_non_null(strstr(p.in, "\"result\":\"after\"}\n")); /* the last one: lines wait for each other */
    close(p.fd);
}

/* A command whose peer has gone ends with it, asked for by frames or by lines. */
static void test_hang_up_while_it_runs(void **state)
{
    (void)state;
    struct tm_buf list = {0};
    struct peer p = dial_frames();
    send_frame(p.fd, "{\"id\":1,\"op\":\"eval\",\"text\":\"sleep(1000)\"}");
    turn_once();
    close(p.fd);
    struct peer q = {.fd = dial()};
    send_text(q.fd, "eval sleep(1000)\n");
    turn_once();
    close(q.fd);
    int64_t begun_us = tm_clock_mono_us();
    do {
        turn_once();
        tm_buf_clear(&list);
        assert_int_equal(tm_control_put_sessions(control, &list), TM_OK);
    } while (list.len > 2 && tm_clock_mono_us() - begun_us < DEADLINE_US);
    assert_string_equal(tm_buf_cstr(&list), "[]");
    tm_buf_fini(&list);
}

static void test_kill(void **state)
{
    (void)state;
    struct tm_error err;
    unsigned number;
    struct peer p = dial_frames();
    assert_int_equal(sscanf(strstr(p.in, "session\":"), "session\":%u", &number), 1);
    assert_int_equal(tm_control_kill(control, number + 1, false, &err), TM_ENOENT);
    assert_int_equal(tm_control_kill(control, number, false, &err), TM_ESTATE);
    send_frame(p.fd, "{\"id\":1,\"op\":\"eval\",\"text\":\"while true do end\"}");
    turn_once();
    assert_int_equal(tm_control_kill(control, number, false, &err), TM_OK);
    assert_non_null(strstr(frames_of(&p, 1), "ended by another session"));
    assert_int_equal(tm_control_kill(control, number, true, &err), TM_OK);
    wait_for(&p, 0);
    close(p.fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commands),
        TEST(test_split_writes),
        TEST(test_half_close_still_gets_the_answers),
        TEST(test_hang_ups_cost_nothing),
        TEST(test_long_line_is_refused),
        TEST(test_large_answers),
        TEST(test_peer_that_does_not_read),
        TEST(test_binary_garbage),
        TEST(test_sessions_are_bounded),
        TEST(test_no_session_makes_room_for_a_lower_role),
        TEST(test_idle_sessions_end),
        TEST(test_the_socket_file),
        TEST(test_a_link_in_the_place_of_the_socket),
        TEST(test_a_stale_socket_is_replaced_and_a_file_is_not),
        TEST(test_a_line_in_drips),
        TEST(test_too_many_commands_wait),
        TEST(test_frames),
        TEST(test_cancel_by_frame),
        TEST(test_frames_that_are_none),
        TEST(test_eval_in_a_line),
        TEST(test_hang_up_while_it_runs),
        TEST(test_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
