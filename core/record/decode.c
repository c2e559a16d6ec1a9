#include "record/decode.h"
#include "record/builtin.h"
#include "record/emit.h"
#include "record/find.h"

#include "base/unset.h"

#include <stdio.h>
#include <stdlib.h>

#define ROWS_FIRST 8

struct tm_decoder {
    const struct tm_plan *plan;
    const struct tm_stream *unknown;
    struct tm_walker *frames;
    struct tm_walker **documents, **elements; /* by program; made when first needed */
    const struct tm_program *last;            /* the kind of the frame before */
    struct tm_buf out, scratch;
    struct tm_emission emission; /* of the frame or object under way */
    struct tm_row *rows;         /* rows[0] is kept for unknown_frames, the data begins at rows[1] */
    size_t row_count, row_cap;
    bool faulty; /* an element had not the declared shape; its reason is the caller's */
};

/* ---- life ---- */

static unsigned hint_tag(void *arg, const struct tm_value *tag);

static int create(struct tm_decoder *d)
{
    const struct tm_plan *plan = d->plan;
    d->documents = calloc(plan->program_count + 1u, sizeof *d->documents);
    d->elements = calloc(plan->program_count + 1u, sizeof *d->elements);
    d->rows = calloc(ROWS_FIRST, sizeof *d->rows);
    d->row_cap = ROWS_FIRST;
    d->emission.out = &d->out;
    d->emission.scratch = &d->scratch;
    if (!d->documents || !d->elements || !d->rows)
        return TM_ENOMEM;
    int rc = tm_walker_create(&plan->tree, plan->program_count + 1u, &d->frames);
    if (!rc && plan->tag.text && !plan->tag.index_count)
        tm_walker_set_tag(d->frames, plan->tag.node, hint_tag, d);
    return rc;
}

int tm_decoder_create(const struct tm_plan *plan, struct tm_decoder **out)
{
    struct tm_decoder *d = calloc(1, sizeof *d);
    if (!d)
        return TM_ENOMEM;
    d->plan = tm_plan_take(plan);
    d->unknown = tm_plan_stream_by_name(plan, TM_STREAM_UNKNOWN);
    int rc = create(d);
    if (rc)
        tm_decoder_destroy(d);
    else
        *out = d;
    return rc;
}

void tm_decoder_destroy(struct tm_decoder *d)
{
    if (!d)
        return;
    for (uint16_t i = 0; i < d->plan->program_count; i++) {
        if (d->documents)
            tm_walker_destroy(d->documents[i]);
        if (d->elements)
            tm_walker_destroy(d->elements[i]);
    }
    tm_walker_destroy(d->frames);
    free(d->documents);
    free(d->elements);
    free(d->rows);
    tm_buf_fini(&d->out);
    tm_buf_fini(&d->scratch);
    tm_plan_put(d->plan);
    free(d);
}

static int walker_of(struct tm_walker **walkers, const struct tm_program *p, const struct tm_tree *tree,
                     struct tm_walker **out)
{
    struct tm_walker **w = &walkers[p->kind.index];
    int rc = *w ? TM_OK : tm_walker_create(tree, 1, w);
    *out = *w;
    return rc;
}

/* ---- tags ---- */

/* As memcmp says, without a call for what tags are: 8 to 16 bytes are two words that may overlap. */
static inline bool same_bytes(const char *a, const char *b, size_t len)
{
    uint64_t first[2], last[2];
    if (len < 8 || len > 16)
        return memcmp(a, b, len) == 0;
    memcpy(&first[0], a, 8);
    memcpy(&first[1], b, 8);
    memcpy(&last[0], a + len - 8, 8);
    memcpy(&last[1], b + len - 8, 8);
    return first[0] == first[1] && last[0] == last[1];
}

static inline bool has_tag(const struct tm_program *p, struct tm_value tag)
{
    return p && p->tag_len == tag.len && same_bytes(p->kind.tag, tag.at, tag.len);
}

