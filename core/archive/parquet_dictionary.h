/*
 * The dictionary of a column chunk (Encodings.md, "Dictionary Encoding"): each value's index among the different ones, in
 * the order in which they first occur.
 */
#ifndef TM_ARCHIVE_PARQUET_DICTIONARY_H
#define TM_ARCHIVE_PARQUET_DICTIONARY_H

#include "archive/parquet_column.h"

struct tm_parquet_dictionary {
    size_t entries;
    size_t plain_bytes;     /* of the entries in PLAIN */
    const uint32_t *firsts; /* of each entry: the number of a value that is it */
    const uint32_t *indices;
};

/* 1: made, in the encoder's memory until the next one; 0: the values are too different for it to pay; negative: no
 * memory. */
int tm_parquet_dictionary(struct tm_parquet_encoder *e, const struct tm_parquet_values *v,
                          struct tm_parquet_dictionary *out) TM_MUST_CHECK;

#endif
