/* What replay.c (the run) and replay_report.c (its result as text and JSON) share. */
#ifndef TM_CONTROL_REPLAY_PRIVATE_H
#define TM_CONTROL_REPLAY_PRIVATE_H

#include "control/recording.h"
#include "control/replay.h"
#include "engine/intake.h"
#include "script/script.h"

struct tm_replay_stream {
    const struct tm_stream *stream;
    bool compared[TM_COLUMNS_MAX]; /* columns that are content */
    uint64_t frames, rows, taken, collisions;
    uint64_t collision_line, collision_with; /* of the first one */
    uint64_t occurrences[TM_REPLAY_OCCURRENCES];
};

struct tm_replay_conn {
    char name[TM_RECORDING_CONN_MAX + 1]; /* "": the file names none */
    struct tm_feed *feed;
};

/* Of one subscription of one connection. */
struct tm_replay_gaps {
    size_t conn;
    int64_t sid;
    uint64_t frames, gaps, missing, late, repeated, back;
};

struct tm_replay_reason {
    char reason[160], example[160];
    uint64_t count, line; /* line: of the example */
    bool malformed;
};

struct tm_replay_key { /* of a row that came: is its content the same the next time? */
    struct tm_fp fp;
    uint64_t content, line;
};

struct tm_replay_run {
    const char *path, *script_path;
    struct tm_config *config;
    struct tm_intake *intake;
    struct tm_decoder *decoder; /* to look for the time of frames that say none */
    struct tm_metrics *metrics;
    struct tm_hash_key hash_key;

    struct tm_replay_stream streams[TM_STREAMS_MAX];
    size_t stream_count;
    uint64_t kinds[TM_KINDS_MAX];
    struct tm_replay_conn conns[TM_REPLAY_CONNS_MAX];
    size_t conn_count, conn_last;
    struct tm_replay_gaps *gaps;
    size_t gap_count, gap_cap;
    struct tm_replay_reason reasons[TM_REPLAY_REASONS_MAX];
    size_t reason_count;
    struct tm_replay_key *keys; /* open addressing; fp 0, 0 is free */
    size_t key_count, key_cap;

    uint64_t frames, control, line;
    int64_t first_us, last_us; /* recorded time; 0: none yet */
    int64_t elapsed_us;        /* real time that it took */

    const struct tm_stream *shown; /* --rows; NULL: none */
    uint64_t shown_left;
    struct tm_buf text;
    double speed;          /* 0: as fast as possible */
    int64_t started_us;    /* monotonic */
    int64_t progressed_us; /* monotonic, of the last line on the terminal; 0: no terminal */
};

/* Append the result. */
int tm_replay_report_text(const struct tm_replay_run *run, struct tm_buf *out) TM_MUST_CHECK;
int tm_replay_report_json(const struct tm_replay_run *run, struct tm_buf *out) TM_MUST_CHECK;

#endif
