/*
 * `tidemill replay`: recorded frames through a script's streams and keys, without any server or disk.
 *
 *     recording -> decode, sequence check, occurrence, seen-set (engine/intake, the same code) -> counts
 *
 * Time is the recording's: recv_ms where a line has it, else the exchange's own time of the frame's first record, else
 * that of the frame before. It never goes back. Connections are told apart by `conn`; a recording that holds a reconnect
 * names what follows it anew, or its sequence numbers look like repeats.
 *
 * Key collisions are rows whose key (without its occurrence) came before in another row with other content; what is only
 * of the arrival (received_at and what is fed by it, sid, seq) is no content. Where the key is not counted such a row is
 * dropped as a duplicate although it differs: the key is too short. The first TM_REPLAY_KEYS_MAX keys are compared.
 */
#ifndef TM_CONTROL_REPLAY_H
#define TM_CONTROL_REPLAY_H

#include "control/cli.h"

#define TM_REPLAY_KEYS_MAX ((size_t)4 << 20)
#define TM_REPLAY_CONNS_MAX 1000
#define TM_REPLAY_REASONS_MAX 64
#define TM_REPLAY_OCCURRENCES 64 /* of the histogram; what occurs more often is in the last */

extern const struct tm_cli_option tm_replay_options[];
int tm_replay_command(const struct tm_cli *cli);

#endif
