/*
 * Making a damaged journal one without damage, offline: `tidemill journal repair`.
 *
 * Nothing is invented and no record is renumbered or moved: the checkpoint of a store, which is a place in the journal,
 * stays good. What can be done:
 *
 *     bytes that were frames     become a frame without records of the same length, so that all behind keep their place
 *     less than a frame's head   at the end of a segment: cut
 *     one copy of a header       is written again from the other
 *     a segment without header,  goes to the side: nothing of it can be read
 *     or of another journal
 *     a torn tail                is cut, as every open does
 *
 * Before anything is changed, whole copies of the files that will be are durable in DIR/damaged-<time>. Before damage is
 * taken away, a new segment promises seqs above all that the damaged bytes could have held (as open does, recover.c), so
 * that none of them is given out twice although the damage is no longer there to warn of it. A repair that was
 * interrupted is simply run again. Where no segment at all can be read, the journal begins anew with another epoch.
 *
 * Content that this version does not write, and two histories in one directory, cannot be mended: TM_ECORRUPT.
 */
#ifndef TM_JOURNAL_REPAIR_H
#define TM_JOURNAL_REPAIR_H

#include "journal/inspect.h"

enum tm_repair_kind { TM_REPAIR_EMPTY, TM_REPAIR_CUT, TM_REPAIR_HEADER, TM_REPAIR_ASIDE, TM_REPAIR_TAIL };
const char *tm_repair_kind_name(enum tm_repair_kind kind); /* "emptied", "cut", "header", "set aside", "tail cut" */

struct tm_repair_action {
    enum tm_repair_kind kind;
    uint64_t segment, offset, bytes;
};

struct tm_repair {
    struct tm_inspect before; /* what was found */
    struct tm_repair_action *actions;
    size_t count;      /* 0: there was nothing to do */
    char kept[64];     /* the directory with the originals, below the journal's; "": nothing was changed */
    uint64_t promised; /* the segment that was added to keep seqs from being given out again; 0: none */
};

/* `dry_run`: only say what would be done. TM_ECONFLICT: a process owns the journal; TM_ENOENT, TM_ECORRUPT, TM_EIO,
 * TM_ENOMEM. Call fini in any case. */
int tm_journal_repair(const char *dir, bool dry_run, struct tm_repair *out, struct tm_error *err) TM_MUST_CHECK;
void tm_repair_fini(struct tm_repair *r);

#endif
