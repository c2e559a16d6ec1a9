#include "journal/inspect.h"
#include "journal/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DECLARATIONS_MAX 1024 /* of a header; internal.h has the same bound */

struct declaration {
    char *name, *columns;
    size_t stream; /* in tm_inspect.streams */
};

struct walk {
    struct tm_fs fs;
    int dir;
    const char *dir_name;
    struct tm_inspect *in;
    tm_inspect_visit *visit;
    void *arg;
    uint64_t *numbers; /* of segments, ascending */
    size_t count, cap;
    bool no_memory;
    struct declaration decls[DECLARATIONS_MAX]; /* of the segment being read */
    size_t decl_count;
};

const char *tm_inspect_kind_name(enum tm_inspect_kind kind)
{
    static const char *const names[] = {"frames", "header", "segment", "epoch", "items", "order"};
    return names[kind];
}

/* ---- lists ---- */

static int add_damage(struct tm_inspect *in, enum tm_inspect_kind kind, uint64_t segment, uint64_t offset,
                      uint64_t bytes)
{
    if ((in->damage_count & (in->damage_count - 1)) == 0) { /* grown at powers of two */
        size_t cap = in->damage_count ? in->damage_count * 2 : 1;
        struct tm_inspect_damage *damage = realloc(in->damage, cap * sizeof *damage);
        if (!damage)
            return TM_ENOMEM;
        in->damage = damage;
    }
    in->damage[in->damage_count++] =
        (struct tm_inspect_damage){.kind = kind, .segment = segment, .offset = offset, .bytes = bytes};
    return TM_OK;
}

/* The stream of this name, made where there is none; SIZE_MAX: no memory. */
static size_t stream_of(struct tm_inspect *in, const char *name)
{
    for (size_t i = 0; i < in->stream_count; i++)
        if (strcmp(in->streams[i].name, name) == 0)
            return i;
    struct tm_inspect_stream *streams = realloc(in->streams, (in->stream_count + 1) * sizeof *streams);
    if (!streams)
        return SIZE_MAX;
    in->streams = streams;
    streams[in->stream_count] = (struct tm_inspect_stream){.name = strdup(name)};
    return streams[in->stream_count].name ? in->stream_count++ : SIZE_MAX;
}

