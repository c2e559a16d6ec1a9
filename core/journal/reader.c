#include "journal/internal.h"
#include "base/log.h"
#include "base/unset.h"
#include "journal/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct name_pair {
    char *name, *columns;
};

struct tm_journal_reader {
    struct tm_journal *j;
    uint64_t number;     /* the segment that is read */
    uint64_t start;      /* begin at this offset once it is open; below the first frame: at the first */
    struct tm_scan scan; /* fd -1: not open yet */
    struct tm_frame frame;
    uint32_t at, left;                              /* within the frame: bytes used, items not yet returned */
    uint16_t streams;                               /* that the segment's header declares */
    struct name_pair pairs[TM_JOURNAL_STREAMS_MAX]; /* by id; ids keep their meaning for the life of an epoch */
};

/* ---- where to read ---- */

/* What the journal knows of a segment, and of the one after it. */
struct extent {
    bool listed, sealed;
    uint64_t end;  /* of what is durable */
    uint64_t next; /* the next segment that exists or will */
};

static struct extent extent_of(struct tm_journal *j, uint64_t number)
{
    pthread_mutex_lock(&j->lock);
    struct extent e = {.sealed = number < j->durable.segment, .next = j->durable.segment};
    for (size_t i = 0; i < j->segment_count; i++) {
        if (j->segments[i].number == number) {
            e.listed = true;
            e.end = j->segments[i].end;
        } else if (j->segments[i].number > number) {
            e.next = j->segments[i].number;
            break;
        }
    }
    pthread_mutex_unlock(&j->lock);
    return e;
}

static int check_start(struct tm_journal *j, struct tm_journal_position from, struct tm_error *err)
{
    struct tm_journal_position oldest = tm_journal_oldest(j), durable = tm_journal_durable(j);
    struct extent e = extent_of(j, from.segment);
    if (from.segment > durable.segment || (e.listed && from.offset > e.end) ||
        (from.segment == durable.segment && from.offset > durable.offset))
        return tm_error_set(err, TM_ECORRUPT,
                            "journal: %s: asked to read from segment %016" PRIx64 " offset %" PRIu64
                            ", but the journal ends at segment %016" PRIx64 " offset %" PRIu64
                            ": it has lost records that were taken from it, and their seqs may be given out again. "
                            "Start a new directory, which has an epoch of its own",
                            j->dir_name, from.segment, from.offset, durable.segment, durable.offset);
    if (!e.listed && from.segment != durable.segment)
        return tm_error_set(err, TM_ENOENT,
                            "journal: %s: segment %016" PRIx64 " is no longer there; the oldest is %016" PRIx64,
                            j->dir_name, from.segment, oldest.segment);
    return TM_OK;
}

int tm_journal_reader_open(struct tm_journal *j, struct tm_journal_position from, struct tm_journal_reader **out,
                           struct tm_error *err)
{
    if (from.segment == 0 && from.offset == 0)
        from = tm_journal_oldest(j);
    int rc = check_start(j, from, err);
    if (rc)
        return rc;
    struct tm_journal_reader *r = calloc(1, sizeof *r);
    if (!r)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory for a reader");
    r->j = j;
    r->number = from.segment;
    r->start = from.offset;
    r->scan = (struct tm_scan){.fs = &j->fs, .fd = -1};
    *out = r;
    return TM_OK;
}

void tm_journal_reader_close(struct tm_journal_reader *r)
{
    if (!r)
        return;
    if (r->scan.fd >= 0)
        r->j->fs.close(r->j->fs.arg, r->scan.fd);
    tm_scan_fini(&r->scan);
    for (int i = 0; i < TM_JOURNAL_STREAMS_MAX; i++) {
        free(r->pairs[i].name);
        free(r->pairs[i].columns);
    }
    free(r);
}

/* ---- segments ---- */

static void go_to(struct tm_journal_reader *r, uint64_t number)
{
    if (r->scan.fd >= 0)
        r->j->fs.close(r->j->fs.arg, r->scan.fd);
    r->scan.fd = -1;
    r->scan.offset = 0;
    r->scan.window.len = 0;
    r->number = number;
    r->start = 0;
}

static void damage(struct tm_journal_reader *r, uint64_t offset, uint64_t bytes)
{
    tm_journal_count_damage(r->j, 1, bytes);
    TM_LOG_LIMITED(TM_LOG_ERROR, "journal", "damage stepped over; the records in it are lost",
                   TM_F_STR("dir", r->j->dir_name), TM_F_U64("segment", r->number), TM_F_U64("offset", offset),
                   TM_F_U64("bytes", bytes));
}

static int learn_streams(struct tm_journal_reader *r, const struct tm_segment_header *h, struct tm_error *err)
{
    struct tm_segment_stream s;
    size_t at = 0;
    if (h->streams > TM_JOURNAL_STREAMS_MAX)
        return TM_ECORRUPT;
    while (tm_segment_stream_next(h, &at, &s)) {
        struct name_pair *p = &r->pairs[s.id];
        if (p->name)
            continue;
        p->name = strndup(s.name, s.name_len);
        p->columns = strndup(s.columns, s.columns_len);
        if (!p->name || !p->columns) {
            free(p->name);
            free(p->columns);
            *p = (struct name_pair){0};
            return tm_error_set(err, TM_ENOMEM, "journal: no memory for the names of streams");
        }
    }
    r->streams = (uint16_t)h->streams;
    return TM_OK;
}

