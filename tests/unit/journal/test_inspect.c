/*
 * Looking at a journal without owning it, and repairing one. What inspection finds is held against what open and a reader
 * make of the same bytes; what repair leaves, against what a reader got from the damaged ones.
 */
#include "records.h"

#include "base/log.h"
#include "journal/inspect.h"
#include "journal/repair.h"
#include "journal/segment.h"
#include "memdisk.h"

#include <dirent.h>
#include <sys/stat.h>

#define RECORDS 24
#define A_FRAME 3
#define SEGMENT "0000000000000001.seg"

struct fixture {
    struct memdisk *disk, *whole;
    struct tm_fs fs;
    char dir[64]; /* of the real file system, for repairs */
    uint8_t bytes[16384];
    size_t len, header_bytes;
};

struct seen {
    int count;
    bool records[2 * RECORDS + 2];
    int64_t last;
};

static struct tm_journal_options options_of(const char *dir, const struct tm_fs *fs)
{
    return (struct tm_journal_options){.dir = dir, .segment_bytes = 8192, .bytes_max = 65536, .fs = fs};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    f->disk = memdisk_create(16384);
    f->whole = memdisk_create(16384);
    f->fs = memdisk_fs(f->disk);
    struct tm_journal_options o = options_of("mem", &f->fs);
    write_records(&o, RECORDS, A_FRAME);
    memdisk_copy(f->whole, f->disk);
    const struct mem_file *file = mem_find(f->disk, SEGMENT);
    f->len = file->size;
    memcpy(f->bytes, mem_data(f->disk, file), f->len);
    struct tm_segment_header h;
    assert_int_equal(tm_segment_header_parse(f->bytes, f->len, 1, &h), TM_OK);
    f->header_bytes = 2 * (size_t)h.bytes;
    (void)snprintf(f->dir, sizeof f->dir, "%s/tidemill-repair-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(f->dir))
        return -1;
    tm_log_set_level(TM_LOG_ERROR + 1);
    *state = f;
    return 0;
}

static void empty_dir(const char *path, bool itself)
{
    DIR *d = opendir(path);
    for (const struct dirent *e; d && (e = readdir(d));) {
        char name[600];
        (void)snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(name))
            empty_dir(name, true);
    }
    if (d)
        closedir(d);
    if (itself)
        (void)rmdir(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    empty_dir(f->dir, true);
    memdisk_destroy(f->disk);
    memdisk_destroy(f->whole);
    free(f);
    return 0;
}

static int see(void *arg, const struct tm_inspect_record *r)
{
    struct seen *s = arg;
    struct tm_journal_record record = {.seq = r->seq, .tuple = r->tuple, .len = r->len};
    assert_true(r->seq > s->last && r->seq <= 2 * RECORDS && record_ok(&record, 0));
    assert_string_equal(r->stream, "trades");
    assert_string_equal(r->columns, "a,b,seq");
    s->records[r->seq] = true;
    s->last = r->seq;
    s->count++;
    return TM_OK;
}

/* What open and a reader make of it: the oracle. */
static struct tm_journal_stats read_all(const struct tm_journal_options *o, struct seen *s, int64_t *last_seq)
{
    struct tm_journal *j;
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    *s = (struct seen){0};
    assert_int_equal(tm_journal_open(o, &j, NULL), TM_OK);
    assert_int_equal(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, NULL), TM_OK);
    while (tm_journal_reader_next(r, &record, NULL) == 1) {
        assert_true(record.seq > s->last && record_ok(&record, 0));
        s->records[record.seq] = true;
        s->last = record.seq;
        s->count++;
    }
    struct tm_journal_stats stats = tm_journal_stats(j);
    *last_seq = tm_journal_last_seq(j, "trades");
    tm_journal_reader_close(r);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    return stats;
}

