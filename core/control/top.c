#include "control/top.h"

#include "base/clock.h"
#include "control/view.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define EVERY_US TM_US_PER_S
#define PATIENCE_US (3 * TM_US_PER_S)

struct top {
    const struct tm_fetch_source *source;
    struct tm_fetch *fetch; /* under way; NULL: none */
    int64_t asked_us;       /* monotonic */
    struct tm_buf document; /* the newest, with 16 zeros behind it */
    size_t document_len;
    struct tm_view_history history;
    struct tm_sheet sheet;
    struct tm_buf frame;
    char trouble[sizeof((struct tm_error *)0)->message]; /* why nothing newer comes; "": nothing is wrong */
    size_t rows, columns, from;                          /* from: the first line shown */
    bool quit, dirty;
};

/* ---- the terminal ---- */

static volatile sig_atomic_t resized, ended;

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        ended = 1;
}

static void write_all(const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);
        if (n < 0 && errno != EINTR)
            return;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void write_text(const char *text)
{
    write_all(text, strlen(text));
}

/* The signals wait until ppoll, so that none comes between a look and the waiting. */
static void catch_signals(sigset_t *while_waiting)
{
    static const int numbers[] = {SIGWINCH, SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&blocked, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, while_waiting);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigdelset(while_waiting, numbers[i]);
}

static bool take_terminal(struct termios *before)
{
    if (tcgetattr(STDIN_FILENO, before) < 0)
        return false;
    struct termios raw = *before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* or the shell would come back to a screen that is ours */
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_text("\x1b[?1049h\x1b[?25l"); /* another screen, no cursor */
    return true;
}

