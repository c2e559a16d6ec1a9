/* Nobody who logs waits for stderr, no line is lost without a word, and none at the end of the process. */
#include "unit.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/log_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINES 30000       /* of a hundred bytes: three rings */
#define THREAD_LINES 4000 /* of each of four */
#define PIPE_BYTES 4096
#define SILENCE_MS 1000
#define CHILD_LINES 500 /* several pipes full */

static char text[(size_t)16 << 20];
static int real_stderr, reader;

/* stderr is a pipe that takes 4 KiB. */
static void begin(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES), PIPE_BYTES);
    real_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
}

static void start(void)
{
    struct tm_error err;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    if (tm_log_start(&err))
        fail_msg("%s", err.message);
}

static void end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(reader);
}

/* All that comes until the other end is closed, or nothing came for a second. */
static const char *drain(void)
{
    struct pollfd fd = {.fd = reader, .events = POLLIN};
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len + 1 < sizeof text && poll(&fd, 1, SILENCE_MS) > 0) {
        n = read(reader, text + len, sizeof text - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    return text;
}

static const char *in_line(const char *line, const char *wanted)
{
    const char *end_of_line = strchr(line, '\n');
    assert_non_null(end_of_line); /* lines are whole */
    return memmem(line, (size_t)(end_of_line - line), wanted, strlen(wanted));
}

static uint64_t number_in(const char *line, const char *name)
{
    const char *at = in_line(line, name);
    assert_non_null(at);
    return strtoull(at + strlen(name), NULL, 10);
}

static bool is_lost_line(const char *line)
{
    return in_line(line, "event=\"lines lost here") != NULL;
}

/* Lines are numbered by ` i=`: those that are there and those that are said to be lost are all, in order. */
static uint64_t count_all(const char *at, uint64_t *lost)
{
    uint64_t next = 0;
    *lost = 0;
    for (; *at; at = strchr(at, '\n') + 1) {
        assert_memory_equal(at, "time=20", 7);
        if (is_lost_line(at)) {
            *lost += number_in(at, " lines=");
            next += number_in(at, " lines=");
        } else {
            assert_int_equal(number_in(at, " i="), next);
            next++;
        }
    }
    return next;
}

static void log_lines(uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        tm_log(TM_LOG_INFO, "test", "a line among many that nobody reads", TM_F_U64("i", i));
}

static void test_nobody_reads(void **state)
{
    (void)state;
    uint64_t before = tm_log_lost(), said;
    begin();
    start();
    int64_t begun_us = tm_clock_mono_us();
    log_lines(0, LINES);
    assert_true(tm_clock_mono_us() - begun_us < 20 * TM_US_PER_S); /* and not for ever */
    assert_true(tm_log_lost() - before > LINES / 2);
    assert_int_equal(count_all(drain(), &said), LINES); /* the loss is said without another line that comes */
    assert_int_equal(said, tm_log_lost() - before);
    tm_log_writer_stop();
    end();
}

static void test_lines_after_a_loss(void **state)
{
    (void)state;
    uint64_t before = tm_log_lost(), said;
    begin();
    start();
    log_lines(0, LINES);
    const char *part = drain();
    uint64_t seen = count_all(part, &said);
    assert_int_equal(seen, LINES);
    log_lines(0, 10);
    assert_int_equal(count_all(drain(), &said), 10);
    assert_int_equal(said, 0);
    assert_true(tm_log_lost() > before);
    tm_log_writer_stop();
    end();
}

static void *log_as_thread(void *arg)
{
    for (uint64_t i = 0; i < THREAD_LINES; i++)
        tm_log(TM_LOG_INFO, "test", "a line of one of many threads", TM_F_STR("thread", arg), TM_F_U64("i", i));
    return NULL;
}

static uint64_t follow(const char *at, uint64_t next[4])
{
    uint64_t lines = 0;
    for (; *at; at = strchr(at, '\n') + 1) {
        if (is_lost_line(at)) {
            lines += number_in(at, " lines=");
            continue;
        }
        uint64_t thread = number_in(at, " thread="), i = number_in(at, " i=");
        assert_true(thread < 4 && i >= next[thread]);
        next[thread] = i + 1;
        lines++;
    }
    return lines;
}

static void test_lines_of_a_thread_stay_in_order(void **state)
{
    (void)state;
    static char names[4][2] = {"0", "1", "2", "3"};
    uint64_t next[4] = {0};
    pthread_t threads[4];
    begin();
    start();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_as_thread, names[i]), 0);
    uint64_t lines = follow(drain(), next); /* while they log */
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    lines += follow(drain(), next);
    assert_int_equal(lines, 4 * THREAD_LINES);
    tm_log_writer_stop();
    end();
}