static const struct tm_program *find_program(struct tm_decoder *d, struct tm_value tag)
{
    if (tag.kind != TM_VALUE_STRING)
        return NULL;
    if (tag.escaped) {
        tm_buf_clear(&d->scratch);
        if (tm_value_unescape(tag, &d->scratch))
            return NULL;
        tag.at = (const char *)d->scratch.data;
        tag.len = (uint32_t)d->scratch.len;
    }
    if (has_tag(d->last, tag))
        return d->last;
    const struct tm_program *p = tm_plan_program(d->plan, tag.at, tag.len);
    return p && !p->kind.document ? p : NULL;
}

static unsigned hint_tag(void *arg, const struct tm_value *tag)
{
    struct tm_decoder *d = arg;
    const struct tm_program *p = find_program(d, *tag);
    return p ? p->kind.index + 1u : 0;
}

/* The kind of the frame that was walked. */
static const struct tm_program *hinted(const struct tm_decoder *d)
{
    unsigned hint = d->emission.frame->hint;
    return hint ? &d->plan->programs[hint - 1] : NULL;
}

/* ---- rows ---- */

static struct tm_row *next_row(struct tm_decoder *d)
{
    if (d->row_count + 1 == d->row_cap) {
        struct tm_row *rows = realloc(d->rows, 2 * d->row_cap * sizeof *rows);
        if (!rows)
            return NULL;
        d->rows = rows;
        d->row_cap *= 2;
    }
    return &d->rows[d->row_count + 1];
}

/* Rows made while the buffer grew point to where it was. */
static int settle_rows(struct tm_decoder *d)
{
    uint8_t *at = d->out.data;
    int rc = TM_OK;
    for (size_t i = 1; i <= d->row_count && !rc; i++) {
        struct tm_row *row = &d->rows[i];
        uint32_t len = row->len;
        rc = tm_row_read(row, row->stream, at, len);
        at += len;
    }
    return rc;
}

/* Fill rows[0] with a row of unknown_frames that holds `raw`. */
static int unknown_row(struct tm_decoder *d, const struct tm_emission *e, const char *why, struct tm_span raw)
{
    struct tm_row_writer w;
    size_t len = raw.len < TM_FIELD_BYTES_MAX ? raw.len : TM_FIELD_BYTES_MAX;
    int rc = tm_row_begin(&w, d->unknown, &d->out);
    rc = rc ? rc : tm_row_put_time(&w, e->received_us);
    rc = rc ? rc : tm_row_put_text(&w, why, strlen(why));
    rc = rc ? rc : tm_row_put_text(&w, e->reason, strlen(e->reason));
    rc = rc ? rc : tm_row_put_text(&w, raw.at, len);
    rc = rc ? rc : tm_row_put_text(&w, d->plan->gatherer, strlen(d->plan->gatherer));
    rc = rc ? rc : tm_row_put_uuid(&w, d->plan->epoch);
    rc = rc ? rc : e->has_sid ? tm_row_put_int(&w, e->sid) : tm_row_put_null(&w);
    rc = rc ? rc : e->has_sequence ? tm_row_put_int(&w, e->sequence) : tm_row_put_null(&w);
    rc = rc ? rc : tm_row_end(&w, d->plan, &d->rows[0]);
    return rc ? rc : settle_rows(d);
}

static int emit_one(struct tm_decoder *d, struct tm_emission *e)
{
    struct tm_row *row = next_row(d);
    int rc = row ? tm_emit_row(e, row) : TM_ENOMEM;
    if (!rc)
        d->row_count++;
    return rc;
}

/* A fault of one element must not cost the others: the first reason is kept, and the row of the whole frame with it. */
static int emit_element(struct tm_decoder *d, struct tm_emission *e)
{
    char ignored[TM_REASON_BYTES], *reason = e->reason;
    uint16_t twice = e->element->twice;
    int rc;
    e->reason = d->faulty ? ignored : reason;
    if (twice == TM_NODE_NONE) {
        rc = emit_one(d, e);
    } else {
        rc = TM_EPARSE;
        tm_reason_set(e->reason, e->scanner, e->program->element_tree->nodes[twice].name, "the name once",
                      e->element->values[twice]);
    }
    e->reason = reason;
    if (rc != TM_EPARSE)
        return rc;
    d->faulty = true;
    return TM_OK;
}

