#include "control/journal_tool.h"
#include "base/json.h"
#include "control/offline.h"
#include "journal/repair.h"
#include "record/row_json.h"
#include "store/migrate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tm_cli_option tm_journal_tool_options[] = {
    {"--json", NULL, "check, repair: one line of JSON; dump: one for each record"},
    {"--stream", "NAME", "dump: records of this stream only"},
    {"--from", "SEQ", "dump: from this seq on"},
    {"--limit", "N", "dump: at most so many records"},
    {"--script", "FILE", "dump: the script whose streams say what types the columns have"},
    {"--dry-run", NULL, "repair: say what would be done, change nothing"},
    {0},
};

static int failed(const char *verb, const struct tm_error *err)
{
    fprintf(stderr, "tidemill journal %s: %s\n", verb, err->message);
    return TM_EXIT_FAILED;
}

/* ---- check ---- */

static const char *explain(enum tm_inspect_kind kind)
{
    switch (kind) {
    case TM_DAMAGE_FRAMES:
        return "bytes that were durable are damaged; the records in them are lost";
    case TM_DAMAGE_HEADER:
        return "one of the two copies of the header is damaged; nothing is lost";
    case TM_DAMAGE_SEGMENT:
        return "no header can be read; the records of the whole segment are lost";
    case TM_DAMAGE_EPOCH:
        return "the segment belongs to another journal";
    case TM_DAMAGE_ITEMS:
        return "content that this version does not write";
    case TM_DAMAGE_ORDER:
        return "a seq that was given out before: two histories in one directory";
    }
    return "";
}

static int stream_text(const struct tm_inspect_stream *s, struct tm_buf *out)
{
    int rc = s->records ? tm_buf_printf(out, "  %-24s %12" PRIu64 " records  seq %" PRId64 " to %" PRId64, s->name,
                                        s->records, s->first, s->last)
                        : tm_buf_printf(out, "  %-24s %12d records  next seq %" PRId64, s->name, 0, s->next);
    if (!rc && s->missing)
        rc = tm_buf_printf(out, "  %" PRIu64 " missing, the first is %" PRId64, s->missing, s->hole_first);
    return rc ? rc : tm_buf_append(out, "\n", 1);
}

static int damage_text(const char *dir, const struct tm_inspect_damage *d, struct tm_buf *out)
{
    return tm_buf_printf(out, "%s/%016" PRIx64 ".seg: offset %" PRIu64 ", %" PRIu64 " bytes: %s\n", dir, d->segment,
                         d->offset, d->bytes, explain(d->kind));
}

static int check_text(const char *dir, const struct tm_inspect *in, struct tm_buf *out)
{
    char epoch[37];
    tm_uuid_format(in->epoch, epoch);
    int rc = in->empty
                 ? tm_buf_printf(out, "%s: no segment\n", dir)
                 : tm_buf_printf(out,
                                 "%s: epoch %s, %" PRIu64 " segments (%016" PRIx64 " to %016" PRIx64 "), %" PRIu64
                                 " bytes, %" PRIu64 " records\n",
                                 dir, epoch, in->segments, in->first_segment, in->last_segment, in->bytes, in->records);
    if (!rc && !in->empty && !in->epoch_file)
        rc = tm_buf_printf(out, "%s/epoch says something else; the next start writes it anew\n", dir);
    for (size_t i = 0; !rc && i < in->stream_count; i++)
        rc = stream_text(&in->streams[i], out);
    if (!rc && in->torn_bytes)
        rc = tm_buf_printf(out,
                           "%s/%016" PRIx64 ".seg: offset %" PRIu64 ", %" PRIu64
                           " bytes: not durable yet, or a torn tail, which the next start cuts\n",
                           dir, in->torn_segment, in->torn_offset, in->torn_bytes);
    for (size_t i = 0; !rc && i < in->damage_count; i++)
        rc = damage_text(dir, &in->damage[i], out);
    return rc ? rc : tm_buf_printf(out, in->damage_count ? "damaged in %zu places\n" : "good\n", in->damage_count);
}

