/* What command.c (markets) and command_names.c (indices and underlyings) share; nobody else includes this. */
#ifndef TM_EXCHANGE_COMMAND_PRIVATE_H
#define TM_EXCHANGE_COMMAND_PRIVATE_H

#include "exchange/feed.h"

/* A command as the client gave it; lists are the text of their arrays. */
struct command {
    int64_t id;
    bool has_params, has_sid, has_skip_ack, has_shard_factor, has_shard_key;
    struct tm_slice cmd, action, channels, ticker, tickers, market_id, market_ids, sids, index_ids, underlyings;
    int64_t sid, shard_factor, shard_key;
    bool use_yes, skip_ack, initial;
};

/* A reply in the making: `{"id":n,` and what the callers add. */
struct tm_buf tm_reply_begin(int64_t id);
void tm_reply_end(struct tm_client *c, struct tm_buf *text);

/* The channels from TM_CHANNEL_INDEX on: what a subscribe names, and update_subscription. 0, or an error code. */
int tm_command_check_names(uint8_t channel, const struct command *cmd);
void tm_command_seed_names(struct tm_sub *s, const struct command *cmd);
int tm_command_update_names(struct tm_sub *s, const struct command *cmd);

#endif
