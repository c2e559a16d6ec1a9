/*
 * Damage to what was durable (FAILURES X4, T19, T20): every bit flipped, every length cut to, frames and files moved,
 * swapped, repeated. Never a wrong record, never one twice or out of order, no more lost than the damaged frame holds,
 * and what is lost is counted.
 */
#include "records.h"

#include "base/log.h"
#include "journal/segment.h"
#include "memdisk.h"

#include <sched.h>

#define RECORDS 24
#define A_FRAME 3 /* records in each */
#define DATA_SEGMENT "0000000000000001.seg"

struct fixture {
    struct memdisk *disk, *whole;
    struct tm_fs fs;
    struct tm_journal_options o;
    uint32_t header_bytes; /* both copies */
    size_t bytes;          /* of the segment */
};

struct found {
    int records;
    bool seen[RECORDS + 1];
    struct tm_journal_stats stats;
    int64_t last_seq;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    f->disk = memdisk_create(16384);
    f->whole = memdisk_create(16384);
    f->fs = memdisk_fs(f->disk);
    f->o = (struct tm_journal_options){.dir = "mem", .segment_bytes = 8192, .bytes_max = 65536, .fs = &f->fs};
    write_records(&f->o, RECORDS, A_FRAME);
    memdisk_copy(f->whole, f->disk);
    const struct mem_file *file = mem_find(f->disk, DATA_SEGMENT);
    struct tm_segment_header h;
    f->bytes = file->size;
    assert_int_equal(tm_segment_header_parse(mem_data(f->disk, file), file->size, 1, &h), TM_OK);
    f->header_bytes = 2 * h.bytes;
    tm_log_set_level(TM_LOG_ERROR + 1); /* damage by the thousand */
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    memdisk_destroy(f->disk);
    memdisk_destroy(f->whole);
    free(f);
    return 0;
}

static uint8_t *data_of(struct fixture *f)
{
    return mem_data(f->disk, mem_find(f->disk, DATA_SEGMENT));
}

/* Open whatever is on the disk and read all of it: only records that were written, in order, each once. */
static struct found read_all(struct fixture *f)
{
    struct found found = {0};
    struct tm_journal *j;
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    struct tm_error err = {0};
    if (tm_journal_open(&f->o, &j, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, &err), TM_OK);
    int64_t last = 0;
    int rc;
    while ((rc = tm_journal_reader_next(r, &record, &err)) == 1) {
        assert_true(record.seq > last && record.seq <= RECORDS);
        assert_string_equal(record.stream, "trades");
        assert_string_equal(record.columns, "a,b,seq");
        assert_true(record_ok(&record, 0));
        last = record.seq;
        found.seen[last] = true;
        found.records++;
    }
    assert_int_equal(rc, 0);
    found.stats = tm_journal_stats(j);
    found.last_seq = tm_journal_last_seq(j, "trades");
    tm_journal_reader_close(r);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    assert_int_equal(memdisk_open_handles(f->disk), 0);
    return found;
}

static void restore(struct fixture *f)
{
    memdisk_copy(f->disk, f->whole);
}

static void test_undamaged(void **state)
{
    struct found found = read_all(*state);
    assert_int_equal(found.records, RECORDS);
    assert_int_equal(found.last_seq, RECORDS);
    assert_true(found.stats.damaged_bytes == 0 && found.stats.torn_bytes == 0);
}

static void test_every_bit(void **state)
{
    struct fixture *f = *state;
    for (size_t bit = 0; bit < f->bytes * 8; bit++) {
        restore(f);
        data_of(f)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct found found = read_all(f);
        bool in_header = bit / 8 < f->header_bytes, in_mark = bit / 8 >= f->bytes - TM_FRAME_HEAD_BYTES;
        assert_int_equal(found.records, in_header || in_mark ? RECORDS : RECORDS - A_FRAME);
        /* a seq that may have been stored is never given out again */
        assert_true(found.last_seq >= RECORDS);
        if (in_mark)
            assert_int_equal(found.stats.torn_bytes, TM_FRAME_HEAD_BYTES);
        else
            assert_true(found.stats.damaged_bytes > 0 && found.stats.torn_bytes == 0);
        assert_true(in_header || in_mark || found.stats.damaged_frames > 0);
    }
}