static int stream_json(const struct tm_inspect_stream *s, const char *comma, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "%s{\"stream\":", comma);
    rc = rc ? rc : tm_json_put_string(out, s->name);
    return rc ? rc
              : tm_buf_printf(
                    out,
                    ",\"declarations\":%d,\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"first\":%" PRId64
                    ",\"last\":%" PRId64 ",\"next\":%" PRId64 ",\"missing\":%" PRIu64 ",\"hole_first\":%" PRId64 "}",
                    s->declarations, s->records, s->bytes, s->first, s->last, s->next, s->missing, s->hole_first);
}

static int damages_json(const struct tm_inspect *in, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "\"damage\":[");
    for (size_t i = 0; !rc && i < in->damage_count; i++) {
        const struct tm_inspect_damage *d = &in->damage[i];
        rc = tm_buf_printf(out,
                           "%s{\"file\":\"%016" PRIx64 ".seg\",\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64
                           ",\"kind\":\"%s\",\"message\":\"%s\"}",
                           i ? "," : "", d->segment, d->offset, d->bytes, tm_inspect_kind_name(d->kind),
                           explain(d->kind));
    }
    return rc ? rc : tm_buf_printf(out, "]");
}

static int check_json(const char *dir, const struct tm_inspect *in, struct tm_buf *out)
{
    char epoch[37] = "";
    if (!in->empty)
        tm_uuid_format(in->epoch, epoch);
    int rc = tm_buf_printf(out, "{\"directory\":");
    rc = rc ? rc : tm_json_put_string(out, dir);
    rc = rc ? rc
            : tm_buf_printf(out,
                            ",\"ok\":%s,\"epoch\":\"%s\",\"epoch_file\":%s,\"segments\":%" PRIu64
                            ",\"released\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"frames\":%" PRIu64
                            ",\"records\":%" PRIu64 ",\"torn_bytes\":%" PRIu64 ",\"streams\":[",
                            in->damage_count ? "false" : "true", epoch, in->epoch_file ? "true" : "false", in->segments,
                            in->released, in->bytes, in->frames, in->records, in->torn_bytes);
    for (size_t i = 0; !rc && i < in->stream_count; i++)
        rc = stream_json(&in->streams[i], i ? "," : "", out);
    rc = rc ? rc : tm_buf_printf(out, "],");
    rc = rc ? rc : damages_json(in, out);
    return rc ? rc : tm_buf_printf(out, "}\n");
}

static int check(const struct tm_cli *cli, const char *dir)
{
    struct tm_inspect in;
    struct tm_error err;
    struct tm_buf out = {0};
    int rc = tm_journal_inspect(dir, NULL, NULL, NULL, &in, &err);
    if (rc) {
        tm_inspect_fini(&in);
        return failed("check", &err);
    }
    rc = tm_cli_given(cli, "--json") ? check_json(dir, &in, &out) : check_text(dir, &in, &out);
    rc = tm_offline_print(&out, rc);
    bool good = in.damage_count == 0;
    tm_buf_fini(&out);
    tm_inspect_fini(&in);
    return rc || !good ? TM_EXIT_FAILED : TM_EXIT_OK;
}

/* ---- dump ---- */

struct dump {
    const struct tm_plan *plan; /* what the streams are; NULL: nobody knows */
    const char *stream;
    long long from, left; /* left: LLONG_MAX without a limit */
    bool json;
    struct tm_buf out;
};

static int put_row(const struct dump *d, const struct tm_inspect_record *r, struct tm_buf *out)
{
    size_t before = out->len;
    const struct tm_stream *stream = d->plan ? tm_plan_stream_by_name(d->plan, r->stream) : NULL;
    int rc = tm_row_json_listed(stream, r->columns, r->tuple, r->len, out);
    if (rc != TM_ECORRUPT)
        return rc;
    out->len = before; /* not a tuple: as it is */
    rc = tm_buf_printf(out, "\"\\\\x");
    for (uint32_t i = 0; !rc && i < r->len; i++)
        rc = tm_buf_printf(out, "%02x", r->tuple[i]);
    return rc ? rc : tm_buf_printf(out, "\"");
}

