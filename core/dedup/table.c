#include "dedup/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS_MIN 1024
#define SLOTS_PAD 1024     /* behind the last home; its last slot stays empty, so that every search ends */
#define STEP_SLOTS 512     /* of a pass; a few microseconds */
#define SCRATCH_SLOTS 4096 /* a step and the runs of full slots at both its ends */
#define TURN_PUTS 32       /* a step after so many: a pass is over when 1/16 of the capacity was added */
#define HURRY_STEPS 16
#define SHRINK_MAX 8 /* times, in one pass */
#define PAGE_BYTES 4096
#define TRIM_BYTES (256 * 1024)
#define FRESH_BYTES (32 * 1024)

static size_t slot_bytes(const struct tm_table *t)
{
    return t->width * sizeof(uint64_t);
}

static uint64_t *slot_at(const struct tm_table *t, uint64_t i)
{
    return t->words + i * t->width;
}

static uint64_t capacity(const struct tm_table *t)
{
    return t->cap_low > t->cap_high ? t->cap_low : t->cap_high;
}

static uint64_t keys(const struct tm_table *t)
{
    return t->ages.live + t->ages.unswept;
}

/* ---- memory ---- */

static size_t scratch_bytes(unsigned width)
{
    return SCRATCH_SLOTS * width * sizeof(uint64_t);
}

size_t tm_table_bytes_min(unsigned width)
{
    return scratch_bytes(width) + (SLOTS_MIN + SLOTS_PAD) * width * sizeof(uint64_t) + PAGE_BYTES;
}