static void test_a_good_journal(void **state)
{
    struct fixture *f = *state;
    struct tm_inspect in;
    struct seen seen = {0};
    memdisk_copy(f->disk, f->whole);
    assert_int_equal(tm_journal_inspect("mem", &f->fs, see, &seen, &in, NULL), TM_OK);
    assert_int_equal(seen.count, RECORDS);
    assert_int_equal(in.records, RECORDS);
    assert_int_equal(in.frames, RECORDS / A_FRAME + 1); /* and the mark of a clean close */
    assert_int_equal(in.damage_count, 0);
    assert_true(in.torn_bytes == 0 && in.epoch_file && !in.empty && in.segments == 1);
    assert_int_equal(in.stream_count, 1);
    assert_true(in.streams[0].first == 1 && in.streams[0].last == RECORDS && in.streams[0].missing == 0);
    assert_memory_equal(mem_data(f->disk, mem_find(f->disk, SEGMENT)), f->bytes, f->len);
    assert_int_equal(memdisk_open_handles(f->disk), 0);
    tm_inspect_fini(&in);
}

/* The lock is somebody else's, and the tail is being written: neither stops a look. */
static void test_beside_a_writer(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = options_of("mem", &f->fs);
    struct tm_journal *j;
    struct tm_inspect in;
    memdisk_copy(f->disk, f->whole);
    assert_int_equal(tm_journal_open(&o, &j, NULL), TM_OK);
    int id = tm_journal_stream(j, "trades", "a,b,seq", NULL);
    for (int64_t seq = RECORDS + 1; seq <= 2 * RECORDS; seq++) {
        assert_int_equal(append_record(j, id, 0, seq), seq);
        tm_journal_flush(j);
        struct seen seen = {0};
        assert_int_equal(tm_journal_inspect("mem", &f->fs, see, &seen, &in, NULL), TM_OK);
        assert_true(in.damage_count == 0 && seen.count >= RECORDS && seen.count <= seq);
        tm_inspect_fini(&in);
    }
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
}

static void compare(struct fixture *f)
{
    struct tm_journal_options o = options_of("mem", &f->fs);
    struct tm_inspect in;
    struct seen seen = {0}, oracle;
    int64_t last_seq;
    assert_int_equal(tm_journal_inspect("mem", &f->fs, see, &seen, &in, NULL), TM_OK);
    struct tm_journal_stats stats = read_all(&o, &oracle, &last_seq);
    assert_int_equal(seen.count, oracle.count);
    assert_memory_equal(seen.records, oracle.records, sizeof seen.records);
    assert_int_equal(in.damage_count > 0, stats.damaged_frames + stats.damaged_bytes > 0);
    assert_int_equal(in.torn_bytes, stats.torn_bytes);
    if (in.stream_count && in.streams[0].records)
        assert_int_equal(in.streams[0].missing, in.streams[0].last - in.streams[0].first + 1 - seen.count);
    tm_inspect_fini(&in);
}

static void test_every_bit(void **state)
{
    struct fixture *f = *state;
    for (size_t bit = 0; bit < f->len * 8; bit++) {
        memdisk_copy(f->disk, f->whole);
        mem_data(f->disk, mem_find(f->disk, SEGMENT))[bit / 8] ^= (uint8_t)(1u << bit % 8);
        compare(f);
    }
}

static void test_every_length(void **state)
{
    struct fixture *f = *state;
    for (size_t len = 0; len < f->len; len++) {
        memdisk_copy(f->disk, f->whole);
        mem_find(f->disk, SEGMENT)->size = len;
        compare(f);
    }
}

/* ---- repair ---- */

static void put_file(struct fixture *f, const char *name, const uint8_t *bytes, size_t len)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static bool file_is(const char *dir, const char *below, const char *name, const uint8_t *bytes, size_t len)
{
    char path[256];
    uint8_t found[16384 + 1];
    (void)snprintf(path, sizeof path, "%s/%s/%s", dir, below, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, found, sizeof found);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)len && memcmp(found, bytes, len) == 0;
}

