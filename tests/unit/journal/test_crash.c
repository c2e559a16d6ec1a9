/*
 * The crash matrix (FAILURES X2, X3, X6): a run of the journal is ended, or failed, at its nth call of the file system,
 * for every n until a run goes through untouched; then power is lost in four ways; then the journal is opened again,
 * which may itself be ended at its mth call. Whatever happens: every record that was reported durable and not released
 * is there exactly once, sequences have no hole, nothing is there that was never appended, and it goes on from there.
 */
#include "records.h"

#include "memdisk.h"

#include <sys/wait.h>

#define STREAMS 2
#define TURNS 44
#define CHILD_OPEN_FAILED 3
#define CHILD_WRONG 4

static const char *const names[STREAMS] = {"trades", "deltas"};

/* What the run said before it ended; shared with the child. */
struct ledger {
    uint8_t epoch[16];
    int64_t appended[STREAMS], durable[STREAMS], released[STREAMS];
    bool finished; /* the run came to its end, all of it durable */
};

struct matrix {
    struct memdisk *disk, *copy;
    struct tm_fs fs;
    struct ledger *ledger;
};

static int setup(void **state)
{
    struct matrix *m = calloc(1, sizeof *m);
    if (!m)
        return -1;
    m->disk = memdisk_create(8192);
    m->copy = memdisk_create(8192);
    m->fs = memdisk_fs(m->disk);
    m->ledger = mmap(NULL, sizeof *m->ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *state = m;
    return m->ledger == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
    struct matrix *m = *state;
    memdisk_destroy(m->disk);
    memdisk_destroy(m->copy);
    munmap(m->ledger, sizeof *m->ledger);
    free(m);
    return 0;
}

static struct tm_journal_options options(struct matrix *m)
{
    return (struct tm_journal_options){.dir = "mem", .segment_bytes = 4096, .bytes_max = 65536, .fs = &m->fs};
}

/* ---- the run, in a child ---- */

static void must(bool condition)
{
    if (!condition)
        _exit(CHILD_WRONG);
}

static int stream_index(const char *name)
{
    return strcmp(name, names[0]) == 0 ? 0 : 1;
}

static void append_turn(struct tm_journal *j, const int ids[STREAMS], struct ledger *l, int turn)
{
    for (int i = 0; i < 3 + turn % 5; i++) {
        int s = (i + turn) % STREAMS;
        must(append_record(j, ids[s], s, l->appended[s] + 1) == l->appended[s] + 1);
        l->appended[s]++;
    }
    tm_journal_flush(j);
}

static void await_durable(struct tm_journal *j, struct ledger *l)
{
    must(tm_journal_wait(j, WAIT_US) == TM_OK);
    memcpy(l->durable, l->appended, sizeof l->durable);
}

/* Read a part, as the store does, and release it. */
static void consume(struct tm_journal *j, struct tm_journal_reader *r, struct ledger *l, int records)
{
    struct tm_journal_record record;
    struct tm_error err;
    int64_t taken[STREAMS];
    memcpy(taken, l->released, sizeof taken);
    while (records-- > 0 || !tm_journal_reader_at_frame_end(r)) {
        int rc;
        while ((rc = tm_journal_reader_next(r, &record, &err)) < 0)
            ; /* a failed read is tried again */
        if (rc == 0)
            break;
        int s = stream_index(record.stream);
        must(record.seq == taken[s] + 1 && record_ok(&record, s));
        taken[s] = record.seq;
    }
    memcpy(l->released, taken, sizeof taken);
    tm_journal_release(j, tm_journal_reader_position(r));
}

static void run(struct matrix *m)
{
    struct tm_journal_options o = options(m);
    struct tm_journal *j;
    struct tm_journal_reader *r;
    struct ledger *l = m->ledger;
    int ids[STREAMS];
    if (tm_journal_open(&o, &j, NULL))
        _exit(CHILD_OPEN_FAILED);
    memcpy(l->epoch, tm_journal_epoch(j), 16);
    for (int s = 0; s < STREAMS; s++)
        must((ids[s] = tm_journal_stream(j, names[s], "a,b,seq", NULL)) >= 0);
    must(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, NULL) == TM_OK);
    for (int turn = 0; turn < TURNS; turn++) {
        append_turn(j, ids, l, turn);
        if (turn % 3 != 1)
            await_durable(j, l);
        if (turn % 6 == 5)
            consume(j, r, l, 18);
        if (turn == TURNS / 2)
            must((ids[0] = tm_journal_stream(j, names[0], "a,b,c,seq", NULL)) >= 0);
    }
    await_durable(j, l);
    tm_journal_reader_close(r);
    must(tm_journal_close(j, NULL) == TM_OK);
    l->finished = true;
    _exit(0);
}