static size_t array_bytes(const struct tm_table *t, uint64_t slots)
{
    return (slots * slot_bytes(t) + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

static void set_bound(struct tm_table *t, size_t memory_bytes_max)
{
    size_t bytes = (memory_bytes_max - scratch_bytes(t->width)) & ~(size_t)(PAGE_BYTES - 1);
    t->slots_max = bytes / slot_bytes(t) - SLOTS_PAD;
}

static void set_layout(struct tm_table *t, uint64_t cap)
{
    t->cap_low = t->cap_high = cap;
    t->boundary = 0;
    t->pass = TM_PASS_NONE;
}

static void touch(struct tm_table *t, uint64_t cap)
{
    if (t->slots_touched < cap + SLOTS_PAD)
        t->slots_touched = cap + SLOTS_PAD;
}

/* Give back a piece of what is no longer used. */
static void trim(struct tm_table *t)
{
    size_t used = array_bytes(t, capacity(t) + SLOTS_PAD), held = array_bytes(t, t->slots_touched);
    if (held <= used)
        return;
    size_t piece = held - used < TRIM_BYTES ? held - used : TRIM_BYTES;
    (void)madvise((char *)t->words + held - piece, piece, MADV_DONTNEED);
    t->slots_touched = held - piece == used ? capacity(t) + SLOTS_PAD : (held - piece) / slot_bytes(t);
}

/*
 * Pages for the array from byte `from` on, where a pass is about to write. One call for eight of them costs less than a
 * fault for each; two, because a slot is read before it is written. A kernel that cannot is no harm: then they come as
 * they are touched.
 */
static void make_pages(struct tm_table *t, size_t from)
{
    while (t->fresh_end > t->fresh_begin && t->fresh_end > from) {
        size_t free = t->fresh_end - t->fresh_begin, piece = free < FRESH_BYTES ? free : FRESH_BYTES;
        t->fresh_end -= piece;
        (void)madvise((char *)t->words + t->fresh_end, piece, MADV_POPULATE_WRITE);
    }
}

uint64_t tm_table_memory(const struct tm_table *t)
{
    return array_bytes(t, t->slots_touched) + scratch_bytes(t->width);
}

int tm_table_init(struct tm_table *t, unsigned width, int64_t window_us, size_t memory_bytes_max)
{
    if (memory_bytes_max < tm_table_bytes_min(width))
        return TM_EINVAL;
    *t = (struct tm_table){.width = width};
    set_bound(t, memory_bytes_max);
    t->reserved_bytes = array_bytes(t, t->slots_max + SLOTS_PAD);
    t->scratch = malloc(scratch_bytes(width));
    t->words =
        mmap(NULL, t->reserved_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!t->scratch || t->words == MAP_FAILED) {
        tm_table_fini(t);
        return TM_ENOMEM;
    }
    set_layout(t, SLOTS_MIN);
    touch(t, SLOTS_MIN);
    tm_ages_init(&t->ages, window_us, t->slots_max);
    return TM_OK;
}

void tm_table_fini(struct tm_table *t)
{
    if (t->words && t->words != MAP_FAILED)
        munmap(t->words, t->reserved_bytes);
    free(t->scratch);
    *t = (struct tm_table){0};
}

void tm_table_configure(struct tm_table *t, int64_t window_us, size_t memory_bytes_max)
{
    uint64_t slots_max = t->slots_max;
    set_bound(t, memory_bytes_max);
    size_t bytes = array_bytes(t, t->slots_max + SLOTS_PAD);
    if (bytes > t->reserved_bytes) {
        void *words = mremap(t->words, t->reserved_bytes, bytes, MREMAP_MAYMOVE);
        if (words == MAP_FAILED) {
            t->slots_max = slots_max; /* no address space for more: the old bound stays */
        } else {
            t->words = words;
            t->reserved_bytes = bytes;
        }
    }
    tm_ages_configure(&t->ages, window_us, t->slots_max);
    tm_ages_advance_to(&t->ages, t->ages.now_us);
}

void tm_table_clear(struct tm_table *t)
{
    uint64_t expired = t->ages.expired, evicted = t->ages.evicted;
    int64_t now_us = t->ages.now_us;
    (void)madvise(t->words, array_bytes(t, t->slots_touched), MADV_DONTNEED);
    set_layout(t, SLOTS_MIN);
    t->slots_touched = 0;
    t->fresh_begin = t->fresh_end = 0;
    touch(t, SLOTS_MIN);
    tm_ages_init(&t->ages, t->ages.window_us, t->slots_max);
    t->ages.now_us = now_us;
    t->ages.expired = expired;
    t->ages.evicted = evicted;
}

/* ---- slots ---- */

static const uint64_t *last_slot(const struct tm_table *t)
{
    return slot_at(t, capacity(t) + SLOTS_PAD - 1);
}

static void copy_slot(const struct tm_table *t, uint64_t *to, const uint64_t *from)
{
    to[0] = from[0];
    to[1] = from[1];
    if (t->width == 4) {
        to[2] = from[2];
        to[3] = from[3];
    }
}

/* Open a slot at `at`, pushing what stands there up to the next empty slot one further. False at the end of the array. */
static bool open_slot(struct tm_table *t, uint64_t *at)
{
    uint64_t *end = at;
    while (end[1])
        end += t->width;
    if (end >= last_slot(t))
        return false;
    memmove(at + t->width, at, (size_t)((char *)end - (char *)at));
    return true;
}

static void drop(struct tm_table *t, const uint64_t *slot)
{
    tm_ages_swept(&t->ages, (uint8_t)slot[1]);
    t->ages.evicted++;
}

/* Where it was put, or would have been had there been room. */
static uint64_t *place(struct tm_table *t, const uint64_t *from)
{
    uint64_t *slot = tm_table_home(t, from[0]);
    while (slot[1] && slot[0] <= from[0])
        slot += t->width;
    if (open_slot(t, slot))
        copy_slot(t, slot, from);
    else
        drop(t, from);
    return slot;
}

/* ---- passes ---- */

/* The smallest hi whose home at this capacity is `slot` or behind. */
static uint64_t boundary_at(uint64_t slot, uint64_t cap)
{
    return (uint64_t)((((unsigned __int128)slot << 64) + cap - 1) / cap);
}

static void sweep(struct tm_table *t, uint64_t lo, uint64_t hi)
{
    for (uint64_t *slot = slot_at(t, lo), *end = slot_at(t, hi); slot < end; slot += t->width)
        if (slot[1] && t->ages.dead[slot[1] & 0xff]) {
            tm_ages_swept(&t->ages, (uint8_t)slot[1]);
            slot[1] = 0;
        }
}

/* Take the keys out of [lo, hi), the dead ones for good; how many are in scratch now. No branch in the loop: which slots
 * are empty cannot be predicted. */
static uint64_t take_out(struct tm_table *t, uint64_t lo, uint64_t hi)
{
    uint64_t taken = 0;
    if (t->ages.unswept)
        sweep(t, lo, hi);
    uint64_t *slot = slot_at(t, lo), *end = slot_at(t, hi);
    for (; slot < end && taken < SCRATCH_SLOTS; slot += t->width) {
        copy_slot(t, t->scratch + taken * t->width, slot);
        taken += slot[1] != 0;
    }
    for (; slot < end; slot += t->width) /* a run of thousands of full slots: no hash does that, nothing may overflow */
        if (slot[1])
            drop(t, slot);
    memset(slot_at(t, lo), 0, (hi - lo) * slot_bytes(t));
    return taken;
}

/* In order, each at its home or behind the one before; where somebody stands there already, the long way. */
static void put_back(struct tm_table *t, uint64_t taken)
{
    uint64_t *free_at = t->words;
    const uint64_t *last = last_slot(t);
    for (const uint64_t *from = t->scratch, *end = from + taken * t->width; from < end; from += t->width) {
        uint64_t *slot = tm_table_home(t, from[0]);
        slot = slot < free_at ? free_at : slot;
        if (slot >= last || slot[1])
            slot = place(t, from);
        else
            copy_slot(t, slot, from);
        free_at = slot + t->width;
    }
}

/* A step begins and ends at an empty slot, so that no key's way from its home is cut. Keys that were pushed over the
 * boundary since belong to the side their hash says. */
static void step_down(struct tm_table *t)
{
    bool first = t->pass_at == t->pass_from;
    uint64_t end = t->pass_at, lo = t->pass_at > STEP_SLOTS ? t->pass_at - STEP_SLOTS : 0;
    while (slot_at(t, end)[1] && (first || slot_at(t, end)[0] < t->boundary))
        end++;
    while (lo && slot_at(t, lo - 1)[1])
        lo--;
    uint64_t taken = take_out(t, lo, end);
    t->pass_at = lo;
    t->boundary = boundary_at(lo, t->pass_from);
    if (lo == 0)
        set_layout(t, t->cap_high);
    if (taken)
        make_pages(t, (size_t)((char *)tm_table_home(t, t->scratch[0]) - (char *)t->words));
    put_back(t, taken);
}

static void step_up(struct tm_table *t)
{
    uint64_t lo = t->pass_at, last = t->pass_from + SLOTS_PAD;
    while (slot_at(t, lo)[1] && slot_at(t, lo)[0] < t->boundary)
        lo++;
    uint64_t hi = lo + STEP_SLOTS < last ? lo + STEP_SLOTS : last;
    while (hi < last && slot_at(t, hi - 1)[1])
        hi++;
    uint64_t taken = take_out(t, lo, hi);
    t->pass_at = hi;
    if (hi >= t->pass_from)
        set_layout(t, t->cap_low);
    else
        t->boundary = boundary_at(hi, t->pass_from);
    put_back(t, taken);
}

static void step(struct tm_table *t)
{
    if (t->pass == TM_PASS_GROW)
        step_down(t);
    else
        step_up(t);
}

static void begin(struct tm_table *t, uint64_t cap)
{
    t->pass_from = t->cap_low;
    if (cap > t->cap_low) {
        t->pass = TM_PASS_GROW;
        t->pass_at = t->pass_from;
        t->cap_high = cap;
        t->fresh_begin = array_bytes(t, t->slots_touched);
        touch(t, cap);
        t->fresh_end = array_bytes(t, t->slots_touched);
    } else {
        t->pass = TM_PASS_SHRINK;
        t->pass_at = 0;
        t->cap_low = cap;
    }
}

/* The capacity for the keys that live: 53 % full. */
static uint64_t capacity_wanted(const struct tm_table *t)
{
    uint64_t cap = t->ages.live * 15 / 8;
    return cap < SLOTS_MIN ? SLOTS_MIN : cap > t->slots_max ? t->slots_max : cap;
}

/* Is it time for a pass? When the table is full, when much of it is dead, when it is far too large. */
static void plan(struct tm_table *t)
{
    uint64_t cap = t->cap_low;
    bool full = cap < t->slots_max ? keys(t) * 4 > cap * 3 : keys(t) * 5 > t->slots_max * 4;
    bool at_bound = full && capacity_wanted(t) >= t->slots_max && cap >= t->slots_max;
    if (at_bound)
        tm_ages_evict(&t->ages, keys(t) - t->slots_max * 7 / 10);
    bool dirty = t->ages.blocked || (t->ages.unswept * 8 > keys(t) && t->ages.unswept > SLOTS_MIN / 8);
    uint64_t wanted = capacity_wanted(t);
    if (wanted * 10 < cap * 7 || cap > t->slots_max)
        begin(t, wanted < cap / SHRINK_MAX ? cap / SHRINK_MAX : wanted);
    else if (full || dirty)
        begin(t, full && wanted > cap ? wanted : cap);
}

/* A pass must be over before 1/16 of the capacity it leads to is added; one that shrinks has further to go for that, and
 * one that time waits for has to hurry: tens of microseconds an insertion, while there are few. */
static void work(struct tm_table *t)
{
    t->turn = 0;
    if (t->pass == TM_PASS_NONE)
        plan(t);
    uint64_t steps = t->ages.blocked ? HURRY_STEPS : 1 + t->pass_from / t->cap_low;
    for (; steps && t->pass != TM_PASS_NONE; steps--)
        step(t);
    if (t->pass != TM_PASS_GROW)
        trim(t);
}

/* ---- keys ---- */

void tm_table_advance(struct tm_table *t, int64_t now_us)
{
    tm_ages_advance(&t->ages, now_us);
    work(t);
}

/* More would make the runs of full slots long. A pass that shrinks leads to where only the living are. */
static bool is_stuffed(const struct tm_table *t)
{
    uint64_t low = t->cap_low < t->cap_high ? t->cap_low : t->cap_high;
    return t->ages.live * 16 > low * 15 || keys(t) * 16 > capacity(t) * 15;
}

/* A fingerprint whose place is `slot`, new or to be renewed. */
static __attribute__((noinline)) uint64_t *put_at(struct tm_table *t, uint64_t *slot, struct tm_fp fp, bool *is_new)
{
    uint64_t key = fp.lo & ~UINT64_C(0xff);
    if (tm_table_holds(slot, fp)) {
        *is_new = t->ages.dead[slot[1] & 0xff];
        slot[1] = key | tm_ages_renew(&t->ages, (uint8_t)slot[1]);
        return slot;
    }
    *is_new = true;
    if (is_stuffed(t) || !open_slot(t, slot)) {
        t->ages.evicted++;
        return NULL;
    }
    slot[0] = fp.hi;
    slot[1] = key | tm_ages_add(&t->ages);
    return slot;
}

uint64_t *tm_table_put(struct tm_table *t, struct tm_fp fp, int64_t now_us, bool *is_new)
{
    tm_ages_advance(&t->ages, now_us);
    if (__builtin_expect(++t->turn >= TURN_PUTS || t->ages.blocked, 0))
        work(t);
    uint64_t *slot = tm_table_seek(t, fp);
    if (!tm_table_holds(slot, fp) || t->ages.stale[slot[1] & 0xff])
        return put_at(t, slot, fp, is_new);
    *is_new = false;
    return slot;
}