/* What fails is lost, too, and said as soon as that is possible. */
static void test_stderr_that_fails(void **state)
{
    (void)state;
    uint64_t before = tm_log_lost();
    begin();
    start();
    int good = dup(STDERR_FILENO), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    dup2(full, STDERR_FILENO);
    log_lines(0, 7);
    for (int i = 0; i < 2000 && tm_log_lost() - before < 7; i++)
        usleep(1000);
    assert_int_equal(tm_log_lost() - before, 7);
    dup2(good, STDERR_FILENO);
    close(good);
    close(full);
    const char *at = drain();
    assert_true(is_lost_line(at));
    assert_int_equal(number_in(at, " lines="), 7);
    assert_ptr_equal(strchr(at, '\n') + 1, at + strlen(at));
    tm_log_writer_stop();
    end();
}

/* ---- ends ---- */

static void end_by_exit(void)
{
    exit(7);
}

static void end_by_abort(void)
{
    abort();
}

static void end_by_broken_promise(void)
{
    TM_FATAL_UNLESS(real_stderr == -5);
}

static void end_by_signal(void)
{
    (void)raise(SIGBUS);
}

static const struct {
    void (*end)(void);
    bool is_exit;
    int number;
    const char *last_words;
} ends[] = {
    {end_by_exit, true, 7, NULL},
    {end_by_abort, false, SIGABRT, NULL},
    {end_by_broken_promise, false, SIGABRT, "broken promise at "},
    {end_by_signal, false, SIGBUS, NULL},
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ENDS 3 /* bad addresses are theirs */
#else
#define ENDS 4
#endif

static pid_t begin_child(size_t which)
{
    begin();
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(reader);
        signal(SIGBUS, SIG_DFL); /* and not cmocka's */
        start();
        log_lines(0, CHILD_LINES);
        ends[which].end();
    }
    dup2(real_stderr, STDERR_FILENO); /* the child's end of the pipe is the only one */
    return child;
}

static void assert_end(pid_t child, size_t which)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WIFEXITED(status), ends[which].is_exit);
    assert_int_equal(ends[which].is_exit ? WEXITSTATUS(status) : WTERMSIG(status), ends[which].number);
}

static void test_an_end_writes_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < ENDS; i++) {
        uint64_t said;
        pid_t child = begin_child(i);
        char *all = (char *)(uintptr_t)drain(), *last = ends[i].last_words ? strstr(all, "tidemill: ") : NULL;
        if (ends[i].last_words) {
            assert_non_null(last);
            assert_non_null(strstr(last, ends[i].last_words));
            assert_ptr_equal(strchr(last, '\n') + 1, last + strlen(last));
            *last = '\0';
        }
        assert_int_equal(count_all(all, &said), CHILD_LINES);
        assert_int_equal(said, 0);
        assert_end(child, i);
        end();
    }
}

static void test_an_end_does_not_wait_for_ever(void **state)
{
    (void)state;
    for (size_t i = 0; i < ENDS; i++) {
        int64_t begun_us = tm_clock_mono_us();
        pid_t child = begin_child(i); /* nobody reads */
        assert_end(child, i);
        assert_true(tm_clock_mono_us() - begun_us < 10 * TM_US_PER_S);
        end();
    }
}

static void test_a_child_writes_itself(void **state)
{
    (void)state;
    uint64_t said;
    begin();
    start();
    pid_t child = fork();
    if (child == 0) {
        log_lines(0, 3);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(count_all(drain(), &said), 3);
    tm_log_writer_stop();
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_end_writes_all),
        cmocka_unit_test(test_an_end_does_not_wait_for_ever),
        cmocka_unit_test(test_nobody_reads),
        cmocka_unit_test(test_lines_after_a_loss),
        cmocka_unit_test(test_lines_of_a_thread_stay_in_order),
        cmocka_unit_test(test_stderr_that_fails),
        cmocka_unit_test(test_a_child_writes_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