static void test_every_length(void **state)
{
    struct fixture *f = *state;
    int most = 0;
    for (size_t len = 0; len < f->bytes; len++) {
        restore(f);
        mem_find(f->disk, DATA_SEGMENT)->size = len;
        struct found found = read_all(f);
        for (int seq = 1; seq <= found.records; seq++)
            assert_true(found.seen[seq]); /* the first ones, without a hole */
        assert_true(found.records >= most && found.records % A_FRAME == 0);
        most = found.records;
        if (len < f->header_bytes / 2)
            assert_true(found.records == 0 && found.stats.damaged_bytes == len + len * (len > 0));
        if (found.records)
            assert_int_equal(found.last_seq, found.records);
    }
    assert_int_equal(most, RECORDS);
}

/* A run of damage, from every byte on, of some lengths: all frames that it does not touch are there. */
static void test_runs_of_damage(void **state)
{
    struct fixture *f = *state;
    static const size_t lengths[] = {2, 19, 64, 300, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t at = f->header_bytes; at + lengths[i] < f->bytes - TM_FRAME_HEAD_BYTES; at += 3) {
            restore(f);
            memset(data_of(f) + at, i % 2 ? 0 : 0xff, lengths[i]);
            struct found found = read_all(f);
            int holes = 0;
            for (int seq = 1; seq <= RECORDS; seq++)
                holes += !found.seen[seq] && (seq == 1 || found.seen[seq - 1]);
            assert_true(holes <= 1);
            assert_true(RECORDS - found.records <= A_FRAME * (2 + (int)(lengths[i] / 100)));
            assert_true(found.records == RECORDS || found.stats.damaged_bytes > 0);
            assert_true(found.last_seq >= RECORDS);
        }
}

struct span {
    size_t at, len;
};

static int frames_of(struct fixture *f, struct span out[], int max)
{
    int n = 0;
    for (size_t at = f->header_bytes; at < f->bytes && n < max; n++) {
        out[n] = (struct span){at, TM_FRAME_HEAD_BYTES + tm_get_be32(data_of(f) + at)};
        at += out[n].len;
    }
    return n;
}

/* Each frame written over each place where another one begins. */
static void test_frames_moved_and_repeated(void **state)
{
    struct fixture *f = *state;
    struct span frames[32];
    restore(f);
    int n = frames_of(f, frames, 32);
    assert_int_equal(n, RECORDS / A_FRAME + 1);
    for (int from = 0; from < n; from++)
        for (int to = 0; to < n; to++) {
            restore(f);
            if (from == to || frames[to].at + frames[from].len > f->bytes)
                continue;
            memmove(data_of(f) + frames[to].at, data_of(f) + frames[from].at, frames[from].len);
            struct found found = read_all(f);
            assert_true(found.records < RECORDS || to == n - 1);
            assert_true(found.records >= RECORDS - 3 * A_FRAME);
        }
}

static void test_frames_swapped(void **state)
{
    struct fixture *f = *state;
    struct span frames[32];
    restore(f);
    int n = frames_of(f, frames, 32);
    for (int i = 0; i + 2 < n; i++) {
        uint8_t first[4096];
        restore(f);
        uint8_t *data = data_of(f) + frames[i].at;
        memcpy(first, data, frames[i].len);
        memmove(data, data + frames[i].len, frames[i + 1].len);
        memcpy(data + frames[i + 1].len, first, frames[i].len);
        struct found found = read_all(f);
        assert_int_equal(found.records, RECORDS - 2 * A_FRAME);
        assert_true(found.stats.damaged_frames > 0);
    }
}

/* Give frame `i` another `synced`, as if it had been written in a group that began there. */
static void reseal(struct fixture *f, const struct span *frame, uint32_t synced)
{
    struct tm_segment_header h;
    uint8_t *head = data_of(f) + frame->at;
    assert_int_equal(tm_segment_header_parse(data_of(f), f->bytes, 1, &h), TM_OK);
    struct tm_frame frame_head = {
        .offset = frame->at, .length = tm_get_be32(head), .count = tm_get_be32(head + 4), .synced = synced};
    tm_frame_seal(head, &frame_head, h.key);
}

/* Without the mark of a clean close: what a later frame proves durable is damage and is stepped over. */
static void test_damage_before_what_was_synced(void **state)
{
    struct fixture *f = *state;
    struct span frames[32];
    restore(f);
    int n = frames_of(f, frames, 32) - 1; /* all but the mark */
    for (int i = 0; i < n; i++) {
        restore(f);
        mem_find(f->disk, DATA_SEGMENT)->size = frames[n].at;
        data_of(f)[frames[i].at + 25] ^= 1;
        struct found found = read_all(f);
        assert_int_equal(found.records, RECORDS - A_FRAME);
        assert_int_equal(found.stats.torn_bytes, i == n - 1 ? frames[i].len : 0);
        assert_true(i == n - 1 ? found.last_seq == RECORDS - A_FRAME : found.last_seq >= RECORDS);
    }
}

