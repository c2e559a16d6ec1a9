#include "control/replay.h"
#include "control/offline.h"
#include "control/replay_private.h"

#include "base/clock.h"
#include "record/row_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_US (200 * TM_US_PER_MS)
#define KEYS_MIN 4096

const struct tm_cli_option tm_replay_options[] = {
    {"--script", "FILE", "the script whose streams and keys are used"},
    {"--speed", "SPEED", "max (default), recorded, or a multiple of it like 10x"},
    {"--json", NULL, "the counts as one line of JSON"},
    {"--rows", "STREAM", "print the rows that are kept, one a line; the counts then go to stderr"},
    {"--limit", "N", "at most so many rows"},
    {0},
};

/* ---- rows ---- */

static struct tm_replay_stream *stream_of(struct tm_replay_run *run, const struct tm_stream *stream)
{
    return &run->streams[stream->index];
}

static void show(struct tm_replay_run *run, const struct tm_row *row)
{
    if (row->stream != run->shown || run->shown_left == 0)
        return;
    run->shown_left--;
    tm_buf_clear(&run->text);
    if (tm_row_json(row->stream, row->tuple, row->len, &run->text) == TM_OK)
        printf("%.*s\n", (int)run->text.len, (const char *)run->text.data);
}

/* What the journal would be given. */
static int take(void *arg, const struct tm_row *row)
{
    struct tm_replay_run *run = arg;
    struct tm_replay_stream *s = stream_of(run, row->stream);
    s->taken++;
    if (row->occurrence_at) {
        unsigned occurrence = tm_get_be16(row->tuple + row->occurrence_at);
        s->occurrences[occurrence < TM_REPLAY_OCCURRENCES ? occurrence : TM_REPLAY_OCCURRENCES - 1]++;
    }
    show(run, row);
    return TM_OK;
}

static uint64_t content_of(const struct tm_replay_stream *s, const struct tm_field *fields)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < s->stream->column_count; i++)
        if (s->compared[i])
            hash = tm_hash64(fields[i].len < 0 ? (const void *)"null" : fields[i].bytes,
                             fields[i].len < 0 ? 0 : (size_t)fields[i].len, hash + (fields[i].len < 0));
    return hash;
}

static struct tm_replay_key *find_key(struct tm_replay_key *keys, size_t cap, struct tm_fp fp)
{
    size_t at = fp.lo & (cap - 1);
    while ((keys[at].fp.lo | keys[at].fp.hi) && (keys[at].fp.lo != fp.lo || keys[at].fp.hi != fp.hi))
        at = (at + 1) & (cap - 1);
    return &keys[at];
}

static void grow_keys(struct tm_replay_run *run)
{
    size_t cap = run->key_cap ? 2 * run->key_cap : KEYS_MIN;
    struct tm_replay_key *keys = calloc(cap, sizeof *keys);
    TM_FATAL_UNLESS(keys);
    for (size_t i = 0; i < run->key_cap; i++)
        if (run->keys[i].fp.lo | run->keys[i].fp.hi)
            *find_key(keys, cap, run->keys[i].fp) = run->keys[i];
    free(run->keys);
    run->keys = keys;
    run->key_cap = cap;
}

static void compare(struct tm_replay_run *run, struct tm_replay_stream *s, const struct tm_row *row)
{
    struct tm_field fields[TM_COLUMNS_MAX];
    if (tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count) < 0)
        return;
    if (run->key_count * 2 >= run->key_cap && run->key_count < TM_REPLAY_KEYS_MAX)
        grow_keys(run);
    struct tm_fp fp = tm_stream_fingerprint(row->stream, &run->hash_key, fields);
    uint64_t content = content_of(s, fields);
    struct tm_replay_key *key = find_key(run->keys, run->key_cap, fp);
    if (!(key->fp.lo | key->fp.hi)) {
        if (run->key_count < TM_REPLAY_KEYS_MAX) {
            *key = (struct tm_replay_key){.fp = fp, .content = content, .line = run->line};
            run->key_count++;
        }
    } else if (key->content != content && s->collisions++ == 0) {
        s->collision_line = run->line;
        s->collision_with = key->line;
    }
}

static void count_rows(struct tm_replay_run *run, const struct tm_decoded *d)
{
    const struct tm_stream *last = NULL;
    for (size_t i = 0; i < d->row_count; i++) {
        struct tm_replay_stream *s = stream_of(run, d->rows[i].stream);
        s->frames += d->rows[i].stream != last;
        last = d->rows[i].stream;
        s->rows++;
        if (tm_stream_has_seen(s->stream))
            compare(run, s, &d->rows[i]);
    }
}

