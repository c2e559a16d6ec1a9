/* What clients say: subscribe, unsubscribe, update_subscription, list_subscriptions, and the errors they earn. */
#include "exchange/command_private.h"
#include "base/clock.h"
#include "exchange/text.h"

#include <stdlib.h>

#define COMMANDS_PER_S_MAX 10000
#define SHARDS_MAX 100 /* of the communications channel */

const char *tm_error_text(int code)
{
    static const char *const texts[] = {
        [1] = "Unable to process message",
        [2] = "Params required",
        [3] = "Channels required",
        [4] = "Subscription IDs required",
        [5] = "Unknown command",
        [6] = "Already subscribed",
        [7] = "Unknown subscription ID",
        [8] = "Unknown channel name",
        [9] = "Authentication required",
        [10] = "Channel error",
        [11] = "Invalid parameter",
        [12] = "Exactly one subscription ID is required",
        [13] = "Unsupported action",
        [14] = "Market Ticker required",
        [15] = "Action required",
        [16] = "Market not found",
        [17] = "Internal error",
        [18] = "Command timeout",
        [19] = "shard_factor must be > 0",
        [20] = "shard_factor is required when shard_key is set",
        [21] = "shard_key must be >= 0 and < shard_factor",
        [22] = "shard_factor must be <= 100",
        [23] = "Match IDs required",
        [24] = "Index IDs required",
        [25] = "Subscription buffer overflow",
        [26] = "Subscription market limit exceeded",
        [27] = "Too many requests",
        [28] = "Underlying tickers required",
        [29] = "Invalid update interval",
    };
    bool known = code > 0 && (size_t)code < sizeof texts / sizeof texts[0] && texts[code];
    return known ? texts[code] : "Unknown error";
}

struct tm_buf tm_reply_begin(int64_t id)
{
    struct tm_buf text = {0};
    TM_FATAL_UNLESS(tm_buf_append(&text, "{", 1) == TM_OK);
    if (id > 0)
        TM_FATAL_UNLESS(tm_buf_printf(&text, "\"id\":%lld,", (long long)id) == TM_OK);
    return text;
}

void tm_reply_end(struct tm_client *c, struct tm_buf *text)
{
    tm_client_send_text(c, text);
    tm_buf_fini(text);
}

static void reply_error(struct tm_client *c, int64_t id, int code)
{
    struct tm_buf text = tm_reply_begin(id);
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"type\":\"error\",\"msg\":{\"code\":%d,\"msg\":\"%s\"}}", code,
                                  tm_error_text(code)) == TM_OK);
    tm_reply_end(c, &text);
}

static void put_list(struct tm_buf *text, const struct tm_sub *s)
{
    const struct tm_markets *markets = s->client->feed->markets;
    TM_FATAL_UNLESS(tm_buf_reserve(text, 64 + (size_t)s->market_count * (TM_TICKER_MAX + 3)) == TM_OK);
    char *start = (char *)text->data + text->len, *p = tm_put_lit(start, "\"market_tickers\":[");
    for (uint32_t i = 0; i < s->market_count; i++) {
        p = i ? tm_put_lit(p, ",\"") : tm_put_lit(p, "\"");
        p = tm_market_put_ticker(markets, p, s->markets[i]);
        *p++ = '"';
    }
    *p++ = ']';
    text->len += (size_t)(p - start);
}

static void reply_ok(struct tm_sub *s, int64_t id)
{
    struct tm_buf text = tm_reply_begin(id);
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"sid\":%u,\"seq\":%llu,\"type\":\"ok\",\"msg\":{", s->sid,
                                  (unsigned long long)++s->seq) == TM_OK);
    if (!s->skip_ack && !s->all)
        put_list(&text, s);
    TM_FATAL_UNLESS(tm_buf_append(&text, "}}", 2) == TM_OK);
    tm_reply_end(s->client, &text);
}

