#include "record/builtin.h"

#define DAY_US (INT64_C(86400) * 1000000)

static const struct tm_column_def unknown_columns[] = {
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "reason", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "detail", .type = TM_TYPE_TEXT},
    {.name = "raw", .type = TM_TYPE_BYTEA, .not_null = true},
};

static const struct tm_column_def gap_columns[] = {
    {.name = "gap_id", .type = TM_TYPE_UUID, .not_null = true},
    {.name = "stream", .type = TM_TYPE_TEXT},
    {.name = "ticker", .type = TM_TYPE_TEXT},
    {.name = "from_ts", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "to_ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "reason", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "connection", .type = TM_TYPE_TEXT},
    {.name = "subscription", .type = TM_TYPE_INT8},
    {.name = "first_seq", .type = TM_TYPE_INT8},
    {.name = "last_seq", .type = TM_TYPE_INT8},
    {.name = "closed_by", .type = TM_TYPE_TEXT},
    {.name = "detail", .type = TM_TYPE_TEXT},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};

static const struct tm_column_def heartbeat_columns[] = {
    {.name = "heard_until", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "seqs", .type = TM_TYPE_JSONB, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};

const struct tm_stream_def tm_builtin_streams[3] = {
    {
        .name = TM_STREAM_UNKNOWN,
        .columns = unknown_columns,
        .column_count = sizeof unknown_columns / sizeof *unknown_columns,
        .observer = true,
        .window_us = DAY_US,
    },
    {
        .name = TM_STREAM_GAPS,
        .columns = gap_columns,
        .column_count = sizeof gap_columns / sizeof *gap_columns,
        .observer = true,
        .ticker_column = "ticker",
        .time_column = "from_ts",
        .window_us = DAY_US,
    },
    {
        .name = TM_STREAM_HEARTBEATS,
        .columns = heartbeat_columns,
        .column_count = sizeof heartbeat_columns / sizeof *heartbeat_columns,
        .observer = true,
        .window_us = DAY_US,
    },
};