/* Repair what stands in the directory; a reader must get from it what it got from the same bytes unrepaired. */
static void repair_and_compare(struct fixture *f, const uint8_t *damaged, size_t len)
{
    struct tm_journal_options mem = options_of("mem", &f->fs), real = options_of(f->dir, NULL);
    struct seen before, after;
    struct tm_repair r;
    struct tm_inspect in;
    struct tm_error err = {0};
    int64_t last_before, last_after;
    memdisk_copy(f->disk, f->whole);
    mem_find(f->disk, SEGMENT)->size = len;
    memcpy(mem_data(f->disk, mem_find(f->disk, SEGMENT)), damaged, len);
    (void)read_all(&mem, &before, &last_before);
    empty_dir(f->dir, false);
    put_file(f, SEGMENT, damaged, len);
    if (tm_journal_repair(f->dir, false, &r, &err))
        fail_msg("%s", err.message);
    assert_true(r.count > 0 && r.promised == 2 && r.kept[0]);
    assert_true(file_is(f->dir, r.kept, SEGMENT, damaged, len));
    tm_repair_fini(&r);
    assert_int_equal(tm_journal_inspect(f->dir, NULL, NULL, NULL, &in, NULL), TM_OK);
    assert_true(in.damage_count == 0 && in.torn_bytes == 0);
    tm_inspect_fini(&in);
    struct tm_journal_stats stats = read_all(&real, &after, &last_after);
    assert_true(stats.damaged_bytes == 0 && stats.torn_bytes == 0);
    assert_int_equal(after.count, before.count);
    assert_memory_equal(after.records, before.records, sizeof after.records);
    assert_true(last_after >= last_before); /* no seq is given out twice because its damage is gone */
}

static void test_repairs_of_bits(void **state)
{
    struct fixture *f = *state;
    uint8_t damaged[sizeof f->bytes];
    for (size_t at = 0; at < f->len; at += 11) {
        memcpy(damaged, f->bytes, f->len);
        damaged[at] ^= (uint8_t)(1u << at % 8);
        repair_and_compare(f, damaged, f->len);
    }
}

static void test_repairs_of_runs(void **state)
{
    struct fixture *f = *state;
    uint8_t damaged[sizeof f->bytes];
    for (size_t at = f->header_bytes; at + 300 < f->len; at += 97) {
        memcpy(damaged, f->bytes, f->len);
        memset(damaged + at, 0xa5, 300);
        repair_and_compare(f, damaged, f->len);
    }
    memcpy(damaged, f->bytes, f->len);
    memset(damaged, 0, f->header_bytes); /* nothing can be read: all goes aside */
    repair_and_compare(f, damaged, f->len);
}

static void test_repair_keeps_places(void **state)
{
    struct fixture *f = *state;
    struct tm_repair r;
    struct tm_inspect in;
    uint8_t damaged[sizeof f->bytes];
    memcpy(damaged, f->bytes, f->len);
    damaged[f->header_bytes + 30] ^= 1;
    empty_dir(f->dir, false);
    put_file(f, SEGMENT, damaged, f->len);

    assert_int_equal(tm_journal_repair(f->dir, true, &r, NULL), TM_OK); /* a dry run */
    assert_true(r.count == 1 && !r.kept[0] && !r.promised && r.actions[0].kind == TM_REPAIR_EMPTY);
    assert_int_equal(r.actions[0].offset, f->header_bytes);
    tm_repair_fini(&r);
    assert_true(file_is(f->dir, ".", SEGMENT, damaged, f->len));

    assert_int_equal(tm_journal_repair(f->dir, false, &r, NULL), TM_OK);
    tm_repair_fini(&r);
    assert_false(file_is(f->dir, ".", SEGMENT, damaged, f->len));
    assert_int_equal(tm_journal_inspect(f->dir, NULL, NULL, NULL, &in, NULL), TM_OK);
    assert_true(in.records == RECORDS - A_FRAME && in.streams[0].first == A_FRAME + 1);
    assert_int_equal(in.bytes, f->len + f->header_bytes); /* the same length, and one header that promises seqs */
    assert_true(in.streams[0].next > RECORDS);
    tm_inspect_fini(&in);

    assert_int_equal(tm_journal_repair(f->dir, false, &r, NULL), TM_OK); /* nothing is left to do */
    assert_true(r.count == 0 && !r.kept[0]);
    tm_repair_fini(&r);
}

