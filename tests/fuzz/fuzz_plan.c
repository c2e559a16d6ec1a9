/*
 * Definitions made of the input's bytes: compiling never crashes, and what compiles has SQL and decodes frames into
 * well-formed tuples.
 */
#include "record/decode.h"
#include "record/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS 3
#define COLUMNS 6
#define KINDS 4

#define LENGTH(array) (sizeof(array) / sizeof *(array))

struct input {
    const uint8_t *at, *end;
};

static unsigned take(struct input *in, unsigned below)
{
    return in->at < in->end ? *in->at++ % below : 0;
}

static const char *const names[] = {"a", "b", "c", "d", "received_at", "occurrence", "seq", "order", "A", "", NULL};
static const char *const paths[] = {"a", "b",   "c.d",    "c.d.e", "c[0]", "c[-1][2]", "[1]", "$.a",
                                    "c", "a.b", "c.d[1]", "c..d",  "c[",   "$.",       "",    NULL};
static const char *const tags[] = {"t", "u", "v", "", NULL};
static const char *const texts[] = {"x", "", "\xff", NULL};
static const char *const one_of[] = {"x", "t", NULL};
static const struct tm_range range = {-1, 7};

#define PICK(in, list) (list)[take(in, LENGTH(list))]

struct definition {
    struct tm_plan_def plan;
    struct tm_stream_def streams[STREAMS];
    struct tm_column_def columns[STREAMS][COLUMNS];
    const char *keys[STREAMS][COLUMNS + 1];
    const char *later[STREAMS][COLUMNS + 1];
    struct tm_key_def later_keys[STREAMS][TM_KEYS_MAX];
    struct tm_kind_def kinds[KINDS];
    struct tm_source_def sources[KINDS][COLUMNS];
};

static void make_stream(struct input *in, struct definition *d, unsigned i)
{
    struct tm_stream_def *s = &d->streams[i];
    static const char *const stream_names[] = {"s", "t", "u", "gaps", "Select", NULL};
    s->name = PICK(in, stream_names);
    s->mode = (enum tm_stream_mode)take(in, 3);
    s->columns = d->columns[i];
    s->column_count = take(in, COLUMNS + 1);
    for (size_t k = 0; k < s->column_count; k++) {
        d->columns[i][k] = (struct tm_column_def){.name = PICK(in, names),
                                                  .type = (enum tm_type)take(in, 11),
                                                  .not_null = take(in, 2),
                                                  .scale = (int)take(in, 4) * (int)take(in, 2),
                                                  .one_of = take(in, 6) ? NULL : one_of};
        d->columns[i][k].range = d->columns[i][k].scale > 1 ? &range : NULL;
    }
    for (unsigned k = 0, count = take(in, COLUMNS); k < count; k++)
        d->keys[i][k] = names[take(in, 6)];
    s->key = take(in, 8) ? d->keys[i] : NULL;
    s->occurrence = take(in, 3) == 0;
    s->observer = take(in, 4) == 0;
    s->within_us = (int64_t)take(in, 3) - (take(in, 9) == 0);
    s->partition = (enum tm_partition)take(in, 4);
    s->partition_column = take(in, 2) ? NULL : PICK(in, names);
    s->ticker_column = take(in, 2) ? NULL : PICK(in, names);
    s->time_column = take(in, 2) ? NULL : PICK(in, names);
    if (take(in, 2))
        return;
    for (unsigned k = 0, count = take(in, COLUMNS); k < count; k++)
        d->later[i][k] = names[take(in, 6)];
    s->later_keys = d->later_keys[i];
    s->later_key_count = take(in, TM_KEYS_MAX + 1);
    for (unsigned k = 0; k < TM_KEYS_MAX; k++) /* the decoder's records are of 1970: keys begin around them */
        d->later_keys[i][k] = (struct tm_key_def){.from_us = (int64_t)take(in, 4) * 1000000 - (take(in, 9) == 0),
                                                  .key = take(in, 8) ? d->later[i] : d->keys[i],
                                                  .occurrence = take(in, 3) == 0};
}

static void make_source(struct input *in, struct tm_source_def *s)
{
    s->column = PICK(in, names);
    s->from = take(in, 3) ? TM_FROM_PATHS : (enum tm_from)take(in, 9);
    s->path_count = take(in, TM_PATHS_MAX + 1);
    s->text = PICK(in, texts);
    for (size_t i = 0; i < s->path_count; i++)
        s->paths[i] = (struct tm_path_def){.path = PICK(in, paths),
                                           .unit = (enum tm_unit)take(in, 7),
                                           .scale = (int)take(in, 12) - 1,
                                           .one_minus = take(in, 5) == 0};
}