static void reply_subscribed(struct tm_sub *s, int64_t id)
{
    struct tm_buf text = tm_reply_begin(id);
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"type\":\"subscribed\",\"msg\":{\"channel\":\"%s\",\"sid\":%u}}",
                                  tm_channel_name(s->channel), s->sid) == TM_OK);
    tm_reply_end(s->client, &text);
}

/* Reading */

static void read_param(struct tm_json *j, struct tm_slice key, struct command *cmd)
{
    if (tm_json_is(key, "channels"))
        tm_json_skip(j, &cmd->channels);
    else if (tm_json_is(key, "market_ticker"))
        tm_json_string(j, &cmd->ticker);
    else if (tm_json_is(key, "market_tickers"))
        tm_json_skip(j, &cmd->tickers);
    else if (tm_json_is(key, "market_id"))
        tm_json_string(j, &cmd->market_id);
    else if (tm_json_is(key, "market_ids"))
        tm_json_skip(j, &cmd->market_ids);
    else if (tm_json_is(key, "sids"))
        tm_json_skip(j, &cmd->sids);
    else if (tm_json_is(key, "sid"))
        cmd->has_sid = tm_json_int(j, &cmd->sid);
    else if (tm_json_is(key, "action"))
        tm_json_string(j, &cmd->action);
    else if (tm_json_is(key, "use_yes_price"))
        tm_json_bool(j, &cmd->use_yes);
    else if (tm_json_is(key, "skip_ticker_ack"))
        cmd->has_skip_ack = tm_json_bool(j, &cmd->skip_ack);
    else if (tm_json_is(key, "send_initial_snapshot"))
        tm_json_bool(j, &cmd->initial);
    else if (tm_json_is(key, "shard_factor"))
        cmd->has_shard_factor = tm_json_int(j, &cmd->shard_factor);
    else if (tm_json_is(key, "shard_key"))
        cmd->has_shard_key = tm_json_int(j, &cmd->shard_key);
    else if (tm_json_is(key, "index_ids"))
        tm_json_skip(j, &cmd->index_ids);
    else if (tm_json_is(key, "underlying_tickers"))
        tm_json_skip(j, &cmd->underlyings);
    else
        tm_json_skip(j, NULL);
}

static bool read_command(struct tm_slice message, struct command *cmd)
{
    struct tm_json j = tm_json_over(message.at, message.len);
    struct tm_slice key;
    for (bool in = tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);) {
        if (tm_json_is(key, "id")) {
            tm_json_int(&j, &cmd->id);
        } else if (tm_json_is(key, "cmd")) {
            tm_json_string(&j, &cmd->cmd);
        } else if (tm_json_is(key, "params") && tm_json_peek(&j) == '{') {
            cmd->has_params = true;
            for (bool inside = tm_json_enter(&j, '{'); inside && tm_json_next_key(&j, &key);)
                read_param(&j, key, cmd);
        } else {
            tm_json_skip(&j, NULL);
        }
    }
    return tm_json_done(&j);
}

/* Lists of markets. An unknown ticker subscribes cleanly and streams nothing, like that of a dead market. */
struct market_list {
    uint32_t *at, count;
};

static void list_add(struct market_list *list, uint32_t market)
{
    if (market == TM_MARKET_NONE)
        return;
    if ((list->count & (list->count - 1)) == 0) { /* full at every power of two */
        list->at = realloc(list->at, (list->count ? 2 * (size_t)list->count : 1) * sizeof *list->at);
        TM_FATAL_UNLESS(list->at);
    }
    list->at[list->count++] = market;
}

static bool list_ticker(const struct tm_feed *f, struct market_list *list, struct tm_slice ticker)
{
    for (size_t i = 0; i < ticker.len; i++) {
        char c = ticker.at[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '.' || c == '-' ||
              c == '_'))
            return false;
    }
    list_add(list, tm_markets_find(f->markets, ticker));
    return ticker.len > 0;
}

static bool list_id(const struct tm_feed *f, struct market_list *list, struct tm_slice text)
{
    uint8_t id[16];
    if (!tm_uuid_parse(text.at, text.len, id))
        return false;
    list_add(list, tm_markets_find_id(f->markets, id));
    return true;
}