/* Rows of the elements of the array at `each`. */
static int emit_each(struct tm_decoder *d, struct tm_emission *e, struct tm_scanner *s)
{
    struct tm_value array = tm_place_value(e->frame, &e->program->each);
    struct tm_walker *w;
    int rc = walker_of(d->elements, e->program, e->program->element_tree, &w);
    if (rc)
        return rc;
    if (array.kind != TM_VALUE_ARRAY) {
        tm_reason_set(e->reason, s, e->program->each.text, "an array", array);
        return TM_EPARSE;
    }
    e->element = tm_walker_notes(w);
    const char *p = tm_scan_space(s, array.at + 1);
    while (!rc && *p != ']') {
        rc = tm_walk(w, s, &p, 0);
        rc = rc ? rc : emit_element(d, e);
        p = rc ? p : tm_scan_space(s, p);
        if (!rc && *p == ',')
            p = tm_scan_space(s, p + 1);
    }
    e->element = NULL;
    return rc ? rc : settle_rows(d);
}

/* The rows of a frame or document object that was walked. TM_EPARSE: not the declared shape, e->reason says why. */
static int emit_record(struct tm_decoder *d, struct tm_emission *e, struct tm_scanner *s)
{
    int rc = e->program->each.text ? emit_each(d, e, s) : emit_one(d, e);
    if (!rc && d->faulty)
        rc = TM_EPARSE;
    return rc;
}

static void begin(struct tm_decoder *d)
{
    tm_buf_clear(&d->out);
    d->row_count = 0;
    d->faulty = false;
}

/* ---- frames ---- */

static int refuse(struct tm_decoder *d, const struct tm_emission *e, enum tm_verdict verdict, struct tm_decoded *out)
{
    struct tm_span frame = {.at = e->scanner->begin, .len = (size_t)(e->scanner->end - e->scanner->begin)};
    int rc = unknown_row(d, e, verdict == TM_VERDICT_MALFORMED ? "malformed" : "unknown", frame);
    out->verdict = verdict;
    out->rows = d->rows;
    out->row_count = d->row_count + 1;
    return rc;
}

/* *out stays 0 where there is none. */
static inline int read_integer(const struct tm_emission *e, const struct tm_place *place, bool *has, int64_t *out)
{
    int rc = tm_place_integer(e, place, out);
    *has = rc == TM_OK;
    if (__builtin_expect(rc != TM_OK, 0))
        *out = 0;
    if (__builtin_expect(rc != TM_EPARSE, 1))
        return TM_OK;
    tm_reason_set(e->reason, e->scanner, place->text, "an integer", tm_place_value(e->frame, place));
    return rc;
}

/* Also for frames that are not understood, because they consume sequence numbers. */
static int read_numbers(struct tm_decoder *d, struct tm_emission *e, struct tm_decoded *out)
{
    const struct tm_place *sid = e->program ? &e->program->sid : &d->plan->sid;
    int rc = read_integer(e, &d->plan->sequence, &e->has_sequence, &e->sequence);
    int rc_sid = read_integer(e, sid, &e->has_sid, &e->sid);
    out->has_sid = e->has_sid;
    out->has_sequence = e->has_sequence;
    out->sid = e->sid;
    out->sequence = e->sequence;
    return rc ? rc : rc_sid;
}

static int missing(struct tm_emission *e, const struct tm_place *place, const char *expected, struct tm_value got)
{
    tm_reason_set(e->reason, e->scanner, place->text, expected, got);
    return TM_EPARSE;
}

static int read_text(struct tm_emission *e, const struct tm_place *place, struct tm_span *out)
{
    struct tm_value v = tm_place_value(e->frame, place);
    if (v.kind != TM_VALUE_STRING)
        return missing(e, place, "a string", v);
    *out = (struct tm_span){.at = v.at, .len = v.len};
    return TM_OK;
}