/* The last frame lost: once its bytes are gone, only the promise keeps its seqs from being used for other records. */
static void test_repair_promises_seqs(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = options_of(f->dir, NULL);
    struct seen seen;
    int64_t last_seq;
    uint8_t damaged[sizeof f->bytes];
    memcpy(damaged, f->bytes, f->len);
    damaged[f->len - TM_FRAME_HEAD_BYTES - 4] ^= 1;
    repair_and_compare(f, damaged, f->len);
    (void)read_all(&o, &seen, &last_seq);
    assert_int_equal(seen.last, RECORDS - A_FRAME);
    assert_true(last_seq >= RECORDS);
}

static void test_repair_refuses(void **state)
{
    struct fixture *f = *state;
    struct tm_journal_options o = options_of(f->dir, NULL);
    struct tm_journal *j;
    struct tm_repair r;
    struct tm_error err;
    empty_dir(f->dir, false);
    put_file(f, SEGMENT, f->bytes, f->len);
    assert_int_equal(tm_journal_open(&o, &j, NULL), TM_OK);
    assert_int_equal(tm_journal_repair(f->dir, true, &r, &err), TM_ECONFLICT);
    tm_repair_fini(&r);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    assert_int_equal(tm_journal_repair("/nonexistent/journal", false, &r, &err), TM_ENOENT);
    tm_repair_fini(&r);
    struct tm_inspect in;
    assert_int_equal(tm_journal_inspect("/nonexistent/journal", NULL, NULL, NULL, &in, &err), TM_ENOENT);
    tm_inspect_fini(&in);
}

/* Two histories in one directory: said, and never mended. */
static void test_order(void **state)
{
    struct fixture *f = *state;
    struct tm_repair r;
    struct tm_inspect in;
    struct tm_error err;
    uint8_t second[sizeof f->bytes];
    size_t half = f->header_bytes / 2;
    struct tm_segment_header h;
    assert_int_equal(tm_segment_header_parse(f->bytes, f->len, 1, &h), TM_OK);
    /* the same segment once more under another number, sealed as that */
    struct tm_buf out = {0};
    struct tm_segment_stream s = {
        .next_seq = 1, .name = "trades", .name_len = 6, .columns = "a,b,seq", .columns_len = 7};
    struct tm_segment_header again = {.number = 2, .salt = 7, .streams = 1};
    memcpy(again.epoch, h.epoch, 16);
    assert_int_equal(tm_segment_header_begin(&out, &again), TM_OK);
    assert_int_equal(tm_segment_header_stream(&out, &s), TM_OK);
    assert_int_equal(tm_segment_header_end(&out, &again), TM_OK);
    assert_int_equal(out.len, 2 * half);
    memcpy(second, out.data, out.len);
    memcpy(second + out.len, f->bytes + out.len, f->len - out.len);
    for (size_t at = f->header_bytes; at < f->len;) {
        struct tm_frame frame = {.offset = at,
                                 .length = tm_get_be32(second + at),
                                 .count = tm_get_be32(second + at + 4),
                                 .synced = tm_get_be32(second + at + 8)};
        tm_frame_seal(second + at, &frame, again.key);
        at += TM_FRAME_HEAD_BYTES + frame.length;
    }
    tm_buf_fini(&out);
    empty_dir(f->dir, false);
    put_file(f, SEGMENT, f->bytes, f->len);
    put_file(f, "0000000000000002.seg", second, f->len);
    assert_int_equal(tm_journal_inspect(f->dir, NULL, NULL, NULL, &in, &err), TM_OK);
    assert_int_equal(in.damage_count, RECORDS);
    assert_int_equal(in.damage[0].kind, TM_DAMAGE_ORDER);
    assert_int_equal(in.damage[0].segment, 2);
    assert_int_equal(in.records, RECORDS);
    tm_inspect_fini(&in);
    assert_int_equal(tm_journal_repair(f->dir, false, &r, &err), TM_ECORRUPT);
    assert_true(!r.kept[0]);
    tm_repair_fini(&r);
    assert_true(file_is(f->dir, ".", SEGMENT, f->bytes, f->len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_journal),      cmocka_unit_test(test_beside_a_writer),
        cmocka_unit_test(test_every_bit),           cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_repairs_of_bits),     cmocka_unit_test(test_repairs_of_runs),
        cmocka_unit_test(test_repair_keeps_places), cmocka_unit_test(test_repair_promises_seqs),
        cmocka_unit_test(test_repair_refuses),      cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