static int dump_json(const struct dump *d, const struct tm_inspect_record *r, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "{\"stream\":");
    rc = rc ? rc : tm_json_put_string(out, r->stream);
    rc = rc ? rc
            : tm_buf_printf(out, ",\"seq\":%" PRId64 ",\"file\":\"%016" PRIx64 ".seg\",\"offset\":%" PRIu64 ",\"row\":",
                            r->seq, r->segment, r->offset);
    rc = rc ? rc : put_row(d, r, out);
    return rc ? rc : tm_buf_printf(out, "}\n");
}

static int dump_record(void *arg, const struct tm_inspect_record *r)
{
    struct dump *d = arg;
    if (r->seq < d->from || (d->stream && strcmp(d->stream, r->stream) != 0))
        return TM_OK;
    if (d->left-- == 0)
        return 1; /* enough */
    int rc = d->json ? dump_json(d, r, &d->out) : tm_buf_printf(&d->out, "%s %" PRId64 " ", r->stream, r->seq);
    if (!d->json) {
        rc = rc ? rc : put_row(d, r, &d->out);
        rc = rc ? rc : tm_buf_append(&d->out, "\n", 1);
    }
    return d->out.len > 65536 || rc ? tm_offline_print(&d->out, rc) : TM_OK;
}

static int read_dump_options(const struct tm_cli *cli, struct dump *d)
{
    const char *from = tm_cli_value(cli, "--from"), *limit = tm_cli_value(cli, "--limit");
    d->left = INT64_MAX;
    if (from && !tm_cli_number(from, 1, INT64_MAX, &d->from))
        return tm_cli_usage(cli->command, "--from: expected a seq of 1 or more, got %s", from);
    if (limit && !tm_cli_number(limit, 0, INT64_MAX, &d->left))
        return tm_cli_usage(cli->command, "--limit: expected a number of records, got %s", limit);
    return TM_EXIT_OK;
}

static int dump_all(struct dump *d, const char *dir)
{
    struct tm_inspect in;
    struct tm_error err = {0};
    int rc = tm_journal_inspect(dir, NULL, dump_record, d, &in, &err);
    bool damaged = in.damage_count > 0;
    if (damaged)
        fprintf(stderr, "tidemill journal dump: damaged in %zu places; 'tidemill journal check' tells where\n",
                in.damage_count);
    tm_inspect_fini(&in);
    if (rc < 0)
        return err.message[0] ? failed("dump", &err) : TM_EXIT_FAILED;
    return tm_offline_print(&d->out, TM_OK) || damaged ? TM_EXIT_FAILED : TM_EXIT_OK;
}

/* Streams that every plan has are known without a script. */
static int bare_plan(struct tm_plan **out)
{
    static const struct tm_plan_def none = {.gatherer = ""};
    struct tm_error unwanted;
    int rc = tm_plan_compile(&none, out, &unwanted);
    if (rc)
        *out = NULL;
    return rc == TM_ENOMEM ? rc : TM_OK;
}

static int dump(const struct tm_cli *cli, const char *dir)
{
    const char *path = tm_cli_value(cli, "--script");
    struct dump d = {.stream = tm_cli_value(cli, "--stream"), .json = tm_cli_given(cli, "--json")};
    struct tm_script *script = NULL;
    struct tm_plan *plan = NULL;
    int rc = read_dump_options(cli, &d);
    if (rc)
        return rc;
    if (path && !(script = tm_offline_load(path)))
        return TM_EXIT_CONFIG;
    if (!script && bare_plan(&plan))
        return TM_EXIT_FAILED;
    d.plan = script ? tm_script_config(script)->plan : plan;
    rc = dump_all(&d, dir);
    tm_buf_fini(&d.out);
    tm_plan_put(plan);
    tm_script_destroy(script);
    return rc;
}

/* ---- repair ---- */