static void give_terminal_back(const struct termios *before)
{
    write_text("\x1b[?25h\x1b[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, before);
}

static void measure(struct top *t)
{
    struct winsize size = {0};
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    t->rows = size.ws_row > 1 ? size.ws_row : 24;
    t->columns = size.ws_col > 9 ? size.ws_col : 80;
    t->dirty = true;
}

/* ---- asking ---- */

static void note_trouble(struct top *t, const struct tm_error *err)
{
    (void)snprintf(t->trouble, sizeof t->trouble, "%s", err->message);
    tm_fetch_end(t->fetch);
    t->fetch = NULL;
    t->dirty = true;
}

static void ask(struct top *t, int64_t now_us)
{
    struct tm_error err;
    t->asked_us = now_us;
    if (tm_fetch_begin(t->source, &t->fetch, &err) < 0)
        note_trouble(t, &err);
}

static void keep(struct top *t, const char *document, size_t len)
{
    tm_buf_clear(&t->document);
    TM_FATAL_UNLESS(tm_buf_append(&t->document, document, len) == TM_OK && tm_buf_reserve(&t->document, 16) == TM_OK);
    memset(t->document.data + len, 0, 16);
    t->document_len = len;
    t->trouble[0] = '\0';
    tm_view_note(&t->history, (struct tm_span){(const char *)t->document.data, len});
    t->dirty = true;
}

static void go_on(struct top *t)
{
    const char *document;
    size_t len;
    struct tm_error err;
    int rc = tm_fetch_step(t->fetch, &document, &len, &err);
    if (rc == 1)
        keep(t, document, len);
    else if (rc < 0)
        note_trouble(t, &err);
    if (rc == 1) {
        tm_fetch_end(t->fetch);
        t->fetch = NULL;
    }
}

/* Ask when it is time, give up what takes too long. How long to wait. */
static int64_t turn(struct top *t)
{
    int64_t now_us = tm_clock_mono_us(), due_us = t->asked_us + (t->fetch ? PATIENCE_US : EVERY_US);
    if (now_us < due_us)
        return due_us - now_us;
    if (t->fetch) {
        struct tm_error err;
        (void)tm_error_set(&err, TM_ETIMEOUT, "tidemill does not answer");
        note_trouble(t, &err);
    }
    ask(t, now_us);
    return t->fetch ? PATIENCE_US : EVERY_US;
}

/* ---- showing ---- */

static void put(struct top *t, const char *bytes, size_t len)
{
    TM_FATAL_UNLESS(tm_buf_append(&t->frame, bytes, len) == TM_OK);
}

static void put_lines(struct top *t, size_t room)
{
    const char *at = (const char *)t->sheet.text.data, *end = at + t->sheet.text.len;
    for (size_t line = 0; at < end && line < t->from + room; line++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        if (line >= t->from) {
            put(t, at, (size_t)(next - at));
            put(t, "\x1b[K\r\n", 5);
        }
        at = next + 1;
    }
    put(t, "\x1b[J", 3);
}

/* The last line: what is wrong, or what can be done. */
static void put_foot(struct top *t, size_t room)
{
    struct tm_sheet foot = {.width = t->columns, .colour = t->sheet.colour, .utf8 = t->sheet.utf8};
    char place[40];
    (void)snprintf(place, sizeof place, "\x1b[%zu;1H", t->rows);
    put(t, place, strlen(place));
    size_t below = t->sheet.lines > t->from + room ? t->sheet.lines - t->from - room : 0;
    if (t->trouble[0])
        tm_sheet_put(&foot, TM_STYLE_RED, "%s; trying again", t->trouble);
    else
        tm_sheet_put(&foot, TM_STYLE_DIM, "q quit   j k scroll");
    if (!t->trouble[0] && below)
        tm_sheet_put(&foot, TM_STYLE_DIM, "   %zu lines below", below);
    put(t, (const char *)foot.text.data, foot.text.len);
    put(t, "\x1b[K", 3);
    tm_sheet_fini(&foot);
}

static void draw(struct top *t)
{
    size_t room = t->rows - 1;
    tm_sheet_clear(&t->sheet);
    t->sheet.width = t->columns;
    if (t->document_len)
        tm_view_put(&t->sheet, (struct tm_span){(const char *)t->document.data, t->document_len}, &t->history);
    size_t last = t->sheet.lines > room ? t->sheet.lines - room : 0;
    t->from = t->from < last ? t->from : last;
    tm_buf_clear(&t->frame);
    put(t, "\x1b[H", 3);
    put_lines(t, room);
    put_foot(t, room);
    write_all((const char *)t->frame.data, t->frame.len);
    t->dirty = false;
}

/* ---- keys ---- */

static void scroll(struct top *t, long lines)
{
    if (lines < 0 && (size_t)-lines > t->from)
        t->from = 0;
    else
        t->from += (size_t)lines; /* drawing bounds it */
    t->dirty = true;
}

static void read_keys(struct top *t)
{
    static const struct {
        const char *key;
        long lines;
    } keys[] = {{"\x1b[A", -1},    {"\x1b[B", 1}, {"\x1bOA", -1}, {"\x1bOB", 1},       {"\x1b[5~", -20},
                {"\x1b[6~", 20},   {"k", -1},     {"j", 1},       {"\x1b[H", -100000}, {"g", -100000},
                {"\x1b[F", 10000}, {"G", 10000},  {" ", 20}};
    char typed[64];
    ssize_t n = read(STDIN_FILENO, typed, sizeof typed - 1);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        t->quit = true; /* nobody is there any more */
    typed[n > 0 ? n : 0] = '\0';
    for (const char *at = typed; *at;) {
        size_t i = 0, count = sizeof keys / sizeof *keys;
        while (i < count && strncmp(at, keys[i].key, strlen(keys[i].key)) != 0)
            i++;
        if (i < count)
            scroll(t, keys[i].lines);
        t->quit = t->quit || *at == 'q' || *at == 'Q';
        at += i < count ? strlen(keys[i].key) : 1;
    }
}

/* ---- the whole ---- */

static void wait_for(struct top *t, int64_t timeout_us, const sigset_t *mask)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = -1}};
    if (t->fetch)
        fds[1] = (struct pollfd){.fd = tm_fetch_fd(t->fetch), .events = tm_fetch_events(t->fetch)};
    struct timespec timeout = {timeout_us / TM_US_PER_S, timeout_us % TM_US_PER_S * 1000};
    int n = ppoll(fds, 2, &timeout, mask);
    if (n > 0 && fds[1].revents)
        go_on(t);
    if (n > 0 && fds[0].revents)
        read_keys(t);
}

static void show(struct top *t, const sigset_t *mask)
{
    while (!t->quit && !ended) {
        if (resized) {
            resized = 0;
            measure(t);
        }
        int64_t timeout_us = turn(t);
        if (t->dirty)
            draw(t);
        wait_for(t, timeout_us, mask);
    }
}

/* Before the screen is taken: who cannot be reached at all is told as any command would. */
static int ask_first(struct top *t)
{
    struct tm_error err;
    struct tm_buf first = {0};
    int rc = tm_fetch_now(t->source, PATIENCE_US, &first, &err);
    if (rc)
        fprintf(stderr, "tidemill top: %s\n", err.message);
    else
        keep(t, (const char *)first.data, first.len);
    tm_buf_fini(&first);
    t->asked_us = tm_clock_mono_us();
    return rc;
}

int tm_top_run(const struct tm_fetch_source *source, bool colour, bool utf8)
{
    struct top t = {.source = source, .sheet = {.colour = colour, .utf8 = utf8}};
    struct termios before;
    sigset_t while_waiting;
    int rc = ask_first(&t);
    if (!rc && take_terminal(&before)) {
        catch_signals(&while_waiting);
        measure(&t);
        show(&t, &while_waiting);
        give_terminal_back(&before);
    }
    tm_fetch_end(t.fetch);
    tm_buf_fini(&t.document);
    tm_buf_fini(&t.frame);
    tm_sheet_fini(&t.sheet);
    return rc ? 1 : 0;
}