/* ---- frames ---- */

/* Reasons are told apart by what was expected where; of a frame of unknown kind by what it says it is, too. */
static void count_reason(struct tm_replay_run *run, const struct tm_decoded *d)
{
    char reason[sizeof run->reasons->reason];
    (void)snprintf(reason, sizeof reason, "%s", d->reason);
    char *cut = strstr(reason, d->kind || d->verdict == TM_VERDICT_MALFORMED ? ", got" : " at byte");
    if (!cut && d->verdict == TM_VERDICT_MALFORMED)
        cut = strstr(reason, " at byte");
    if (cut)
        *cut = '\0';
    struct tm_replay_reason *r = run->reasons;
    while (r < run->reasons + run->reason_count && strcmp(r->reason, reason) != 0)
        r++;
    if (r == run->reasons + TM_REPLAY_REASONS_MAX)
        r--; /* the last place takes what is left */
    if (r == run->reasons + run->reason_count) {
        run->reason_count++;
        bool rest = run->reason_count == TM_REPLAY_REASONS_MAX;
        *r = (struct tm_replay_reason){.line = run->line, .malformed = d->verdict == TM_VERDICT_MALFORMED};
        (void)snprintf(r->reason, sizeof r->reason, "%s", rest ? "other reasons" : reason);
        (void)snprintf(r->example, sizeof r->example, "%s", d->reason);
    }
    r->count++;
}

static struct tm_replay_gaps *gaps_of(struct tm_replay_run *run, size_t conn, int64_t sid)
{
    for (size_t i = run->gap_count; i-- > 0;)
        if (run->gaps[i].conn == conn && run->gaps[i].sid == sid)
            return &run->gaps[i];
    if (run->gap_count == run->gap_cap) {
        run->gap_cap = run->gap_cap ? 2 * run->gap_cap : 64;
        run->gaps = realloc(run->gaps, run->gap_cap * sizeof *run->gaps);
        TM_FATAL_UNLESS(run->gaps);
    }
    run->gaps[run->gap_count] = (struct tm_replay_gaps){.conn = conn, .sid = sid};
    return &run->gaps[run->gap_count++];
}

static void count_sequence(struct tm_replay_run *run, size_t conn, const struct tm_intake_result *result)
{
    if (!result->decoded.has_sequence)
        return;
    struct tm_replay_gaps *g = gaps_of(run, conn, result->decoded.has_sid ? result->decoded.sid : 0);
    const struct tm_sequence_result *r = &result->sequence;
    g->frames++;
    if (r->verdict == TM_SEQUENCE_GAP) {
        g->gaps++;
        g->missing += (uint64_t)(r->last - r->first + 1);
    } else if (r->verdict == TM_SEQUENCE_LATE) {
        g->late++;
        g->missing--;
    } else if (r->verdict == TM_SEQUENCE_REPEATED) {
        g->repeated++;
    } else if (r->verdict == TM_SEQUENCE_BACK) {
        g->back++;
    }
}

static int find_conn(struct tm_replay_run *run, const struct tm_recorded *f, struct tm_intake_time now, size_t *out,
                     struct tm_error *err)
{
    const char *name = f->conn ? f->conn : "";
    for (size_t i = 0; i < run->conn_count; i++) {
        size_t at = (run->conn_last + i) % run->conn_count;
        if (strlen(run->conns[at].name) == f->conn_len && memcmp(run->conns[at].name, name, f->conn_len) == 0) {
            *out = run->conn_last = at;
            return TM_OK;
        }
    }
    if (run->conn_count == TM_REPLAY_CONNS_MAX)
        return tm_error_set(err, TM_EFULL, "%s:%llu: expected at most %d connections in a recording", run->path,
                            (unsigned long long)f->line, TM_REPLAY_CONNS_MAX);
    struct tm_replay_conn *c = &run->conns[run->conn_count];
    memcpy(c->name, name, f->conn_len);
    c->feed = tm_feed_create(run->intake, c->name, now);
    *out = run->conn_last = run->conn_count++;
    return TM_OK;
}