static void open_and_close(struct matrix *m)
{
    struct tm_journal_options o = options(m);
    struct tm_journal *j;
    if (tm_journal_open(&o, &j, NULL))
        _exit(CHILD_OPEN_FAILED);
    must(tm_journal_close(j, NULL) == TM_OK);
    _exit(0);
}

/* What a reader is given counts as durable, whoever wrote it. */
static void open_and_read(struct matrix *m)
{
    struct tm_journal_options o = options(m);
    struct tm_journal *j;
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    if (tm_journal_open(&o, &j, NULL))
        _exit(CHILD_OPEN_FAILED);
    must(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, NULL) == TM_OK);
    while (tm_journal_reader_next(r, &record, NULL) == 1)
        m->ledger->durable[stream_index(record.stream)] = record.seq;
    _exit(0);
}

static int in_child(struct matrix *m, void (*what)(struct matrix *m))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY); /* the errors that are made on purpose */
        dup2(quiet, STDERR_FILENO);
        what(m);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_WRONG)
        fail_msg("the run itself found something wrong (call %llu)", (unsigned long long)m->disk->fault_at);
    return WEXITSTATUS(status);
}

/* ---- what must hold after ---- */

static void read_all(struct tm_journal *j, const struct ledger *l, int64_t last[STREAMS])
{
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    struct tm_error err = {0};
    assert_int_equal(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, &err), TM_OK);
    memset(last, 0, STREAMS * sizeof *last);
    int rc;
    while ((rc = tm_journal_reader_next(r, &record, &err)) == 1) {
        int s = stream_index(record.stream);
        assert_true(record_ok(&record, s));
        if (last[s] == 0)
            assert_true(record.seq <= l->released[s] + 1);
        else
            assert_int_equal(record.seq, last[s] + 1);
        last[s] = record.seq;
    }
    assert_int_equal(rc, 0);
    tm_journal_reader_close(r);
}

static void check_survivors(struct tm_journal *j, const struct ledger *l)
{
    int64_t last[STREAMS];
    bool any = false;
    read_all(j, l, last);
    for (int s = 0; s < STREAMS; s++) {
        any |= l->durable[s] > 0;
        assert_true(last[s] <= l->appended[s]);
        if (last[s]) /* else all of it was released and deleted */
            assert_int_equal(tm_journal_last_seq(j, names[s]), last[s]);
        assert_true(tm_journal_last_seq(j, names[s]) >= l->durable[s]);
        assert_true(last[s] >= l->durable[s] || l->released[s] >= l->durable[s]);
    }
    if (any)
        assert_memory_equal(tm_journal_epoch(j), l->epoch, 16);
    struct tm_journal_stats stats = tm_journal_stats(j);
    assert_true(stats.damaged_frames == 0 && stats.damaged_bytes == 0);
}

/* The journal goes on: what is appended now follows what was there, and both are there after another restart. */
static void check_goes_on(struct matrix *m, struct tm_journal *j, struct ledger *l)
{
    int64_t last[STREAMS];
    for (int s = 0; s < STREAMS; s++) {
        int id = tm_journal_stream(j, names[s], "a,b,seq", NULL);
        l->appended[s] = tm_journal_last_seq(j, names[s]);
        for (int i = 0; i < 4; i++, l->appended[s]++)
            assert_int_equal(append_record(j, id, s, l->appended[s] + 1), l->appended[s] + 1);
    }
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    struct tm_journal_options o = options(m);
    struct tm_error err = {0};
    if (tm_journal_open(&o, &j, &err))
        fail_msg("%s", err.message);
    read_all(j, l, last);
    for (int s = 0; s < STREAMS; s++)
        assert_int_equal(last[s], l->appended[s]);
    assert_int_equal(tm_journal_stats(j).damaged_bytes, 0);
    assert_int_equal(tm_journal_stats(j).torn_bytes, 0);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    assert_int_equal(memdisk_open_handles(m->disk), 0);
}

static void check_recovery(struct matrix *m)
{
    struct ledger l = *m->ledger;
    struct tm_journal_options o = options(m);
    struct tm_journal *j;
    struct tm_error err = {0};
    if (tm_journal_open(&o, &j, &err))
        fail_msg("%s", err.message);
    check_survivors(j, &l);
    check_goes_on(m, j, &l);
}

/* ---- the matrix ---- */