static bool list_array(const struct tm_feed *f, struct market_list *list, struct tm_slice array,
                       bool (*one)(const struct tm_feed *, struct market_list *, struct tm_slice))
{
    struct tm_json j = tm_json_over(array.at, array.len);
    struct tm_slice text;
    bool any = false;
    for (bool in = tm_json_enter(&j, '['); in && tm_json_next_item(&j); any = true)
        if (!tm_json_string(&j, &text) || !one(f, list, text))
            return false;
    return any && !j.bad;
}

/* All markets that a command names, in one of the four ways that exclude each other: 0, or an error code. */
static int read_markets(const struct tm_feed *f, const struct command *cmd, struct market_list *list)
{
    if (!!cmd->ticker.at + !!cmd->tickers.at + !!cmd->market_id.at + !!cmd->market_ids.at > 1)
        return 11;
    bool good = (!cmd->ticker.at || list_ticker(f, list, cmd->ticker)) &&
                (!cmd->tickers.at || list_array(f, list, cmd->tickers, list_ticker)) &&
                (!cmd->market_id.at || list_id(f, list, cmd->market_id)) &&
                (!cmd->market_ids.at || list_array(f, list, cmd->market_ids, list_id));
    return good ? 0 : 11;
}

static bool names_ids(const struct command *cmd)
{
    return cmd->market_id.at || cmd->market_ids.at;
}

static bool names_markets(const struct command *cmd)
{
    return cmd->ticker.at || cmd->tickers.at || names_ids(cmd);
}

/* The ticker channel alone knows markets by id; those that know no markets at all do not look. */
static bool refuses_ids(uint8_t channel)
{
    return channel == TM_CHANNEL_DEPTH || channel == TM_CHANNEL_TRADE || channel == TM_CHANNEL_FILL ||
           channel == TM_CHANNEL_POSITIONS || channel == TM_CHANNEL_ORDERS;
}

/* Subscribing */

static bool within_limit(const struct tm_sub *s, const struct market_list *list)
{
    return (uint64_t)s->market_count + list->count <= s->client->feed->opt->subscription_limit;
}

static void add_markets(struct tm_sub *s, const struct market_list *list, bool initial)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (!tm_sub_has(s, list->at[i]))
            tm_sub_add(s, list->at[i]);
        if (initial && s->channel == TM_CHANNEL_TICKER)
            tm_sub_wish(s, list->at[i], 0);
    }
}

static void merge(struct tm_sub *s, const struct command *cmd, const struct market_list *list)
{
    if (s->client->feed->opt->legacy_duplicate) {
        reply_error(s->client, cmd->id, 6);
        return;
    }
    if (!within_limit(s, list)) {
        reply_error(s->client, cmd->id, 26);
        return;
    }
    if (!names_markets(cmd) && s->channel != TM_CHANNEL_DEPTH)
        tm_sub_take_all(s);
    else if (!s->all)
        add_markets(s, list, cmd->initial);
    if (s->channel >= TM_CHANNEL_INDEX)
        tm_command_seed_names(s, cmd);
    if (cmd->has_skip_ack) /* it holds for the subscription, until a subscribe says otherwise */
        s->skip_ack = cmd->skip_ack;
    reply_ok(s, cmd->id);
}

static void open_channel(struct tm_client *c, uint8_t channel, const struct command *cmd,
                         const struct market_list *list)
{
    bool filtered = channel <= TM_CHANNEL_TICKER && names_markets(cmd);
    struct tm_sub *s = c->subs[channel];
    if (s) {
        merge(s, cmd, list);
        return;
    }
    if (filtered && list->count > c->feed->opt->subscription_limit) {
        reply_error(c, cmd->id, 26);
        return;
    }
    s = tm_sub_open(c, channel, !filtered);
    s->use_yes = cmd->use_yes;
    s->skip_ack = cmd->skip_ack;
    if (channel >= TM_CHANNEL_INDEX)
        tm_command_seed_names(s, cmd);
    reply_subscribed(s, cmd->id);
    if (filtered)
        add_markets(s, list, cmd->initial);
}

