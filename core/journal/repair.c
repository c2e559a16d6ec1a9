#include "journal/repair.h"
#include "base/clock.h"
#include "journal/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COPY_BYTES (1u << 20)

const char *tm_repair_kind_name(enum tm_repair_kind kind)
{
    static const char *const names[] = {"emptied", "cut", "header", "set aside", "tail cut"};
    return names[kind];
}

struct job {
    const char *dir_name;
    int dir, kept;
    struct tm_repair *out;
    struct tm_error *err;
};

static int io_error(struct job *j, const char *what, const char *name)
{
    return tm_error_errno(j->err, TM_EIO, errno, "journal: cannot %s %s/%s", what, j->dir_name, name);
}

/* ---- what there is to do ---- */

static int add_action(struct job *j, enum tm_repair_kind kind, uint64_t segment, uint64_t offset, uint64_t bytes)
{
    struct tm_repair *out = j->out;
    struct tm_repair_action *actions = realloc(out->actions, (out->count + 1) * sizeof *actions);
    if (!actions)
        return tm_error_set(j->err, TM_ENOMEM, "journal: no memory for a list of repairs");
    out->actions = actions;
    actions[out->count++] =
        (struct tm_repair_action){.kind = kind, .segment = segment, .offset = offset, .bytes = bytes};
    return TM_OK;
}

static int plan_one(struct job *j, const struct tm_inspect_damage *d)
{
    switch (d->kind) {
    case TM_DAMAGE_FRAMES:
        return add_action(j, d->bytes < TM_FRAME_HEAD_BYTES ? TM_REPAIR_CUT : TM_REPAIR_EMPTY, d->segment, d->offset,
                          d->bytes);
    case TM_DAMAGE_HEADER:
        return add_action(j, TM_REPAIR_HEADER, d->segment, d->offset, d->bytes);
    case TM_DAMAGE_SEGMENT:
    case TM_DAMAGE_EPOCH:
        return add_action(j, TM_REPAIR_ASIDE, d->segment, d->offset, d->bytes);
    case TM_DAMAGE_ITEMS:
    case TM_DAMAGE_ORDER:
        break;
    }
    return tm_error_set(j->err, TM_ECORRUPT,
                        "journal: %s: segment %016" PRIx64 " offset %" PRIu64 ": %s; this cannot be repaired: keep the "
                        "directory, and start a new one, which has an epoch of its own",
                        j->dir_name, d->segment, d->offset,
                        d->kind == TM_DAMAGE_ORDER ? "a seq that was given out before"
                                                   : "content that this version does not write");
}

static int plan(struct job *j)
{
    const struct tm_inspect *in = &j->out->before;
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < in->damage_count; i++)
        rc = plan_one(j, &in->damage[i]);
    if (!rc && in->torn_bytes)
        rc = add_action(j, TM_REPAIR_TAIL, in->torn_segment, in->torn_offset, in->torn_bytes);
    return rc;
}

/* ---- the originals ---- */

