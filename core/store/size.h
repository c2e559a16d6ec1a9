/*
 * How much room a row takes in PostgreSQL, by the layout of its heap and btree pages: for estimates of growth before
 * there is anything to measure. Documented in "Database Page Layout"; 64-bit, blocks of 8 KiB, no compression.
 */
#ifndef TM_STORE_SIZE_H
#define TM_STORE_SIZE_H

#include "record/plan.h"

/* Bytes in the table and its primary key of a gatherer's store, for a tuple in the local form; 0 if it is none. */
double tm_store_local_row_bytes(const struct tm_stream *stream, const uint8_t *tuple, size_t len);

#endif