static void on_name(void *to, const char *name)
{
    struct walk *w = to;
    uint64_t number;
    if (!tm_segment_name_parse(name, &number))
        return;
    if (w->count == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        uint64_t *numbers = realloc(w->numbers, cap * sizeof *numbers);
        if (!numbers) {
            w->no_memory = true;
            return;
        }
        w->numbers = numbers;
        w->cap = cap;
    }
    w->numbers[w->count++] = number;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int list(struct walk *w, struct tm_error *err)
{
    if (w->fs.list_dir(w->fs.arg, w->dir, on_name, w))
        return tm_error_errno(err, TM_EIO, errno, "journal: cannot list %s", w->dir_name);
    if (w->no_memory)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory to list %s", w->dir_name);
    if (w->count)
        qsort(w->numbers, w->count, sizeof *w->numbers, by_number);
    return TM_OK;
}

/* ---- declarations ---- */

static void forget_declarations(struct walk *w)
{
    while (w->decl_count) {
        struct declaration *d = &w->decls[--w->decl_count];
        free(d->name);
        free(d->columns);
    }
}

static int learn_declaration(struct walk *w, const struct tm_segment_stream *s)
{
    struct declaration *d = &w->decls[w->decl_count];
    if (w->decl_count == DECLARATIONS_MAX || s->id != w->decl_count)
        return TM_ECORRUPT;
    d->name = strndup(s->name, s->name_len);
    d->columns = strndup(s->columns, s->columns_len);
    w->decl_count++;
    if (!d->name || !d->columns)
        return TM_ENOMEM;
    d->stream = stream_of(w->in, d->name);
    if (d->stream == SIZE_MAX)
        return TM_ENOMEM;
    struct tm_inspect_stream *stream = &w->in->streams[d->stream];
    if (s->next_seq > stream->next)
        stream->next = s->next_seq;
    return TM_OK;
}

/* The newest header has all declarations of the journal's life. */
static int learn_declarations(struct walk *w, const struct tm_segment_header *h)
{
    struct tm_segment_stream s;
    size_t at = 0;
    int rc = TM_OK;
    forget_declarations(w);
    while (!rc && tm_segment_stream_next(h, &at, &s))
        rc = learn_declaration(w, &s);
    for (size_t i = 0; i < w->in->stream_count; i++)
        w->in->streams[i].declarations = 0;
    for (size_t i = 0; !rc && i < w->decl_count; i++)
        w->in->streams[w->decls[i].stream].declarations++;
    return rc;
}

/* ---- records ---- */

static int note_record(struct walk *w, const struct tm_frame *f, const struct tm_item *item, uint64_t segment)
{
    struct tm_inspect_stream *s = &w->in->streams[w->decls[item->stream].stream];
    if (s->last && item->seq <= s->last)
        return add_damage(w->in, TM_DAMAGE_ORDER, segment, f->offset, 0);
    if (s->last && item->seq > s->last + 1) {
        s->missing += (uint64_t)(item->seq - s->last - 1);
        s->hole_first = s->hole_first ? s->hole_first : s->last + 1;
    }
    s->first = s->first ? s->first : item->seq;
    s->last = item->seq;
    s->records++;
    s->bytes += item->len;
    w->in->records++;
    if (!w->visit)
        return TM_OK;
    struct tm_inspect_record record = {.stream = s->name,
                                       .columns = w->decls[item->stream].columns,
                                       .seq = item->seq,
                                       .tuple = item->tuple,
                                       .len = item->len,
                                       .segment = segment,
                                       .offset = f->offset};
    return w->visit(w->arg, &record);
}

static int take_frame(struct walk *w, const struct tm_frame *f, uint64_t segment)
{
    struct tm_item item;
    uint32_t at = 0;
    w->in->frames++;
    for (uint32_t i = 0; i < f->count; i++) {
        if (!tm_item_next(f->payload, f->length, &at, &item) || item.stream >= w->decl_count || item.seq <= 0)
            return add_damage(w->in, TM_DAMAGE_ITEMS, segment, f->offset, f->length + (uint64_t)TM_FRAME_HEAD_BYTES);
        int rc = note_record(w, f, &item, segment);
        if (rc)
            return rc;
    }
    return TM_OK;
}

/* ---- segments ---- */

/* One segment while it is read. */
struct piece {
    uint64_t number, size;
    uint64_t proven; /* all before was durable; what fails behind it is a torn tail */
    uint64_t first;  /* where its frames begin */
    struct tm_scan scan;
};

static int survey(struct piece *p, struct tm_error *err)
{
    struct tm_frame f;
    int rc;
    p->proven = 0;
    while ((rc = tm_scan_next(&p->scan, p->size, &f, err)) == 1)
        p->proven = f.synced > p->proven ? f.synced : p->proven;
    p->scan.offset = p->first;
    return rc;
}

/* What was stepped over before the frame at hand, or before the end. 1: it is the torn tail, and the end. */
static int judge_skipped(struct walk *w, struct piece *p)
{
    struct tm_inspect *in = w->in;
    if (!p->scan.skipped_bytes)
        return TM_OK;
    if (p->scan.skipped_from < p->proven)
        return add_damage(in, TM_DAMAGE_FRAMES, p->number, p->scan.skipped_from, p->scan.skipped_bytes);
    in->torn_segment = p->number;
    in->torn_offset = p->scan.skipped_from;
    in->torn_bytes = p->size - p->scan.skipped_from;
    return 1;
}

static int walk_frames(struct walk *w, struct piece *p, struct tm_error *err)
{
    struct tm_frame f;
    int rc, judged = TM_OK;
    while ((rc = tm_scan_next(&p->scan, p->size, &f, err)) == 1) {
        judged = judge_skipped(w, p);
        if (judged)
            break;
        rc = take_frame(w, &f, p->number);
        if (rc)
            return rc;
    }
    if (rc == 0)
        judged = judge_skipped(w, p);
    if (rc < 0 || judged == 1)
        return rc < 0 ? rc : TM_OK;
    return judged ? tm_error_set(err, judged, "journal: no memory for a list of damage") : TM_OK;
}

static bool belongs(struct walk *w, const struct tm_segment_header *h)
{
    return !w->in->empty && memcmp(h->epoch, w->in->epoch, sizeof h->epoch) == 0;
}

static int take_header(struct walk *w, const struct piece *p, const struct tm_segment_header *h, struct tm_error *err)
{
    int rc = TM_OK;
    if (h->damaged_bytes) /* which of the two is told by whoever mends it */
        rc = add_damage(w->in, TM_DAMAGE_HEADER, p->number, 0, h->damaged_bytes);
    rc = rc ? rc : learn_declarations(w, h);
    if (rc == TM_ECORRUPT)
        return tm_error_set(err, rc,
                            "journal: %s: segment %016" PRIx64 " has a table of streams that this version does not "
                            "write",
                            w->dir_name, p->number);
    return rc ? tm_error_set(err, rc, "journal: no memory for the streams of %s", w->dir_name) : TM_OK;
}

static int walk_open(struct walk *w, struct piece *p, bool newest, struct tm_error *err)
{
    struct tm_segment_header header;
    int64_t size = w->fs.size(w->fs.arg, p->scan.fd);
    if (size < 0)
        return tm_error_errno(err, TM_EIO, errno, "journal: %s: cannot read the size of segment %016" PRIx64,
                              w->dir_name, p->number);
    p->size = (uint64_t)size;
    w->in->bytes += p->size;
    int rc = tm_scan_open(&p->scan, p->number, &header, err);
    if (rc == TM_ECORRUPT)
        return add_damage(w->in, TM_DAMAGE_SEGMENT, p->number, 0, p->size);
    if (!rc && !belongs(w, &header))
        return add_damage(w->in, TM_DAMAGE_EPOCH, p->number, 0, p->size);
    rc = rc ? rc : take_header(w, p, &header, err);
    p->first = p->scan.offset;
    p->proven = UINT64_MAX;
    if (!rc && newest)
        rc = survey(p, err);
    return rc ? rc : walk_frames(w, p, err);
}

static int open_file(struct walk *w, uint64_t number, int *fd, struct tm_error *err)
{
    char name[TM_SEGMENT_NAME_BYTES];
    tm_segment_name(number, name);
    *fd = tm_fs_open(&w->fs, w->dir, name, O_RDONLY);
    if (*fd >= 0)
        return TM_OK;
    return tm_error_errno(err, errno == ENOENT ? TM_ENOENT : TM_EIO, errno, "journal: cannot open %s/%s", w->dir_name,
                          name);
}

static int walk_segment(struct walk *w, size_t index, struct tm_error *err)
{
    struct piece p = {.number = w->numbers[index], .scan = {.fs = &w->fs}};
    int rc = open_file(w, p.number, &p.scan.fd, err);
    if (rc == TM_ENOENT) {
        w->in->released++;
        return TM_OK;
    }
    if (rc)
        return rc;
    w->in->segments++;
    w->in->first_segment = w->in->segments == 1 ? p.number : w->in->first_segment;
    w->in->last_segment = p.number;
    rc = walk_open(w, &p, index + 1 == w->count, err);
    tm_scan_fini(&p.scan);
    w->fs.close(w->fs.arg, p.scan.fd);
    return rc;
}

/* Only the newest segment that can be read says which journal this is. */
static int find_epoch(struct walk *w, struct tm_error *err)
{
    w->in->empty = true;
    for (size_t i = w->count; w->in->empty && i-- > 0;) {
        struct tm_scan scan = {.fs = &w->fs};
        struct tm_segment_header header;
        int rc = open_file(w, w->numbers[i], &scan.fd, err);
        if (rc == TM_ENOENT)
            continue;
        if (rc)
            return rc;
        rc = tm_scan_open(&scan, w->numbers[i], &header, err);
        if (!rc) {
            memcpy(w->in->epoch, header.epoch, sizeof header.epoch);
            w->in->empty = false;
        }
        tm_scan_fini(&scan);
        w->fs.close(w->fs.arg, scan.fd);
        if (rc && rc != TM_ECORRUPT)
            return rc;
    }
    return TM_OK;
}

static void compare_epoch_file(struct walk *w)
{
    uint8_t found[17];
    int fd = tm_fs_open(&w->fs, w->dir, "epoch", O_RDONLY);
    if (fd < 0)
        return;
    ssize_t n = tm_fs_read(&w->fs, fd, found, sizeof found, 0);
    w->fs.close(w->fs.arg, fd);
    w->in->epoch_file = n == 16 && memcmp(found, w->in->epoch, 16) == 0;
}

/* ---- the whole ---- */

static bool newest_is_damaged(const struct walk *w)
{
    const struct tm_inspect *in = w->in;
    return w->count && in->damage_count && in->damage[in->damage_count - 1].segment == w->numbers[w->count - 1];
}

static int walk_all(struct walk *w, struct tm_error *err)
{
    int rc = list(w, err);
    rc = rc ? rc : find_epoch(w, err);
    if (!rc)
        compare_epoch_file(w);
    for (size_t i = 0; !rc && i < w->count; i++)
        rc = walk_segment(w, i, err);
    return rc;
}

static int open_dir(struct walk *w, struct tm_error *err)
{
    /* the journal's own way to open a directory makes it where it is missing */
    if (w->fs.open_dir == tm_fs_posix.open_dir)
        w->dir = open(w->dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else
        w->dir = w->fs.open_dir(w->fs.arg, w->dir_name);
    return w->dir >= 0 ? TM_OK
                       : tm_error_errno(err, errno == ENOENT ? TM_ENOENT : TM_EIO, errno,
                                        "journal: cannot open the directory %s", w->dir_name);
}

int tm_journal_inspect(const char *dir, const struct tm_fs *fs, tm_inspect_visit *visit, void *arg,
                       struct tm_inspect *out, struct tm_error *err)
{
    struct tm_error unwanted;
    struct walk *w = calloc(1, sizeof *w); /* too large for a stack */
    err = err ? err : &unwanted;
    *out = (struct tm_inspect){0};
    if (!w)
        return tm_error_set(err, TM_ENOMEM, "journal: no memory to read %s", dir);
    *w = (struct walk){.fs = fs ? *fs : tm_fs_posix, .dir_name = dir, .in = out, .visit = visit, .arg = arg};
    int rc = open_dir(w, err);
    rc = rc ? rc : walk_all(w, err);
    if (!rc && !visit && newest_is_damaged(w)) {
        tm_inspect_fini(out);
        w->count = 0;
        rc = walk_all(w, err);
    }
    if (w->dir >= 0)
        w->fs.close(w->fs.arg, w->dir);
    forget_declarations(w);
    free(w->numbers);
    free(w);
    return rc;
}

void tm_inspect_fini(struct tm_inspect *in)
{
    for (size_t i = 0; i < in->stream_count; i++)
        free(in->streams[i].name);
    free(in->streams);
    free(in->damage);
    *in = (struct tm_inspect){0};
}