/* Open the file and read its header. TM_ECORRUPT: it is not a segment of this journal. */
static int open_segment(struct tm_journal_reader *r, struct tm_error *err)
{
    struct tm_journal *j = r->j;
    struct tm_segment_header h;
    char name[TM_SEGMENT_NAME_BYTES];
    tm_segment_name(r->number, name);
    r->scan.fd = tm_fs_open(&j->fs, j->dir, name, O_RDONLY);
    if (r->scan.fd < 0)
        return tm_error_errno(err, errno == ENOENT ? TM_ENOENT : TM_EIO, errno, "journal: cannot open %s/%s",
                              j->dir_name, name);
    int rc = tm_scan_open(&r->scan, r->number, &h, err);
    if (!rc && memcmp(h.epoch, j->epoch, sizeof h.epoch) != 0)
        rc = tm_error_set(err, TM_ECORRUPT, "journal: %s/%s belongs to another epoch", j->dir_name, name);
    if (!rc)
        rc = learn_streams(r, &h, err);
    if (rc) {
        j->fs.close(j->fs.arg, r->scan.fd);
        r->scan.fd = -1;
        return rc;
    }
    if (h.damaged_bytes)
        tm_journal_count_damage(j, 0, h.damaged_bytes);
    if (r->start > r->scan.offset)
        r->scan.offset = r->start;
    return TM_OK;
}

/* 1: the segment is open. 0: it is not there yet. */
static int have_segment(struct tm_journal_reader *r, const struct extent *e, struct tm_error *err)
{
    if (r->scan.fd >= 0)
        return 1;
    if (!e->listed && !e->sealed)
        return 0;
    int rc = open_segment(r, err);
    return rc ? rc : 1;
}

/* The file is not a segment of this journal: all that was durable in it is lost, and counted once. */
static void step_over_segment(struct tm_journal_reader *r, const struct extent *e, const struct tm_error *err)
{
    if (r->start >= e->end)
        return;
    tm_journal_count_damage(r->j, 1, e->end - r->start);
    r->start = e->end;
    tm_log(TM_LOG_ERROR, "journal", "segment stepped over; the records in it are lost", TM_F_ERR(err));
}

/* How far the open segment may be read. One that was deleted while it is read was sealed: all of it counts. */
static int64_t limit_of(struct tm_journal_reader *r, const struct extent *e, struct tm_error *err)
{
    if (e->listed)
        return (int64_t)e->end;
    int64_t size = r->j->fs.size(r->j->fs.arg, r->scan.fd);
    return size < 0 ? tm_error_errno(err, TM_EIO, errno, "journal: cannot read the size of a segment") : size;
}

/* ---- frames and records ---- */

/* 1: a good frame of the open segment. 0: no more up to its end. */
static int scan_segment(struct tm_journal_reader *r, const struct extent *e, struct tm_error *err)
{
    int64_t limit = limit_of(r, e, err);
    int rc = limit < 0 ? (int)limit : tm_scan_next(&r->scan, (uint64_t)limit, &r->frame, err);
    if (rc < 0)
        return rc;
    if (r->scan.skipped_bytes)
        damage(r, r->scan.skipped_from, r->scan.skipped_bytes);
    r->at = 0;
    r->left = rc ? r->frame.count : 0;
    return rc;
}

/* 1: a frame. 0: nothing more is durable. */
static int next_frame(struct tm_journal_reader *r, struct tm_error *err)
{
    for (;;) {
        struct extent e = extent_of(r->j, r->number);
        int rc = have_segment(r, &e, err);
        if (rc == TM_ECORRUPT) {
            step_over_segment(r, &e, err);
            rc = 0;
        } else if (rc == 1) {
            rc = scan_segment(r, &e, err);
        }
        if (rc || !e.sealed)
            return rc;
        go_to(r, e.next);
    }
}

/* The next item of the frame; false when the frame is used up, or holds what no writer of ours writes. */
static bool next_item(struct tm_journal_reader *r, struct tm_item *item)
{
    if (!r->left)
        return false;
    if (tm_item_next(r->frame.payload, r->frame.length, &r->at, item) && item->stream < r->streams && item->seq > 0) {
        r->left--;
        return true;
    }
    damage(r, r->frame.offset, r->frame.length - r->at);
    r->left = 0;
    return false;
}

int tm_journal_reader_next(struct tm_journal_reader *r, struct tm_journal_record *record, struct tm_error *err)
{
    struct tm_item item;
    struct tm_error unwanted TM_UNSET;
    err = err ? err : &unwanted;
    while (!next_item(r, &item)) {
        int rc = next_frame(r, err);
        if (rc <= 0)
            return rc;
    }
    *record = (struct tm_journal_record){
        .stream = r->pairs[item.stream].name,
        .columns = r->pairs[item.stream].columns,
        .stream_id = item.stream,
        .seq = item.seq,
        .tuple = item.tuple,
        .len = item.len,
    };
    return 1;
}

struct tm_journal_position tm_journal_reader_position(const struct tm_journal_reader *r)
{
    if (r->scan.fd < 0)
        return (struct tm_journal_position){r->number, r->start};
    return (struct tm_journal_position){r->number, r->left ? r->frame.offset : r->scan.offset};
}

bool tm_journal_reader_at_frame_end(const struct tm_journal_reader *r)
{
    return r->left == 0;
}