/* When a frame came; see replay.h. */
static int64_t time_of(struct tm_replay_run *run, const struct tm_recorded *f)
{
    int64_t us = f->recv_us;
    struct tm_decoded d;
    if (!us && tm_decode_frame(run->decoder, f->frame, f->len, run->last_us, &d) == TM_OK &&
        d.verdict == TM_VERDICT_ROWS && d.row_count && d.rows[0].exchange_us != INT64_MIN)
        us = d.rows[0].exchange_us;
    return us > run->last_us ? us : run->last_us;
}

static void wait_for(struct tm_replay_run *run, int64_t us)
{
    if (run->speed <= 0 || !run->first_us)
        return;
    int64_t due_us = run->started_us + (int64_t)((double)(us - run->first_us) / run->speed);
    int64_t rest_us = due_us - tm_clock_mono_us();
    if (rest_us > 0) {
        struct timespec t = {.tv_sec = rest_us / 1000000, .tv_nsec = rest_us % 1000000 * 1000};
        (void)nanosleep(&t, NULL);
    }
}

static int play(struct tm_replay_run *run, const struct tm_recorded *f, struct tm_error *err)
{
    struct tm_intake_result result;
    size_t conn = 0;
    int64_t us = time_of(run, f);
    wait_for(run, us);
    run->line = f->line;
    run->last_us = us;
    if (!run->first_us)
        run->first_us = us;
    struct tm_intake_time now = {.wall_us = us, .mono_us = us};
    int rc = find_conn(run, f, now, &conn, err);
    if (rc)
        return rc;
    rc = tm_intake_message(run->intake, run->conns[conn].feed, f->frame, f->len, now, &result);
    tm_intake_settle(run->intake);
    if (rc)
        return tm_error_set(err, rc, "%s:%llu: %s", run->path, (unsigned long long)f->line, tm_code_name(rc));
    run->frames++;
    count_sequence(run, conn, &result);
    if (result.repeated)
        return TM_OK;
    const struct tm_decoded *d = &result.decoded;
    if (d->kind)
        run->kinds[d->kind->index]++;
    run->control += d->verdict == TM_VERDICT_CONTROL;
    if (d->verdict == TM_VERDICT_UNKNOWN || d->verdict == TM_VERDICT_MALFORMED)
        count_reason(run, d);
    count_rows(run, d);
    return TM_OK;
}

static void progress(struct tm_replay_run *run, const struct tm_recording *recording, bool last)
{
    if (!run->progressed_us)
        return;
    int64_t now_us = tm_clock_mono_us();
    if (!last && now_us - run->progressed_us < PROGRESS_US)
        return;
    run->progressed_us = now_us;
    double seconds = (double)(now_us - run->started_us) / 1e6;
    fprintf(stderr, last ? "\r\033[K" : "\r\033[K%s: %3.0f %%, %llu frames, %.0f a second", run->path,
            100 * tm_recording_progress(recording), (unsigned long long)run->frames,
            seconds > 0 ? (double)run->frames / seconds : 0);
}

static int play_all(struct tm_replay_run *run, struct tm_recording *recording, struct tm_error *err)
{
    struct tm_recorded frame;
    int rc;
    run->started_us = tm_clock_mono_us();
    run->progressed_us = isatty(STDERR_FILENO) ? run->started_us : 0;
    while ((rc = tm_recording_next(recording, &frame, err)) > 0) {
        rc = play(run, &frame, err);
        if (rc)
            break;
        if (run->frames % 256 == 0)
            progress(run, recording, false);
    }
    progress(run, recording, true);
    run->elapsed_us = tm_clock_mono_us() - run->started_us;
    return rc;
}

/* ---- the whole ---- */

static bool is_arrival(const struct tm_plan_def *def, const char *stream, const char *column)
{
    for (size_t i = 0; i < def->kind_count; i++) {
        const struct tm_kind_def *k = &def->kinds[i];
        for (size_t j = 0; k->stream && strcmp(k->stream, stream) == 0 && j < k->source_count; j++)
            if (k->sources[j].from == TM_FROM_RECEIVED_AT && strcmp(k->sources[j].column, column) == 0)
                return true;
    }
    return false;
}

static void set_streams(struct tm_replay_run *run)
{
    const struct tm_plan *plan = run->config->plan;
    run->stream_count = tm_plan_stream_count(plan);
    for (size_t i = 0; i < run->stream_count; i++) {
        struct tm_replay_stream *s = &run->streams[i];
        s->stream = tm_plan_stream(plan, i);
        for (size_t c = 0; c < s->stream->column_count; c++)
            s->compared[c] = !s->stream->columns[c].local_only && (int)c != s->stream->received_column &&
                             (int)c != s->stream->occurrence_column &&
                             !is_arrival(&run->config->plan_def, s->stream->name, s->stream->columns[c].name);
    }
}

