#include "floors.h"

#include <simdjson.h>
#include <string_view>

using namespace simdjson;

namespace
{

/* On demand and the document are asked alike; only the types differ. V is the result of looking a name up. */

template <typename V> bool text(V v, floor_text *out)
{
    std::string_view s;
    if (v.get_string().get(s))
        return false;
    *out = {s.data(), s.size()};
    return true;
}

template <typename V> bool decimal(V v, unsigned scale, int64_t *out)
{
    std::string_view s;
    return !v.get_string().get(s) && floor_decimal(s.data(), s.size(), scale, out);
}

template <typename V> bool whole(V v, int64_t *out)
{
    return !v.get_int64().get(*out);
}

template <typename V> bool time_of(V v, int64_t *out)
{
    std::string_view s;
    return !v.get_string().get(s) && floor_rfc3339(s.data(), s.size(), out);
}

/* Levels as they stand in the frame. */
bool levels(simdjson_result<ondemand::value> v, floor_text *out)
{
    std::string_view s;
    ondemand::array a;
    if (v.get_array().get(a) || a.raw_json().get(s))
        return false;
    *out = {s.data(), s.size()};
    return true;
}

/* A document does not know where its values stood; that they are there has to do. */
bool levels(simdjson_result<dom::element> v, floor_text *out)
{
    dom::array a;
    if (v.get_array().get(a))
        return false;
    *out = {nullptr, a.size()};
    return true;
}

/* Fields are asked for in the order in which they come: what on demand is fastest at. */
template <typename O> bool delta(O &msg, floor_record *r)
{
    return text(msg["market_ticker"], &r->ticker) && decimal(msg["price_dollars"], 6, &r->amount[0]) &&
           decimal(msg["delta_fp"], 2, &r->amount[1]) && text(msg["side"], &r->side) && time_of(msg["ts"], &r->ts_us);
}

template <typename O> bool ticker(O &msg, floor_record *r)
{
    return text(msg["market_ticker"], &r->ticker) && decimal(msg["price_dollars"], 6, &r->amount[0]) &&
           decimal(msg["yes_bid_dollars"], 6, &r->amount[1]) && decimal(msg["yes_ask_dollars"], 6, &r->amount[2]) &&
           decimal(msg["volume_fp"], 2, &r->amount[3]) && decimal(msg["open_interest_fp"], 2, &r->amount[4]) &&
           whole(msg["dollar_volume"], &r->amount[5]) && whole(msg["dollar_open_interest"], &r->amount[6]) &&
           decimal(msg["yes_bid_size_fp"], 2, &r->amount[7]) && decimal(msg["yes_ask_size_fp"], 2, &r->amount[8]) &&
           decimal(msg["last_trade_size_fp"], 2, &r->amount[9]) && time_of(msg["time"], &r->ts_us);
}

template <typename O> bool trade(O &msg, floor_record *r)
{
    int64_t millis;
    if (!text(msg["trade_id"], &r->id) || !text(msg["market_ticker"], &r->ticker) ||
        !decimal(msg["yes_price_dollars"], 6, &r->amount[0]) || !decimal(msg["count_fp"], 2, &r->amount[1]) ||
        !text(msg["taker_outcome_side"], &r->side) || msg["is_block_trade"].get_bool().get(r->block) ||
        !whole(msg["ts_ms"], &millis))
        return false;
    r->ts_us = millis * 1000;
    return true;
}

template <typename O> bool snapshot(O &msg, floor_record *r)
{
    return text(msg["market_ticker"], &r->ticker) && levels(msg["yes_dollars_fp"], &r->yes) &&
           levels(msg["no_dollars_fp"], &r->no);
}

template <typename O, typename D> bool frame(D &doc, floor_record *r)
{
    std::string_view tag;
    O msg;
    if (doc["type"].get_string().get(tag) || doc["sid"].get_int64().get(r->sid))
        return false;
    if (tag == "ticker") {
        r->kind = FLOOR_TICKER;
        return !doc["msg"].get_object().get(msg) && ticker(msg, r);
    }
    if (doc["seq"].get_int64().get(r->seq) || doc["msg"].get_object().get(msg))
        return false;
    if (tag == "orderbook_delta") {
        r->kind = FLOOR_DELTA;
        return delta(msg, r);
    }
    if (tag == "trade") {
        r->kind = FLOOR_TRADE;
        return trade(msg, r);
    }
    r->kind = FLOOR_SNAPSHOT;
    return tag == "orderbook_snapshot" && snapshot(msg, r);
}

} // namespace

bool floor_ondemand_decode(const char *bytes, size_t len, floor_record *out)
{
    static ondemand::parser parser;
    ondemand::document doc;
    return !parser.iterate(padded_string_view(bytes, len, len + SIMDJSON_PADDING)).get(doc) &&
           frame<ondemand::object>(doc, out);
}

bool floor_dom_decode(const char *bytes, size_t len, floor_record *out)
{
    static dom::parser parser;
    dom::element doc;
    return !parser.parse(bytes, len, false).get(doc) && frame<dom::object>(doc, out);
}