static const char *action_text(enum tm_repair_kind kind)
{
    switch (kind) {
    case TM_REPAIR_EMPTY:
        return "become a frame without records; what lies behind keeps its place";
    case TM_REPAIR_CUT:
        return "are cut from the end";
    case TM_REPAIR_HEADER:
        return "of the header are written again from its other copy";
    case TM_REPAIR_ASIDE:
        return "are set aside with their file, as nothing in it can be read";
    case TM_REPAIR_TAIL:
        return "of a torn tail are cut; they were never reported as received";
    }
    return "";
}

static int missing_text(const struct tm_inspect *in, struct tm_buf *out)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < in->stream_count; i++)
        if (in->streams[i].missing)
            rc = tm_buf_printf(out, "%s: %" PRIu64 " seqs between %" PRId64 " and %" PRId64 " have no record\n",
                               in->streams[i].name, in->streams[i].missing, in->streams[i].first, in->streams[i].last);
    return rc;
}

static int repair_text(const char *dir, const struct tm_repair *r, bool dry_run, struct tm_buf *out)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < r->count; i++) {
        const struct tm_repair_action *a = &r->actions[i];
        rc = tm_buf_printf(out, "%s/%016" PRIx64 ".seg: offset %" PRIu64 ": %" PRIu64 " bytes %s\n", dir, a->segment,
                           a->offset, a->bytes, action_text(a->kind));
    }
    rc = rc ? rc : missing_text(&r->before, out);
    if (rc || !r->count)
        return rc ? rc : tm_buf_printf(out, "%s: no damage, nothing was changed\n", dir);
    if (dry_run)
        return tm_buf_printf(out, "nothing was changed (--dry-run)\n");
    return tm_buf_printf(out,
                         "repaired; the originals are in %s/%s; segment %016" PRIx64
                         " keeps the seqs of lost records from being given out again\n",
                         dir, r->kept, r->promised);
}

static int repair_json(const char *dir, const struct tm_repair *r, bool dry_run, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "{\"directory\":");
    rc = rc ? rc : tm_json_put_string(out, dir);
    rc = rc ? rc
            : tm_buf_printf(out, ",\"dry_run\":%s,\"kept\":\"%s\",\"actions\":[", dry_run ? "true" : "false", r->kept);
    for (size_t i = 0; !rc && i < r->count; i++) {
        const struct tm_repair_action *a = &r->actions[i];
        rc = tm_buf_printf(
            out, "%s{\"file\":\"%016" PRIx64 ".seg\",\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"action\":\"%s\"}",
            i ? "," : "", a->segment, a->offset, a->bytes, tm_repair_kind_name(a->kind));
    }
    rc = rc ? rc : tm_buf_printf(out, "],\"streams\":[");
    for (size_t i = 0; !rc && i < r->before.stream_count; i++)
        rc = stream_json(&r->before.streams[i], i ? "," : "", out);
    return rc ? rc : tm_buf_printf(out, "]}\n");
}

static int repair(const struct tm_cli *cli, const char *dir)
{
    bool dry_run = tm_cli_given(cli, "--dry-run");
    struct tm_repair r;
    struct tm_error err;
    struct tm_buf out = {0};
    int rc = tm_journal_repair(dir, dry_run, &r, &err);
    if (rc) {
        tm_repair_fini(&r);
        return failed("repair", &err);
    }
    rc = tm_cli_given(cli, "--json") ? repair_json(dir, &r, dry_run, &out) : repair_text(dir, &r, dry_run, &out);
    rc = tm_offline_print(&out, rc);
    tm_buf_fini(&out);
    tm_repair_fini(&r);
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}

/* ---- the verbs ---- */

int tm_journal_tool_command(const struct tm_cli *cli)
{
    static const struct {
        const char *name;
        int (*run)(const struct tm_cli *cli, const char *dir);
    } verbs[] = {{"check", check}, {"dump", dump}, {"repair", repair}};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(cli->files[0], verbs[i].name) == 0)
            return verbs[i].run(cli, cli->files[1]);
    return tm_cli_usage(cli->command, "expected check, dump or repair, got %s", cli->files[0]);
}
