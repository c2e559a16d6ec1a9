/*
 * Walking over the frames of one segment file, through a window of bytes read ahead. Recovery and readers share it.
 *
 * Whatever does not check out is stepped over to the next place where a good frame head stands, in time linear in the
 * bytes skipped, and reported with the frame that follows it. A scan owns its window; file and key are the caller's.
 */
#ifndef TM_JOURNAL_SCAN_H
#define TM_JOURNAL_SCAN_H

#include "journal/fs.h"
#include "journal/segment.h"

struct tm_scan {
    const struct tm_fs *fs;
    int fd;
    uint32_t key;
    uint64_t offset;        /* the next frame is looked for here */
    uint64_t skipped_from;  /* where the damage began that the last call stepped over */
    uint64_t skipped_bytes; /* 0: none */
    struct tm_buf window;
    uint64_t window_offset;
};

/* Read the header and place *scan at the first frame. TM_ECORRUPT: no good header; TM_EIO, TM_ENOMEM. *header's table
 * points into the scan's window and is gone with the next call. */
int tm_scan_open(struct tm_scan *scan, uint64_t number, struct tm_segment_header *header,
                 struct tm_error *err) TM_MUST_CHECK;

/* The next good frame that ends at or before `limit`: 1, and the payload is good until the next call. 0: there is none;
 * offset is then `limit`, and skipped_* covers the rest if there is any. Negative: an I/O error, nothing moved. */
int tm_scan_next(struct tm_scan *scan, uint64_t limit, struct tm_frame *frame, struct tm_error *err) TM_MUST_CHECK;

void tm_scan_fini(struct tm_scan *scan);

#endif
