/*
 * Arbitrary bytes as a journal: opening and reading never crash, and doing it twice gives the same, as the first time
 * cuts what is to be cut.
 *
 * The first byte chooses: even, the rest is a segment file as it is; odd, the rest is a list of payloads (u16 length
 * each) that are put into frames with the right checksums behind a good header, so that what is inside them is tried.
 */
#include "../unit/journal/memdisk.h"

#include "base/endian.h"
#include "base/hash.h"
#include "base/log.h"
#include "journal/journal.h"
#include "journal/segment.h"

#define SEGMENT_BYTES (256 * 1024)

struct digest {
    uint64_t hash, records;
};

static struct memdisk *disk;
static struct tm_fs fs;

static void build_header(struct tm_buf *out, struct tm_segment_header *h)
{
    struct tm_segment_stream s = {
        .id = 0, .next_seq = 1, .name = "trades", .name_len = 6, .columns = "a,b", .columns_len = 3};
    *h = (struct tm_segment_header){.number = 1, .salt = 99, .streams = 1};
    TM_FATAL_UNLESS(!tm_segment_header_begin(out, h) && !tm_segment_header_stream(out, &s) &&
                    !tm_segment_header_end(out, h));
}

static void build_frame(struct tm_buf *out, uint32_t key, const uint8_t *payload, size_t len)
{
    struct tm_frame f = {.offset = out->len, .length = (uint32_t)len, .synced = (uint32_t)(len * 77 % out->len)};
    f.count = (uint32_t)(len / TM_ITEM_BYTES_MIN);
    size_t head = out->len;
    TM_FATAL_UNLESS(!tm_buf_reserve(out, TM_FRAME_HEAD_BYTES + len));
    out->len += TM_FRAME_HEAD_BYTES;
    TM_FATAL_UNLESS(!tm_buf_append(out, payload, len));
    tm_frame_seal(out->data + head, &f, key);
}

static void build_segment(struct tm_buf *out, const uint8_t *data, size_t size)
{
    struct tm_segment_header h;
    build_header(out, &h);
    while (size >= 2 && out->len < SEGMENT_BYTES / 2) {
        size_t len = tm_get_be16(data) % 2048;
        len = len > size - 2 ? size - 2 : len;
        build_frame(out, h.key, data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    TM_FATAL_UNLESS(!tm_buf_append(out, data, size < 1024 ? size : 1024));
}

static struct digest read_all(void)
{
    struct tm_journal_options o = {.dir = "mem", .fs = &fs};
    struct tm_journal *j;
    struct tm_journal_reader *r;
    struct tm_journal_record record;
    struct tm_error err;
    struct digest d = {0};
    TM_FATAL_UNLESS(tm_journal_open(&o, &j, &err) == TM_OK);
    TM_FATAL_UNLESS(tm_journal_reader_open(j, (struct tm_journal_position){0, 0}, &r, &err) == TM_OK);
    while (tm_journal_reader_next(r, &record, &err) == 1) {
        d.hash = tm_hash64(record.tuple, record.len, d.hash + (uint64_t)record.seq);
        d.hash = tm_hash64(record.stream, strlen(record.stream), d.hash);
        d.records++;
    }
    tm_journal_reader_close(r);
    TM_FATAL_UNLESS(tm_journal_close(j, &err) == TM_OK);
    TM_FATAL_UNLESS(memdisk_open_handles(disk) == 0);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!disk) {
        disk = memdisk_create(SEGMENT_BYTES);
        fs = memdisk_fs(disk);
        tm_log_set_level(TM_LOG_ERROR + 1);
    }
    if (size == 0 || size > SEGMENT_BYTES / 4)
        return 0;
    struct tm_buf built = {0};
    if (data[0] % 2)
        build_segment(&built, data + 1, size - 1);
    else
        TM_FATAL_UNLESS(!tm_buf_append(&built, data + 1, size - 1));
    memdisk_clear(disk);
    memdisk_put(disk, "0000000000000001.seg", built.data, built.len);
    struct digest first = read_all(), again = read_all();
    TM_FATAL_UNLESS(first.records == again.records && first.hash == again.hash);
    tm_buf_fini(&built);
    return 0;
}