/* Which channels: 0 and their set as bits, or an error code. */
static int read_channels(const struct command *cmd, uint8_t *order, uint32_t *count)
{
    struct tm_json j = tm_json_over(cmd->channels.at, cmd->channels.len);
    struct tm_slice name;
    *count = 0;
    for (bool in = tm_json_enter(&j, '['); in && tm_json_next_item(&j);) {
        if (!tm_json_string(&j, &name))
            return 1;
        int channel = tm_channel_find(name);
        if (channel < 0)
            return 8;
        if (*count < TM_CHANNELS_MAX)
            order[(*count)++] = (uint8_t)channel;
    }
    return j.bad ? 1 : *count ? 0 : 3;
}

static int check_shards(const struct command *cmd)
{
    if (cmd->has_shard_key && !cmd->has_shard_factor)
        return 20;
    if (cmd->has_shard_factor && cmd->shard_factor <= 0)
        return 19;
    if (cmd->has_shard_factor && cmd->shard_factor > SHARDS_MAX)
        return 22;
    return cmd->has_shard_key && (cmd->shard_key < 0 || cmd->shard_key >= cmd->shard_factor) ? 21 : 0;
}

/* What one of the channels has against the command: an error code, or 0. */
static int check_channel(uint8_t channel, const struct command *cmd)
{
    if (channel == TM_CHANNEL_DEPTH && !names_markets(cmd))
        return 14;
    if (refuses_ids(channel) && names_ids(cmd))
        return 11;
    if (channel >= TM_CHANNEL_INDEX)
        return tm_command_check_names(channel, cmd);
    return channel == TM_CHANNEL_COMMUNICATIONS ? check_shards(cmd) : 0;
}

static int subscribe(struct tm_client *c, const struct command *cmd)
{
    uint8_t order[TM_CHANNELS_MAX];
    uint32_t count;
    struct market_list list = {0};
    int code = !cmd->has_params ? 2 : !cmd->channels.at ? 3 : read_channels(cmd, order, &count);
    for (uint32_t i = 0; !code && i < count; i++)
        code = check_channel(order[i], cmd);
    if (!code)
        code = read_markets(c->feed, cmd, &list);
    for (uint32_t i = 0; !code && i < count; i++)
        open_channel(c, order[i], cmd, &list);
    free(list.at);
    return code;
}

/* Changing and ending */

static struct tm_sub *find_sid(const struct tm_client *c, int64_t sid)
{
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        if (c->subs[i] && c->subs[i]->sid == sid)
            return c->subs[i];
    return NULL;
}

static void end_subscription(struct tm_sub *s, int64_t id)
{
    struct tm_buf text = tm_reply_begin(id);
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"sid\":%u,\"seq\":%llu,\"type\":\"unsubscribed\",\"msg\":{}}", s->sid,
                                  (unsigned long long)++s->seq) == TM_OK);
    tm_reply_end(s->client, &text);
    tm_sub_close(s, "unsubscribed");
}

static int unsubscribe(struct tm_client *c, const struct command *cmd)
{
    int64_t sid;
    bool any = false;
    if (!cmd->has_params)
        return 2;
    if (!cmd->sids.at)
        return 4;
    struct tm_json j = tm_json_over(cmd->sids.at, cmd->sids.len);
    for (bool in = tm_json_enter(&j, '['); in && tm_json_next_item(&j) && tm_json_int(&j, &sid); any = true) {
        struct tm_sub *s = find_sid(c, sid);
        if (s)
            end_subscription(s, cmd->id);
        else
            reply_error(c, cmd->id, 7);
    }
    return j.bad ? 1 : any ? 0 : 4;
}

/* The one sid of an update: 0, or an error code. */
static int read_sid(const struct command *cmd, int64_t *sid)
{
    struct tm_json j = tm_json_over(cmd->sids.at, cmd->sids.len);
    uint32_t count = cmd->has_sid;
    *sid = cmd->sid;
    for (bool in = cmd->sids.at && tm_json_enter(&j, '['); in && tm_json_next_item(&j); count++)
        if (!tm_json_int(&j, sid))
            return 1;
    return j.bad ? 1 : count == 1 ? 0 : 12;
}

