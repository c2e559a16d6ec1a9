#include "base/log_writer.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_US (200 * TM_US_PER_MS) /* what an end of the process may wait for stderr */
#define LOOK_MS 50                    /* how soon a thread that waits for stderr sees that it is to stop */
#define NAP_NS 500000
#define FAILED_NAP_NS 50000000

enum state { DIRECT, RUNNING, GIVEN_UP }; /* GIVEN_UP: stderr took nothing at the end, and is not to hold that up */

struct head {
    uint32_t len;
    uint64_t lost; /* lines dropped just before this one */
};

static struct {
    pthread_mutex_t lock; /* guards what follows, up to the atomics */
    pthread_cond_t filled;
    char *bytes;
    size_t size, at, used; /* the oldest record is at `at` */
    uint64_t unsaid;       /* dropped, and neither said nor noted in a record */
    bool refusing;

    _Atomic int state;
    atomic_bool stopping, ended;
    _Atomic uint64_t taken, written, lost; /* taken and written: records; equal: all is out */
    tm_log_writer_lost_line *lost_line;
    pthread_t thread;
} w = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

/* ---- the ring, under the lock ---- */

static void copy_in(const void *from, size_t len)
{
    size_t at = (w.at + w.used) % w.size, first = len < w.size - at ? len : w.size - at;
    memcpy(w.bytes + at, from, first);
    memcpy(w.bytes, (const char *)from + first, len - first);
    w.used += len;
}

static void copy_out(void *to, size_t len)
{
    size_t first = len < w.size - w.at ? len : w.size - w.at;
    memcpy(to, w.bytes + w.at, first);
    memcpy((char *)to + first, w.bytes, len - first);
    w.at = (w.at + len) % w.size;
    w.used -= len;
}

static void note_lost(uint64_t lines)
{
    w.unsaid += lines;
    atomic_fetch_add_explicit(&w.lost, lines, memory_order_relaxed);
}

static void put_record(const char *line, size_t len)
{
    size_t free_bytes = w.size - w.used, needed = sizeof(struct head) + len;
    if (needed > free_bytes || (w.refusing && free_bytes < w.size / 4)) {
        w.refusing = true;
        note_lost(1);
        return;
    }
    struct head head = {.len = (uint32_t)len, .lost = w.unsaid};
    w.refusing = false;
    w.unsaid = 0;
    copy_in(&head, sizeof head);
    copy_in(line, len);
    atomic_fetch_add(&w.taken, 1);
    pthread_cond_signal(&w.filled);
}

/* ---- stderr ---- */

static void nap(long ns)
{
    struct timespec t = {.tv_nsec = ns};
    (void)nanosleep(&t, NULL);
}

static bool is_writable(int timeout_ms)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&fd, 1, timeout_ms) > 0; /* an error of the descriptor is for write() to find */
}