static int open_run(struct tm_replay_run *run, struct tm_error *err)
{
    set_streams(run);
    tm_hash_key_init(&run->hash_key);
    run->metrics = tm_metrics_create();
    struct tm_intake_options options = {
        .plan = run->config->plan, .take = take, .take_arg = run, .metrics = run->metrics};
    int rc = tm_decoder_create(run->config->plan, &run->decoder);
    if (rc)
        return tm_error_set(err, rc, "no memory for a decoder");
    return tm_intake_create(&options, &run->intake, err);
}

static void close_run(struct tm_replay_run *run)
{
    for (size_t i = 0; i < run->conn_count; i++)
        tm_feed_destroy(run->intake, run->conns[i].feed);
    tm_intake_destroy(run->intake);
    tm_decoder_destroy(run->decoder);
    tm_metrics_destroy(run->metrics);
    tm_buf_fini(&run->text);
    free(run->gaps);
    free(run->keys);
}

static int print_report(const struct tm_replay_run *run, bool json)
{
    struct tm_buf out = {0};
    int rc = json ? tm_replay_report_json(run, &out) : tm_replay_report_text(run, &out);
    if (!rc)
        fwrite(out.data, 1, out.len, run->shown ? stderr : stdout);
    tm_buf_fini(&out);
    return rc;
}

static int replay(struct tm_replay_run *run, bool json)
{
    struct tm_recording *recording = NULL;
    struct tm_error err = {0};
    int rc = tm_recording_open(run->path, &recording, &err);
    if (!rc)
        rc = open_run(run, &err);
    if (!rc)
        rc = play_all(run, recording, &err);
    if (rc)
        fprintf(stderr, "tidemill replay: %s\n", err.message);
    if (run->frames && print_report(run, json))
        rc = TM_ENOMEM;
    close_run(run);
    tm_recording_close(recording);
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}

static bool parse_speed(const char *text, double *speed)
{
    char *end;
    if (!text || strcmp(text, "max") == 0 || strcmp(text, "recorded") == 0) {
        *speed = text && *text == 'r' ? 1 : 0;
        return true;
    }
    *speed = strtod(text, &end);
    return end != text && strcmp(end, "x") == 0 && *speed > 0 && *speed < 1e9;
}

static int choose_rows(struct tm_replay_run *run, const struct tm_cli *cli)
{
    const char *name = tm_cli_value(cli, "--rows"), *limit = tm_cli_value(cli, "--limit");
    long long n = INT64_MAX;
    if (limit && !tm_cli_number(limit, 0, INT64_MAX, &n))
        return tm_cli_usage(cli->command, "--limit: expected a number, got %s", limit);
    run->shown_left = (uint64_t)n;
    run->shown = name ? tm_plan_stream_by_name(run->config->plan, name) : NULL;
    if (!name || run->shown)
        return TM_EXIT_OK;
    fprintf(stderr, "tidemill replay: %s declares no stream \"%s\": expected one of", run->script_path, name);
    for (size_t i = 0; i < tm_plan_stream_count(run->config->plan); i++)
        fprintf(stderr, " %s", tm_plan_stream(run->config->plan, i)->name);
    fputc('\n', stderr);
    return TM_EXIT_USAGE;
}

int tm_replay_command(const struct tm_cli *cli)
{
    const char *path = tm_cli_value(cli, "--script");
    double speed;
    if (!path)
        return tm_cli_usage(cli->command, "expected --script FILE");
    if (!parse_speed(tm_cli_value(cli, "--speed"), &speed))
        return tm_cli_usage(cli->command, "--speed: expected max, recorded or a multiple like 10x");
    struct tm_script *script = tm_offline_load(path);
    if (!script)
        return TM_EXIT_CONFIG;
    struct tm_replay_run *run = calloc(1, sizeof *run);
    TM_FATAL_UNLESS(run);
    run->path = cli->files[0];
    run->script_path = path;
    run->config = tm_script_config(script);
    run->speed = speed;
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, run->config->id); /* a line for each gap would drown the counts */
    int rc = choose_rows(run, cli);
    if (!rc)
        rc = replay(run, tm_cli_given(cli, "--json"));
    free(run);
    tm_script_destroy(script);
    return rc;
}
