/*
 * Replay: recorded frames in the place of generated events. A file has one frame a line, either as it came
 * ({"type":..,"msg":{..}}) or wrapped as {"recv_ms":..,"event":{..}}; gzip is read too. Only data frames are replayed:
 * acknowledgements and errors of the recorded connection are passed over, and sid and seq are put anew for every
 * client. Books are folded along, so that who subscribes in the middle gets a true snapshot.
 *
 * Frames of unknown types go, as they came, to the channel that their sid was in the recording, as its `subscribed` or
 * frames of known types tell; the ledger calls them injected. Every line that is not sent is counted by its reason,
 * and a warning says which it was and why; acknowledgements and blank lines are as they should be, and need none.
 *
 * The file is read three times: to count its lines, to learn its markets and sids, then frame by frame as they are
 * sent. Loop's thread.
 */
#ifndef TM_EXCHANGE_REPLAY_H
#define TM_EXCHANGE_REPLAY_H

#include "exchange/event.h"
#include "exchange/market.h"

struct tm_replay;

/* Opens the file and names its markets in `markets` (which must be empty). */
int tm_replay_open(const char *path, struct tm_markets *markets, struct tm_sink sink, struct tm_replay **out,
                   struct tm_error *err) TM_MUST_CHECK;
void tm_replay_close(struct tm_replay *replay);

/* How many markets a table for this file must have room for. */
int tm_replay_count_lines(const char *path, uint32_t *lines, struct tm_error *err) TM_MUST_CHECK;

/* Recorded time of the next frame in microseconds, from recv_ms or else the message's own; false at the end, and when
 * the file cannot be read any further, which is logged. */
bool tm_replay_next_us(struct tm_replay *replay, int64_t *us);

/* Send the next frame. */
void tm_replay_step(struct tm_replay *replay);

/* True once the file could not be read to its end. */
bool tm_replay_failed(const struct tm_replay *replay);

uint64_t tm_replay_count(const struct tm_replay *replay);

#endif