static int get_snapshots(struct tm_sub *s, const struct command *cmd, const struct market_list *list)
{
    if (s->channel != TM_CHANNEL_DEPTH)
        return 13;
    for (uint32_t i = 0; i < list->count; i++)
        tm_sub_wish(s, list->at[i], cmd->id);
    return 0;
}

static int apply_action(struct tm_sub *s, const struct command *cmd, const struct market_list *list)
{
    bool adds = tm_json_is(cmd->action, "add_markets");
    if (tm_json_is(cmd->action, "get_snapshot"))
        return get_snapshots(s, cmd, list);
    if (!adds && !tm_json_is(cmd->action, "delete_markets"))
        return 13;
    if (s->all || s->channel > TM_CHANNEL_TICKER)
        return 11;
    if (adds && !within_limit(s, list))
        return 26;
    if (adds)
        add_markets(s, list, cmd->initial);
    else
        tm_sub_remove(s, list->at, list->count);
    reply_ok(s, cmd->id);
    return 0;
}

static int update_markets(struct tm_sub *s, const struct command *cmd)
{
    struct market_list list = {0};
    int code = !names_markets(cmd) ? 14 : refuses_ids(s->channel) && names_ids(cmd) ? 11 : 0;
    if (!code)
        code = read_markets(s->client->feed, cmd, &list);
    if (!code)
        code = apply_action(s, cmd, &list);
    free(list.at);
    return code;
}

static int update(struct tm_client *c, const struct command *cmd)
{
    int64_t sid = 0;
    int code = cmd->has_params ? read_sid(cmd, &sid) : 2;
    struct tm_sub *s = code ? NULL : find_sid(c, sid);
    if (code)
        return code;
    if (!s)
        return 7;
    if (!cmd->action.at)
        return 15;
    return s->channel >= TM_CHANNEL_INDEX ? tm_command_update_names(s, cmd) : update_markets(s, cmd);
}

static int list_subscriptions(struct tm_client *c, const struct command *cmd)
{
    struct tm_buf text = tm_reply_begin(cmd->id);
    const char *comma = "";
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"type\":\"ok\",\"msg\":[") == TM_OK);
    for (int64_t sid = 1; sid <= c->next_sid; sid++) {
        const struct tm_sub *s = find_sid(c, sid);
        if (!s)
            continue;
        TM_FATAL_UNLESS(tm_buf_printf(&text, "%s{\"channel\":\"%s\",\"sid\":%u}", comma, tm_channel_name(s->channel),
                                      s->sid) == TM_OK);
        comma = ",";
    }
    TM_FATAL_UNLESS(tm_buf_append(&text, "]}", 2) == TM_OK);
    tm_reply_end(c, &text);
    return 0;
}

static bool too_many(struct tm_client *c)
{
    int64_t second = tm_clock_mono_us() / 1000000;
    if (second != c->command_second) {
        c->command_second = second;
        c->commands = 0;
    }
    return ++c->commands > COMMANDS_PER_S_MAX;
}

void tm_command_run(struct tm_client *c, struct tm_slice message)
{
    struct command cmd = {.use_yes = c->feed->opt->yes_default};
    int code;
    if (!read_command(message, &cmd))
        code = 1;
    else if (too_many(c))
        code = 27;
    else if (tm_json_is(cmd.cmd, "subscribe"))
        code = subscribe(c, &cmd);
    else if (tm_json_is(cmd.cmd, "unsubscribe"))
        code = unsubscribe(c, &cmd);
    else if (tm_json_is(cmd.cmd, "update_subscription"))
        code = update(c, &cmd);
    else if (tm_json_is(cmd.cmd, "list_subscriptions"))
        code = list_subscriptions(c, &cmd);
    else
        code = 5;
    if (code)
        reply_error(c, cmd.id, code);
    tm_client_pump(c);
}
