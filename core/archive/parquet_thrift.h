/*
 * Thrift's compact protocol, as far as Parquet's metadata needs it: structs of integers, booleans, binaries, lists and
 * structs. Facts: apache/thrift, doc/specs/thrift-compact-protocol.md.
 *
 * Both sides go on after a fault and remember it, so that a long struct is written or read without a check after each
 * field; the one who began looks at `rc` or `fault` in the end.
 */
#ifndef TM_ARCHIVE_PARQUET_THRIFT_H
#define TM_ARCHIVE_PARQUET_THRIFT_H

#include "base/buf.h"

#define TM_THRIFT_DEPTH_MAX 12 /* structs and lists within each other; Parquet's own go down to 7 */

enum tm_thrift_type {
    TM_THRIFT_STOP = 0,
    TM_THRIFT_TRUE = 1,
    TM_THRIFT_FALSE = 2,
    TM_THRIFT_I8 = 3,
    TM_THRIFT_I16 = 4,
    TM_THRIFT_I32 = 5,
    TM_THRIFT_I64 = 6,
    TM_THRIFT_DOUBLE = 7,
    TM_THRIFT_BINARY = 8,
    TM_THRIFT_LIST = 9,
    TM_THRIFT_SET = 10,
    TM_THRIFT_STRUCT = 12,
};

/* ---- writing ---- */

struct tm_thrift_out {
    struct tm_buf *buf;
    int rc; /* TM_ENOMEM */
    int depth;
    int last[TM_THRIFT_DEPTH_MAX]; /* field of each open struct */
};

/* `field` 0: an element of a list. The outermost struct is begun with it too. */
void tm_thrift_put_struct(struct tm_thrift_out *t, int field);
void tm_thrift_put_end(struct tm_thrift_out *t);
void tm_thrift_put_empty(struct tm_thrift_out *t, int field); /* a struct without fields */
void tm_thrift_put_bool(struct tm_thrift_out *t, int field, bool v);
void tm_thrift_put_i8(struct tm_thrift_out *t, int field, int8_t v);
void tm_thrift_put_i32(struct tm_thrift_out *t, int field, int32_t v);
void tm_thrift_put_i64(struct tm_thrift_out *t, int field, int64_t v);
void tm_thrift_put_binary(struct tm_thrift_out *t, int field, const void *bytes, size_t len);
void tm_thrift_put_string(struct tm_thrift_out *t, int field, const char *s);
void tm_thrift_put_list(struct tm_thrift_out *t, int field, enum tm_thrift_type of, size_t count);

/* ---- reading ---- */

struct tm_thrift_in {
    const uint8_t *begin, *at, *end;
    const char *fault; /* the first one; NULL: none */
    size_t fault_at;   /* offset from `begin` */
    int depth;
};

/* A field, or an element of a list. */
struct tm_thrift_field {
    int id;
    enum tm_thrift_type type;
};

void tm_thrift_in_init(struct tm_thrift_in *t, const void *bytes, size_t len);
void tm_thrift_fault(struct tm_thrift_in *t, const char *what); /* the first one is kept; all reads end */

/*
 * Read a struct: the outermost one with {0}, others with their field or element. Each field that is given must be read by
 * the getter of its type, entered or skipped; another type than the getter's is a fault.
 *
 *     for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);)
 */
struct tm_thrift_field tm_thrift_enter(struct tm_thrift_in *t, struct tm_thrift_field f);
bool tm_thrift_next(struct tm_thrift_in *t, struct tm_thrift_field *f);
void tm_thrift_skip(struct tm_thrift_in *t, struct tm_thrift_field f);

bool tm_thrift_bool(struct tm_thrift_in *t, struct tm_thrift_field f);
int32_t tm_thrift_i32(struct tm_thrift_in *t, struct tm_thrift_field f); /* of i8, i16 and i32 */
int64_t tm_thrift_i64(struct tm_thrift_in *t, struct tm_thrift_field f);
const uint8_t *tm_thrift_binary(struct tm_thrift_in *t, struct tm_thrift_field f, size_t *len); /* within the input */

/* How many elements; *of: what they are, to be handed to the getters. Not more than bytes that are left. */
size_t tm_thrift_list(struct tm_thrift_in *t, struct tm_thrift_field f, struct tm_thrift_field *of);

#endif