static int run_once(struct matrix *m, enum mem_fault fault, uint64_t at, uint64_t calls)
{
    memdisk_clear(m->disk);
    memset(m->ledger, 0, sizeof *m->ledger);
    m->disk->fault = fault;
    m->disk->fault_at = at;
    m->disk->fault_calls = calls;
    m->disk->random = at * 1000 + fault;
    return in_child(m, run);
}

/* The process dies, the next one reads what it finds, and then the power fails: what was read must be there. */
static void crash_read_and_lose_power(struct matrix *m)
{
    struct ledger before = *m->ledger;
    memdisk_copy(m->disk, m->copy);
    memdisk_reboot(m->disk, MEM_LOSS_NONE);
    assert_int_equal(in_child(m, open_and_read), 0);
    memdisk_reboot(m->disk, MEM_LOSS_ALL);
    check_recovery(m);
    *m->ledger = before;
}

/* End the process at the nth call; lose power; end the recovery at its mth call, now and then; recover. */
static void crash_at(struct matrix *m, uint64_t n)
{
    memdisk_copy(m->copy, m->disk);
    for (int loss = 0; loss < MEM_LOSS_KINDS; loss++) {
        memdisk_copy(m->disk, m->copy);
        memdisk_reboot(m->disk, (enum mem_loss)loss);
        if ((n + (uint64_t)loss) % 3 == 0) {
            m->disk->fault = MEM_KILL;
            m->disk->fault_calls = 1;
            m->disk->calls = 0;
            m->disk->fault_at = 1 + mem_random(m->disk, 20);
            int rc = in_child(m, open_and_close);
            assert_true(rc == MEM_KILLED || rc == 0);
            memdisk_reboot(m->disk,
                           loss ? (enum mem_loss)(1 + mem_random(m->disk, MEM_LOSS_KINDS - 1)) : MEM_LOSS_NONE);
        }
        check_recovery(m);
    }
    crash_read_and_lose_power(m);
}

static void tell_points(const char *what, uint64_t calls, uint64_t recoveries)
{
    print_message("%s at each of %llu calls, %llu recoveries checked\n", what, (unsigned long long)calls,
                  (unsigned long long)recoveries);
}

static void test_killed_at_every_call(void **state)
{
    struct matrix *m = *state;
    uint64_t n = 1;
    for (; run_once(m, MEM_KILL, n, 1) == MEM_KILLED; n++)
        crash_at(m, n);
    assert_true(m->ledger->finished);
    tell_points("killed", n - 1, (n - 1) * (MEM_LOSS_KINDS + 1));
    assert_true(n > 100);
    memdisk_reboot(m->disk, MEM_LOSS_ALL);
    check_recovery(m);
}

/* Exit at the end, or the abort that a failed sync must cause, or a clean refusal to open. */
static void fail_at_every_call(struct matrix *m, enum mem_fault fault, uint64_t calls)
{
    uint64_t n = 1, aborted = 0;
    for (;; n++) {
        int rc = run_once(m, fault, n, calls);
        if (rc == 0) {
            assert_true(m->ledger->finished);
            assert_memory_equal(m->ledger->durable, m->ledger->appended, sizeof m->ledger->durable);
        } else if (rc == -SIGABRT) {
            assert_true(fault == MEM_EIO || fault == MEM_ENOSPC);
            assert_true(m->disk->last_op == MEM_FDATASYNC || m->disk->last_op == MEM_FSYNC);
            aborted++;
        } else {
            assert_int_equal(rc, CHILD_OPEN_FAILED);
        }
        bool untouched = m->disk->calls < n;
        memdisk_reboot(m->disk, rc == 0 && n % 2 ? MEM_LOSS_ALL : MEM_LOSS_NONE);
        check_recovery(m);
        if (untouched)
            break;
    }
    tell_points("failed", n - 1, n);
    assert_true(n > 100);
    if (fault == MEM_EIO || fault == MEM_ENOSPC)
        assert_true(aborted > 10);
}

static void test_enospc_at_every_call(void **state)
{
    fail_at_every_call(*state, MEM_ENOSPC, 1);
}

static void test_eio_at_every_call(void **state)
{
    fail_at_every_call(*state, MEM_EIO, 1);
}

static void test_eintr_at_every_call(void **state)
{
    fail_at_every_call(*state, MEM_EINTR, 2);
}

static void test_short_write_at_every_call(void **state)
{
    fail_at_every_call(*state, MEM_SHORT, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_at_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enospc_at_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eio_at_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eintr_at_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_short_write_at_every_call, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