/* Whether the line is out: one write, unless stderr takes it in parts. */
static bool write_line(const char *line, size_t len)
{
    while (len) {
        while (!is_writable(LOOK_MS))
            if (atomic_load(&w.stopping))
                return false;
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        line += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Where there is no thread a full stderr is waited for, as in any program that prints; at the end of a daemon it is not. */
static void write_now(const char *line, size_t len)
{
    if (atomic_load(&w.state) == GIVEN_UP && !is_writable(0))
        return;
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored;
}

/* ---- the thread ---- */

/* The next line, or len 0 when only the loss of some is to be told; false: it is over. */
static bool take(struct head *head, char *line)
{
    pthread_mutex_lock(&w.lock);
    while (!w.used && !w.unsaid && !atomic_load(&w.stopping))
        pthread_cond_wait(&w.filled, &w.lock);
    bool more = w.used || w.unsaid;
    *head = (struct head){.lost = w.unsaid};
    if (w.used) {
        copy_out(head, sizeof *head);
        copy_out(line, head->len);
    } else {
        w.unsaid = 0;
    }
    pthread_mutex_unlock(&w.lock);
    return more;
}

/* What could not be told is told later, together with what is lost until then. */
static void give_back(uint64_t unsaid, uint64_t lines)
{
    pthread_mutex_lock(&w.lock);
    w.unsaid += unsaid;
    note_lost(lines);
    pthread_mutex_unlock(&w.lock);
}

static void *run(void *arg)
{
    (void)arg;
    char line[TM_LOG_LINE_MAX], lost_line[TM_LOG_LINE_MAX];
    struct head head;
    while (take(&head, line)) {
        bool told = !head.lost || write_line(lost_line, w.lost_line(lost_line, head.lost));
        bool out = !head.len || write_line(line, head.len);
        if (!told || !out)
            give_back(told ? 0 : head.lost, out ? 0 : 1);
        if (head.len)
            atomic_fetch_add(&w.written, 1);
        if ((!told || !out) && atomic_load(&w.stopping))
            break;
        if (!told) /* a full disk, say: no circle of failures */
            nap(FAILED_NAP_NS);
    }
    atomic_store(&w.ended, true);
    return NULL;
}

/* ---- start and stop ---- */

/* Only what a signal handler may call. */
static void wait_for(bool (*is_so)(void), int64_t deadline_us)
{
    while (!is_so() && tm_clock_mono_us() < deadline_us)
        nap(NAP_NS);
}

static bool is_out(void)
{
    return atomic_load(&w.written) == atomic_load(&w.taken);
}

static bool has_ended(void)
{
    return atomic_load(&w.ended);
}

/* abort and the like, in whatever thread: the writing one goes on meanwhile. The action is the default one again, so the
 * signal that is sent here ends the process, wherever the first one came from. */
static void on_deadly_signal(int number)
{
    if (atomic_load(&w.state) == RUNNING)
        wait_for(is_out, tm_clock_mono_us() + FLUSH_US);
    (void)raise(number);
}

/* Those that somebody has taken already, as sanitizers do, stay theirs. */
static void take_deadly_signals(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction old, mine = {.sa_handler = on_deadly_signal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            (void)sigaction(numbers[i], &mine, NULL);
}

static void before_fork(void)
{
    pthread_mutex_lock(&w.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&w.lock);
}

static void in_child(void)
{
    atomic_store(&w.state, DIRECT);
    pthread_mutex_unlock(&w.lock);
}

static int start_thread(struct tm_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return tm_error_errno(err, TM_ENOMEM, failed, "cannot start the thread that writes the log");
    return TM_OK;
}

int tm_log_writer_start(size_t bytes, tm_log_writer_lost_line *lost, struct tm_error *err)
{
    static bool is_known;
    w.bytes = malloc(bytes);
    if (!w.bytes)
        return tm_error_set(err, TM_ENOMEM, "no memory for %zu bytes of log", bytes);
    w.size = bytes;
    w.lost_line = lost;
    int rc = start_thread(err);
    if (rc) {
        free(w.bytes);
        w.bytes = NULL;
        return rc;
    }
    atomic_store(&w.state, RUNNING);
    if (!is_known) {
        (void)pthread_atfork(before_fork, after_fork, in_child);
        (void)atexit(tm_log_writer_stop);
        take_deadly_signals();
        is_known = true;
    }
    return TM_OK;
}

static void free_ring(void)
{
    pthread_mutex_lock(&w.lock);
    free(w.bytes);
    w.bytes = NULL;
    w.size = w.at = w.used = 0;
    w.refusing = false;
    pthread_mutex_unlock(&w.lock);
    atomic_store(&w.stopping, false);
    atomic_store(&w.ended, false);
}

/* A thread that is in the middle of a write that does not return is left to the end of the process, with its ring. */
void tm_log_writer_stop(void)
{
    if (atomic_load(&w.state) != RUNNING)
        return;
    wait_for(is_out, tm_clock_mono_us() + FLUSH_US);
    pthread_mutex_lock(&w.lock);
    atomic_store(&w.state, is_out() ? DIRECT : GIVEN_UP);
    atomic_store(&w.stopping, true);
    pthread_cond_signal(&w.filled);
    pthread_mutex_unlock(&w.lock);
    wait_for(has_ended, tm_clock_mono_us() + 2 * LOOK_MS * TM_US_PER_MS);
    if (!has_ended()) {
        (void)pthread_detach(w.thread);
        return;
    }
    (void)pthread_join(w.thread, NULL);
    free_ring();
}

/* ---- lines ---- */

void tm_log_writer_put(const char *line, size_t len)
{
    bool running = atomic_load(&w.state) == RUNNING;
    if (running) {
        pthread_mutex_lock(&w.lock);
        running = atomic_load(&w.state) == RUNNING; /* and not stopped since */
        if (running)
            put_record(line, len);
        pthread_mutex_unlock(&w.lock);
    }
    if (!running)
        write_now(line, len);
}

void tm_log_writer_put_last(const char *line, size_t len)
{
    int running = RUNNING;
    if (atomic_load(&w.state) == RUNNING)
        wait_for(is_out, tm_clock_mono_us() + FLUSH_US);
    (void)atomic_compare_exchange_strong(&w.state, &running, GIVEN_UP);
    write_now(line, len);
}

uint64_t tm_log_writer_lost(void)
{
    return atomic_load_explicit(&w.lost, memory_order_relaxed);
}