/* In the last group no frame proves anything: some of it never reached the disk, so it ends where it stops being good,
 * and the numbers go on from there without a hole. */
static void test_damage_in_the_last_group(void **state)
{
    struct fixture *f = *state;
    struct span frames[32];
    restore(f);
    int n = frames_of(f, frames, 32) - 1;
    for (int bad = n - 3; bad < n; bad++) {
        restore(f);
        mem_find(f->disk, DATA_SEGMENT)->size = frames[n].at;
        for (int i = n - 3; i < n; i++)
            reseal(f, &frames[i], (uint32_t)frames[n - 3].at);
        data_of(f)[frames[bad].at + 25] ^= 1;
        struct found found = read_all(f);
        assert_int_equal(found.records, bad * A_FRAME);
        assert_int_equal(found.last_seq, bad * A_FRAME);
        assert_int_equal(found.stats.torn_bytes, frames[n].at - frames[bad].at);
        assert_int_equal(found.stats.damaged_bytes, 0);
    }
}

/* Two turns that are synced together, as the disk was full when the first came: their frames all say where the group
 * began, not where they are. */
static void test_frames_tell_their_group(void **state)
{
    struct fixture *f = *state;
    struct tm_journal *j;
    uint8_t tuple[1500] = {0};
    memdisk_clear(f->disk);
    assert_int_equal(tm_journal_open(&f->o, &j, NULL), TM_OK);
    int id = tm_journal_stream(j, "trades", "a,b,seq", NULL);
    f->disk->fault = MEM_ENOSPC;
    f->disk->fault_ops = 1u << MEM_PWRITE;
    f->disk->fault_at = f->disk->calls + 1;
    f->disk->fault_calls = UINT64_MAX / 2;
    for (int i = 1; i <= 3; i++) { /* 4 KiB a frame at most: two records in the first, and one */
        assert_int_equal(tm_journal_append(j, id, tuple, sizeof tuple), i);
        if (i == 2)
            tm_journal_flush(j);
    }
    tm_journal_flush(j);
    /* of two attempts from now on at least one was made with both turns in hand */
    for (uint64_t errors = tm_journal_stats(j).write_errors; tm_journal_stats(j).write_errors < errors + 2;)
        sched_yield();
    pthread_mutex_lock(&mem_lock);
    memdisk_no_faults(f->disk);
    pthread_mutex_unlock(&mem_lock);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    struct tm_segment_header h;
    struct tm_frame frames[3];
    size_t len = mem_find(f->disk, DATA_SEGMENT)->size;
    assert_int_equal(tm_segment_header_parse(data_of(f), len, 1, &h), TM_OK);
    uint64_t at = 2 * h.bytes;
    for (int i = 0; i < 3; i++, at = tm_frame_end(&frames[i - 1]))
        assert_true(tm_frame_head_parse(data_of(f) + at, at, h.key, &frames[i]));
    assert_int_equal(at, len);
    assert_true(frames[0].count == 2 && frames[1].count == 1 && frames[2].count == 0);
    assert_true(frames[0].synced == frames[0].offset && frames[1].synced == frames[0].offset);
    assert_true(frames[2].synced == frames[2].offset);
}

/* The newest segment cannot be read at all: what seqs it held is unknown, so none of them is used again, and the one
 * before, which was sealed, is not cut whatever stands behind it. */
static void test_newest_segment_unreadable(void **state)
{
    struct fixture *f = *state;
    restore(f);
    memdisk_put(f->disk, "0000000000000002.seg", data_of(f), f->bytes); /* not what its name says */
    memset(data_of(f) + f->bytes, 0xee, 50);
    mem_find(f->disk, DATA_SEGMENT)->size = f->bytes + 50;
    struct found found = read_all(f);
    assert_int_equal(found.records, RECORDS);
    assert_true(found.last_seq >= 2 * RECORDS);
    assert_int_equal(found.stats.torn_bytes, 0);
    assert_int_equal(mem_find(f->disk, DATA_SEGMENT)->size, f->bytes + 50);
}