static void make_kind(struct input *in, struct definition *d, unsigned i)
{
    struct tm_kind_def *k = &d->kinds[i];
    k->tag = PICK(in, tags);
    k->role = take(in, 3) ? TM_ROLE_DATA : (enum tm_role)take(in, 6);
    k->document = take(in, 4) == 0;
    k->stream = take(in, 6) ? d->streams[take(in, STREAMS)].name : NULL;
    k->each = take(in, 3) ? NULL : PICK(in, paths);
    k->sources = d->sources[i];
    k->source_count = take(in, COLUMNS + 1);
    k->forward = take(in, 2);
    k->channel_path = take(in, 3) ? NULL : PICK(in, paths);
    k->subscription_path = take(in, 3) ? NULL : PICK(in, paths);
    k->code_path = take(in, 3) ? NULL : PICK(in, paths);
    k->text_path = take(in, 3) ? NULL : PICK(in, paths);
    for (size_t n = 0; n < k->source_count; n++)
        make_source(in, &d->sources[i][n]);
}

static void make_definition(struct input *in, struct definition *d)
{
    d->plan.gatherer = take(in, 4) ? "g" : PICK(in, texts);
    d->plan.protocol.tag_path = take(in, 5) ? "a" : PICK(in, paths);
    d->plan.protocol.subscription_path = PICK(in, paths);
    d->plan.protocol.sequence_path = PICK(in, paths);
    d->plan.streams = d->streams;
    d->plan.stream_count = take(in, STREAMS + 1);
    d->plan.kinds = d->kinds;
    d->plan.kind_count = take(in, KINDS + 1);
    for (unsigned i = 0; i < STREAMS; i++)
        make_stream(in, d, i);
    for (unsigned i = 0; i < KINDS; i++)
        make_kind(in, d, i);
}

/* ---- what compiled is used ---- */

static const char *const samples[] = {
    "{\"a\":\"t\",\"b\":1,\"c\":{\"d\":{\"e\":\"2026-11-05T14:00:00Z\"}}}",
    "{\"a\":\"u\",\"b\":\"0.47\",\"c\":[[1,2,3],{\"a\":7},\"x\"]}",
    "{\"a\":\"v\",\"b\":null,\"c\":{\"d\":[1,{\"a\":\"x\",\"b\":true}]},\"c\":1}",
    "[\"t\",\"u\",[1]]",
    "{\"a\":",
};

static int check_row(void *arg, struct tm_row *row)
{
    struct tm_field fields[TM_COLUMNS_MAX];
    (void)arg;
    TM_FATAL_UNLESS(!tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count));
    return 0;
}

static void decode_samples(const struct tm_plan *plan)
{
    struct tm_decoder *decoder;
    struct tm_decoded d;
    struct tm_error err;
    char frame[256];
    TM_FATAL_UNLESS(!tm_decoder_create(plan, &decoder));
    for (size_t i = 0; i < 2 * LENGTH(samples); i++) {
        const char *sample = samples[i % LENGTH(samples)];
        size_t len = strlen(sample);
        memset(frame, 0, sizeof frame);
        memcpy(frame, sample, len);
        TM_FATAL_UNLESS(!tm_decode_frame(decoder, frame, len, 1, &d));
        for (size_t n = 0; n < d.row_count; n++)
            (void)check_row(NULL, &d.rows[n]);
        for (size_t n = 0; n < LENGTH(tags) - 1; n++) {
            const struct tm_kind *kind = tm_plan_kind_by_tag(plan, tags[n]);
            if (kind && kind->document)
                (void)!tm_decode_document(decoder, kind, "", (struct tm_span){sample, len}, 1, check_row, NULL, &err);
        }
    }
    tm_decoder_destroy(decoder);
}

static void write_schemas(const struct tm_plan *plan)
{
    struct tm_buf out = {0};
    TM_FATAL_UNLESS(!tm_schema_local(plan, &out));
    TM_FATAL_UNLESS(!tm_schema_production(plan, &out));
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        TM_FATAL_UNLESS(!tm_schema_key_columns(tm_plan_stream(plan, i), &out));
    tm_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct definition d = {0};
    struct tm_plan *plan;
    struct tm_error err = {0};
    make_definition(&in, &d);
    int rc = tm_plan_compile(&d.plan, &plan, &err);
    if (rc) {
        TM_FATAL_UNLESS(rc == TM_EINVAL && err.message[0]);
        return 0;
    }
    write_schemas(plan);
    decode_samples(plan);
    tm_plan_put(plan);
    return 0;
}