static int read_control(struct tm_emission *e, struct tm_decoded *out)
{
    const struct tm_program *p = e->program;
    struct tm_value text;
    switch (p->kind.role) {
    case TM_ROLE_SUBSCRIBED:
        if (!out->has_sid)
            return missing(e, &p->sid, "an integer", (struct tm_value){0});
        return read_text(e, &p->channel, &out->channel);
    case TM_ROLE_UNSUBSCRIBED:
        return out->has_sid ? TM_OK : missing(e, &p->sid, "an integer", (struct tm_value){0});
    case TM_ROLE_ERROR:
        text = tm_place_value(e->frame, &p->message); /* only words for people: may be missing */
        if (text.kind == TM_VALUE_STRING)
            out->text = (struct tm_span){.at = text.at, .len = text.len};
        if (tm_place_integer(e, &p->code, &out->code))
            return missing(e, &p->code, "an integer", tm_place_value(e->frame, &p->code));
        return TM_OK;
    default:
        return TM_OK;
    }
}

/* A valid JSON value: what does it say? TM_EPARSE: not what was declared, out->reason says why. */
static int interpret(struct tm_decoder *d, struct tm_emission *e, struct tm_scanner *s, struct tm_decoded *out)
{
    const struct tm_place *tag = &d->plan->tag;
    e->program = tag->index_count ? find_program(d, tm_place_value(e->frame, tag)) : hinted(d);
    out->kind = e->program ? &e->program->kind : NULL;
    int rc = read_numbers(d, e, out);
    uint16_t twice = e->frame->twice;
    if (rc)
        return rc;
    if (!e->program)
        return missing(e, tag->text ? tag : &(struct tm_place){.text = "frame"}, "a known kind",
                       tm_place_value(e->frame, tag));
    d->last = e->program;
    if (twice != TM_NODE_NONE) {
        tm_reason_set(out->reason, s, d->plan->tree.nodes[twice].name, "the name once", e->frame->values[twice]);
        return TM_EPARSE;
    }
    if (e->program->kind.role != TM_ROLE_DATA) {
        out->verdict = TM_VERDICT_CONTROL;
        return read_control(e, out);
    }
    rc = emit_record(d, e, s);
    out->verdict = TM_VERDICT_ROWS;
    out->rows = d->rows + 1;
    out->row_count = d->row_count;
    return rc;
}

static int walk_frame(struct tm_decoder *d, struct tm_scanner *s, struct tm_decoded *out)
{
    if (!tm_walk_text(d->frames, s))
        return TM_OK;
    (void)snprintf(out->reason, sizeof out->reason, "not JSON: expected %s at byte %td of %td", s->expected,
                   s->fault_at - s->begin, s->end - s->begin);
    return TM_EPARSE;
}

static int decode_frame(struct tm_decoder *d, struct tm_emission *e, struct tm_scanner *s, struct tm_decoded *out)
{
    enum tm_verdict verdict = TM_VERDICT_MALFORMED;
    int rc = TM_EPARSE;
    if (s->end - s->begin > TM_FIELD_BYTES_MAX) {
        (void)snprintf(out->reason, sizeof out->reason, "expected at most %d bytes, got %td", TM_FIELD_BYTES_MAX,
                       s->end - s->begin);
    } else if (walk_frame(d, s, out)) {
        char ignored[TM_REASON_BYTES];
        e->reason = ignored;
        (void)read_numbers(d, e, out);
        e->reason = out->reason;
    } else {
        verdict = TM_VERDICT_UNKNOWN;
        rc = interpret(d, e, s, out);
    }
    return rc == TM_EPARSE ? refuse(d, e, verdict, out) : rc;
}

/* Field by field: clearing all of a tm_decoded costs as much as decoding a column. */
static void clear(struct tm_decoded *out)
{
    out->verdict = TM_VERDICT_UNKNOWN;
    out->kind = NULL;
    out->has_sid = out->has_sequence = false;
    out->sid = out->sequence = out->code = 0;
    out->rows = NULL;
    out->row_count = 0;
    out->channel = out->text = (struct tm_span){0};
    out->reason[0] = '\0';
}