static int make_kept(struct job *j)
{
    time_t now = (time_t)(tm_clock_wall_us() / TM_US_PER_S);
    struct tm utc;
    char stamp[32];
    gmtime_r(&now, &utc);
    (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    for (int n = 1; n < 100; n++) {
        (void)snprintf(j->out->kept, sizeof j->out->kept, n > 1 ? "damaged-%s-%d" : "damaged-%s", stamp, n);
        if (mkdirat(j->dir, j->out->kept, 0700) == 0) {
            j->kept = openat(j->dir, j->out->kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            return j->kept >= 0 ? TM_OK : io_error(j, "open", j->out->kept);
        }
        if (errno != EEXIST)
            break;
    }
    int rc = io_error(j, "create", j->out->kept);
    j->out->kept[0] = '\0';
    return rc;
}

static int copy_bytes(int from, int to, uint8_t *buffer)
{
    uint64_t offset = 0;
    ssize_t n;
    while ((n = tm_fs_read(&tm_fs_posix, from, buffer, COPY_BYTES, offset)) > 0) {
        if (tm_fs_write(&tm_fs_posix, to, buffer, (size_t)n, offset))
            return -1;
        offset += (uint64_t)n;
    }
    return n < 0 ? -1 : tm_fs_sync(&tm_fs_posix, to);
}

static int keep(struct job *j, uint64_t segment)
{
    char name[TM_SEGMENT_NAME_BYTES];
    uint8_t *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return tm_error_set(j->err, TM_ENOMEM, "journal: no memory to copy a segment");
    tm_segment_name(segment, name);
    int from = tm_fs_open(&tm_fs_posix, j->dir, name, O_RDONLY);
    int to = from < 0 ? -1 : tm_fs_open(&tm_fs_posix, j->kept, name, O_RDWR | O_CREAT | O_TRUNC);
    int rc = to < 0 || copy_bytes(from, to, buffer) ? io_error(j, "keep a copy of", name) : TM_OK;
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
    free(buffer);
    return rc;
}

static int keep_all(struct job *j)
{
    int rc = make_kept(j);
    for (size_t i = 0; !rc && i < j->out->count; i++)
        if (i == 0 || j->out->actions[i].segment != j->out->actions[i - 1].segment)
            rc = keep(j, j->out->actions[i].segment);
    if (!rc && (fsync(j->kept) || fsync(j->dir)))
        rc = io_error(j, "sync", j->out->kept);
    return rc;
}

/* ---- seqs are not given out again ---- */

static int we_hold_the_lock(void *arg, int dir)
{
    (void)arg;
    (void)dir;
    return 0;
}

/* What open would do: cut the torn tail, step over the seqs of what is damaged, and begin a segment that says so. */
static int promise(struct job *j)
{
    struct tm_fs fs = tm_fs_posix;
    struct tm_journal *journal;
    fs.lock_dir = we_hold_the_lock;
    struct tm_journal_options options = {
        .dir = j->dir_name, .segment_bytes = 1u << 30, .bytes_max = UINT64_MAX, .fs = &fs};
    int rc = tm_journal_load(&options, &journal, j->err);
    if (rc)
        return rc;
    j->out->promised = journal->next_segment;
    rc = tm_journal_roll(journal, j->err);
    if (journal->tail.fd >= 0)
        close(journal->tail.fd);
    tm_journal_unload(journal);
    return rc;
}

/* ---- one segment ---- */

struct image {
    uint8_t *bytes;
    size_t len;
    struct tm_segment_header header;
};

static int read_image(struct job *j, const char *name, uint64_t number, struct image *im)
{
    struct stat st;
    int fd = tm_fs_open(&tm_fs_posix, j->dir, name, O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) {
        int rc = io_error(j, "read", name);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    im->bytes = malloc((size_t)st.st_size + 1);
    ssize_t n = im->bytes ? tm_fs_read(&tm_fs_posix, fd, im->bytes, (size_t)st.st_size, 0) : 0;
    close(fd);
    if (!im->bytes)
        return tm_error_set(j->err, TM_ENOMEM, "journal: no memory to repair a segment");
    if (n != st.st_size)
        return io_error(j, "read", name);
    im->len = (size_t)n;
    return tm_segment_header_parse(im->bytes, im->len, number, &im->header)
               ? tm_error_set(j->err, TM_ECORRUPT, "journal: %s/%s changed while it was repaired", j->dir_name, name)
               : TM_OK;
}

/* Frames without records over `bytes`, which are 20 or more. */
static void empty_out(struct image *im, uint64_t offset, uint64_t bytes)
{
    while (bytes) {
        uint64_t take = bytes;
        if (take > TM_FRAME_HEAD_BYTES + (uint64_t)TM_FRAME_BYTES_MAX)
            take = TM_FRAME_BYTES_MAX; /* what is left holds a head for sure */
        uint8_t *head = im->bytes + offset;
        struct tm_frame f = {
            .offset = offset, .length = (uint32_t)(take - TM_FRAME_HEAD_BYTES), .synced = (uint32_t)offset};
        memset(head, 0, take);
        tm_frame_seal(head, &f, im->header.key);
        offset += take;
        bytes -= take;
    }
}

static void mend_header(struct image *im, uint64_t number)
{
    struct tm_segment_header first;
    size_t bytes = im->header.bytes;
    bool first_is_good = tm_segment_header_parse(im->bytes, bytes, number, &first) == TM_OK;
    if (first_is_good)
        memcpy(im->bytes + bytes, im->bytes, bytes);
    else
        memcpy(im->bytes, im->bytes + bytes, bytes);
}

static void mend(struct image *im, const struct tm_repair_action *a)
{
    switch (a->kind) {
    case TM_REPAIR_EMPTY:
        empty_out(im, a->offset, a->bytes);
        break;
    case TM_REPAIR_CUT:
        im->len = (size_t)a->offset;
        break;
    case TM_REPAIR_HEADER:
        mend_header(im, a->segment);
        break;
    case TM_REPAIR_ASIDE:
    case TM_REPAIR_TAIL:
        break;
    }
}

static int write_image(struct job *j, const char *name, const struct image *im)
{
    char temporary[TM_SEGMENT_NAME_BYTES + 4];
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int fd = tm_fs_open(&tm_fs_posix, j->dir, temporary, O_RDWR | O_CREAT | O_TRUNC);
    int rc = fd < 0 || tm_fs_write(&tm_fs_posix, fd, im->bytes, im->len, 0) || tm_fs_sync(&tm_fs_posix, fd) ||
                     renameat(j->dir, temporary, j->dir, name)
                 ? io_error(j, "write", name)
                 : TM_OK;
    if (fd >= 0)
        close(fd);
    if (rc)
        (void)unlinkat(j->dir, temporary, 0);
    return rc;
}

/* All actions from `first` on that are of one segment; returns the next one's index, or an error. */
static int mend_segment(struct job *j, size_t first, size_t *next)
{
    const struct tm_repair_action *a = &j->out->actions[first];
    struct image im = {0};
    char name[TM_SEGMENT_NAME_BYTES];
    uint64_t number = a->segment;
    tm_segment_name(number, name);
    for (*next = first; *next < j->out->count && j->out->actions[*next].segment == number;)
        ++*next;
    if (a->kind == TM_REPAIR_TAIL)
        return TM_OK; /* cut already */
    if (a->kind == TM_REPAIR_ASIDE)
        return unlinkat(j->dir, name, 0) ? io_error(j, "set aside", name) : TM_OK;
    int rc = read_image(j, name, number, &im);
    for (size_t i = first; !rc && i < *next; i++)
        mend(&im, &j->out->actions[i]);
    rc = rc ? rc : write_image(j, name, &im);
    free(im.bytes);
    return rc;
}

static int mend_all(struct job *j)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < j->out->count;)
        rc = mend_segment(j, i, &i);
    if (!rc && fsync(j->dir))
        rc = io_error(j, "sync", "");
    return rc;
}

static int verify(struct job *j)
{
    struct tm_inspect after;
    int rc = tm_journal_inspect(j->dir_name, NULL, NULL, NULL, &after, j->err);
    if (!rc && after.damage_count)
        rc = tm_error_set(j->err, TM_ECORRUPT,
                          "journal: %s is still damaged after the repair, at segment %016" PRIx64 " offset %" PRIu64
                          "; the originals are in %s",
                          j->dir_name, after.damage[0].segment, after.damage[0].offset, j->out->kept);
    tm_inspect_fini(&after);
    return rc;
}

/* ---- the whole ---- */

static int open_and_lock(struct job *j)
{
    j->dir = open(j->dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dir < 0)
        return tm_error_errno(j->err, errno == ENOENT ? TM_ENOENT : TM_EIO, errno,
                              "journal: cannot open the directory %s", j->dir_name);
    if (flock(j->dir, LOCK_EX | LOCK_NB))
        return tm_error_errno(j->err, TM_ECONFLICT, errno,
                              "journal: cannot lock %s: a process is using it; stop it first", j->dir_name);
    return TM_OK;
}

static int repair(struct job *j, bool dry_run)
{
    int rc = open_and_lock(j);
    rc = rc ? rc : tm_journal_inspect(j->dir_name, NULL, NULL, NULL, &j->out->before, j->err);
    rc = rc ? rc : plan(j);
    if (rc || dry_run || !j->out->count)
        return rc;
    rc = keep_all(j);
    rc = rc ? rc : promise(j);
    rc = rc ? rc : mend_all(j);
    return rc ? rc : verify(j);
}

int tm_journal_repair(const char *dir, bool dry_run, struct tm_repair *out, struct tm_error *err)
{
    struct tm_error unwanted;
    struct job j = {.dir_name = dir, .dir = -1, .kept = -1, .out = out, .err = err ? err : &unwanted};
    *out = (struct tm_repair){0};
    int rc = repair(&j, dry_run);
    if (j.kept >= 0)
        close(j.kept);
    if (j.dir >= 0)
        close(j.dir);
    return rc;
}

void tm_repair_fini(struct tm_repair *r)
{
    tm_inspect_fini(&r->before);
    free(r->actions);
    *r = (struct tm_repair){0};
}
