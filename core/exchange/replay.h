/*
 * Replay: recorded frames in the place of generated events. A file has one frame a line, either as it came
 * ({"type":..,"msg":{..}}) or wrapped as {"recv_ms":..,"event":{..}}; gzip is read too. Only data frames are replayed:
 * acknowledgements and errors of the recorded connection are passed over, and sid and seq are put anew for every
 * client. Books are folded along, so that who subscribes in the middle gets a true snapshot.
 *
 * The file is read twice: at opening, to learn its markets; then frame by frame as they are sent. Loop's thread.
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

/* Recorded time of the next frame in microseconds, from recv_ms or else the message's own; false at the end. */
bool tm_replay_next_us(struct tm_replay *replay, int64_t *us);

/* Send the next frame. */
void tm_replay_step(struct tm_replay *replay);

uint64_t tm_replay_count(const struct tm_replay *replay);

#endif