int tm_decode_frame(struct tm_decoder *d, const char *bytes, size_t len, int64_t received_us, struct tm_decoded *out)
{
    struct tm_scanner s TM_UNSET; /* set by tm_scanner_init, which is not seen here */
    struct tm_emission *e = &d->emission;
    clear(out);
    begin(d);
    tm_scanner_init(&s, bytes, len, true);
    e->program = NULL;
    e->frame = tm_walker_notes(d->frames);
    e->scanner = &s;
    e->received_us = received_us;
    e->has_sid = e->has_sequence = false;
    e->reason = out->reason;
    return decode_frame(d, e, &s, out);
}

/* ---- documents ---- */

struct document {
    struct tm_emission *e;
    struct tm_scanner s;
    struct tm_walker *walker;
    char reason[TM_REASON_BYTES];
    int (*each)(void *arg, struct tm_row *row);
    void *arg;
};

/* What the text may contain is asked per object, so that one with escapes does not slow all others. */
static int take_object(struct tm_decoder *d, struct document *doc, const char **p)
{
    begin(d);
    doc->s.escapes = doc->s.odd_numbers = false;
    int rc = tm_walk(doc->walker, &doc->s, p, 0);
    if (rc)
        return rc;
    uint16_t twice = doc->e->frame->twice;
    if (twice == TM_NODE_NONE) {
        rc = emit_record(d, doc->e, &doc->s);
    } else {
        rc = TM_EPARSE;
        tm_reason_set(doc->reason, &doc->s, doc->e->program->tree->nodes[twice].name, "the name once",
                      doc->e->frame->values[twice]);
    }
    bool faulty = rc == TM_EPARSE;
    if (faulty) {
        struct tm_value object = tm_value_raw(tm_notes_root(doc->e->frame));
        rc = unknown_row(d, doc->e, "unknown", (struct tm_span){.at = object.at, .len = object.len});
    }
    for (size_t i = faulty ? 0 : 1; i <= d->row_count && !rc; i++)
        rc = doc->each(doc->arg, &d->rows[i]);
    return rc;
}

static int take_objects(struct tm_decoder *d, struct document *doc, struct tm_value where)
{
    const char *p = where.at;
    if (where.kind == TM_VALUE_OBJECT)
        return take_object(d, doc, &p);
    int rc = TM_OK;
    p = tm_scan_space(&doc->s, p + 1);
    while (!rc && *p != ']') {
        rc = take_object(d, doc, &p);
        p = rc ? p : tm_scan_space(&doc->s, p);
        if (!rc && *p == ',')
            p = tm_scan_space(&doc->s, p + 1);
    }
    return rc;
}

int tm_decode_document(struct tm_decoder *d, const struct tm_kind *kind, const char *path, struct tm_span document,
                       int64_t received_us, int (*each)(void *arg, struct tm_row *row), void *arg, struct tm_error *err)
{
    const struct tm_program *p = &d->plan->programs[kind->index];
    struct document doc = {.each = each, .arg = arg};
    struct tm_value where;
    if (!kind->document)
        return tm_error_set(err, TM_EINVAL, "kind \"%s\" is a kind of frames, expected one of documents", kind->tag);
    int rc = tm_json_find(document, path, &where, err);
    if (!rc && where.kind != TM_VALUE_ARRAY && where.kind != TM_VALUE_OBJECT)
        rc = tm_error_set(err, TM_EPARSE, "expected an array or an object at \"%s\" of the document", path);
    if (rc == TM_ENOENT)
        rc = TM_EPARSE;
    if (!rc)
        rc = walker_of(d->documents, p, p->tree, &doc.walker);
    if (rc)
        return rc;
    tm_scanner_init(&doc.s, document.at, document.len, false);
    doc.e = &d->emission;
    doc.e->program = p;
    doc.e->frame = tm_walker_notes(doc.walker);
    doc.e->scanner = &doc.s;
    doc.e->received_us = received_us;
    doc.e->has_sid = doc.e->has_sequence = false;
    doc.e->reason = doc.reason;
    return take_objects(d, &doc, where);
}