static void test_temporaries_are_removed(void **state)
{
    struct fixture *f = *state;
    restore(f);
    memdisk_put(f->disk, "0000000000000002.seg.tmp", "half", 4);
    memdisk_put(f->disk, "notes.txt", "kept", 4);
    assert_int_equal(read_all(f).records, RECORDS);
    assert_null(mem_find(f->disk, "0000000000000002.seg.tmp"));
    assert_non_null(mem_find(f->disk, "notes.txt"));
}

/* A copy of a segment under another number, and a segment of another journal, are not taken for ours. */
static void test_segments_copied_and_foreign(void **state)
{
    struct fixture *f = *state;
    uint8_t foreign[16384];
    size_t len;
    memdisk_clear(f->disk);
    write_records(&f->o, A_FRAME, A_FRAME);
    len = mem_find(f->disk, DATA_SEGMENT)->size;
    memcpy(foreign, data_of(f), len);

    restore(f);
    memdisk_put(f->disk, "0000000000000000.seg", foreign, len);
    memdisk_put(f->disk, "0000000000000003.seg", data_of(f), f->bytes);
    struct found found = read_all(f);
    assert_int_equal(found.records, RECORDS);
    assert_true(found.stats.damaged_frames >= 2);
    assert_true(found.last_seq >= RECORDS);

    /* in the place of one that came before, under the right number: of another epoch than the newest */
    restore(f);
    struct tm_journal *j;
    assert_int_equal(tm_journal_open(&f->o, &j, NULL), TM_OK);
    assert_int_equal(append_record(j, 0, 0, RECORDS + 1), RECORDS + 1);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
    memdisk_put(f->disk, "0000000000000001.seg", foreign, len);
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    assert_int_equal(tm_journal_open(&f->o, &j, NULL), TM_OK);
    assert_int_equal(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, NULL), TM_OK);
    assert_int_equal(tm_journal_reader_next(r, &record, NULL), 1);
    assert_int_equal(record.seq, RECORDS + 1);
    assert_int_equal(tm_journal_reader_next(r, &record, NULL), 0);
    assert_int_equal(tm_journal_stats(j).damaged_bytes, len);
    tm_journal_reader_close(r);
    assert_int_equal(tm_journal_close(j, NULL), TM_OK);
}

/* Garbage behind a good journal is a torn tail: cut once, and gone. */
static void test_garbage_behind(void **state)
{
    struct fixture *f = *state;
    for (size_t extra = 1; extra < 200; extra++) {
        restore(f);
        struct mem_file *file = mem_find(f->disk, DATA_SEGMENT);
        for (size_t i = 0; i < extra; i++)
            data_of(f)[f->bytes + i] = (uint8_t)(i * 31 + extra);
        file->size = f->bytes + extra;
        struct found found = read_all(f);
        assert_int_equal(found.records, RECORDS);
        assert_int_equal(found.stats.torn_bytes, extra);
        assert_int_equal(found.last_seq, RECORDS);
        found = read_all(f);
        assert_int_equal(found.stats.torn_bytes, 0);
    }
}

/* No header anywhere: nothing can be continued, so the epoch must be another one. */
static void test_new_epoch_when_nothing_is_readable(void **state)
{
    struct fixture *f = *state;
    uint8_t before[16], after[16];
    restore(f);
    memcpy(before, mem_data(f->disk, mem_find(f->disk, "epoch")), 16);
    memset(data_of(f), 0, f->header_bytes);
    assert_int_equal(read_all(f).records, 0);
    memcpy(after, mem_data(f->disk, mem_find(f->disk, "epoch")), 16);
    assert_memory_not_equal(before, after, 16);

    restore(f);
    mem_find(f->disk, "epoch")->size = 3; /* the epoch file is only a copy */
    assert_int_equal(read_all(f).records, RECORDS);
    memcpy(after, mem_data(f->disk, mem_find(f->disk, "epoch")), 16);
    assert_memory_equal(before, after, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undamaged),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_runs_of_damage),
        cmocka_unit_test(test_frames_moved_and_repeated),
        cmocka_unit_test(test_frames_swapped),
        cmocka_unit_test(test_damage_before_what_was_synced),
        cmocka_unit_test(test_damage_in_the_last_group),
        cmocka_unit_test(test_frames_tell_their_group),
        cmocka_unit_test(test_newest_segment_unreadable),
        cmocka_unit_test(test_temporaries_are_removed),
        cmocka_unit_test(test_segments_copied_and_foreign),
        cmocka_unit_test(test_garbage_behind),
        cmocka_unit_test(test_new_epoch_when_nothing_is_readable),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
