/*
 * Reading JSON: a pull parser over a text in memory, for clients' commands and recorded frames. It allocates nothing.
 * The first thing that is not as expected sets `bad`, after which every call returns false; the caller looks at `bad`
 * once, at the end.
 *
 *     struct tm_json j = tm_json_over(text, len);
 *     for (bool in = tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);)
 *         if (tm_json_is(key, "id")) tm_json_int(&j, &id); else tm_json_skip(&j, NULL);
 */
#ifndef TM_EXCHANGE_JSON_H
#define TM_EXCHANGE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tm_slice {
    const char *at;
    size_t len;
};

struct tm_json {
    const char *at, *end;
    bool fresh; /* just inside a container: no comma is due */
    bool bad;
};

struct tm_json tm_json_over(const char *text, size_t len);

/* The first character of the next value, 0 at the end. */
char tm_json_peek(struct tm_json *j);

/* Go into an object '{' or array '['; false (and bad) if the next value is something else. */
bool tm_json_enter(struct tm_json *j, char open);

/* In an object: the next key (raw, without quotes), the parser stands before its value; false at the end. */
bool tm_json_next_key(struct tm_json *j, struct tm_slice *key);

/* In an array: true if the parser stands before a value; false at the end. */
bool tm_json_next_item(struct tm_json *j);

/* A string's raw characters, without quotes and with escapes left as they are. */
bool tm_json_string(struct tm_json *j, struct tm_slice *out);
bool tm_json_int(struct tm_json *j, int64_t *out);
bool tm_json_bool(struct tm_json *j, bool *out);

/* Pass over any value; `raw` (may be NULL) gets its text. */
bool tm_json_skip(struct tm_json *j, struct tm_slice *raw);

/* True when nothing but white space is left and nothing was bad. */
bool tm_json_done(struct tm_json *j);

bool tm_json_is(struct tm_slice s, const char *text);

#endif
