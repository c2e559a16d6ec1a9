/*
 * What is needed of XML to read S3's answers: the text of elements by their names. Those documents are small and flat;
 * elements of one name do not hold each other, and there is no mixed content. Comments are passed over; documents with
 * a DOCTYPE or CDATA, which S3 never sends, are no documents here. Pure, bounded by the text; any thread.
 */
#ifndef TM_ARCHIVE_S3_XML_H
#define TM_ARCHIVE_S3_XML_H

#include "base/buf.h"
#include "record/decode.h"

#include <stdbool.h>

/* Starts with '<', ends with a '>', has none of what is not understood. */
bool tm_s3_xml_is(struct tm_span text);

/* What is between <name ...> and </name> in *text, which then begins behind it; false: there is no further one. */
bool tm_s3_xml_next(struct tm_span *text, const char *name, struct tm_span *inside);

/* The first of that name as text: entities resolved, cut at size - 1. False (and ""): there is none, or is cut. */
bool tm_s3_xml_text(struct tm_span text, const char *name, char *to, size_t size);

/* "2009-10-12T17:50:30.000Z" as microseconds of Unix; 0 if it is not one. */
int64_t tm_s3_xml_time_us(const char *text);

#endif
