"""Scripts as Python data, written out as Lua, so that tests can break them in a thousand ways."""
from __future__ import annotations

import copy
import random
from typing import Any, Iterator

Call = list[Any]  # [function, argument...]; the last argument is a table


def lua(value: Any, depth: int = 1) -> str:
    """A value as Lua source; a string that begins with "=" is an expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        if value.startswith("="):
            return value[1:]
        return '"' + "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\{ord(c):03d}" for c in value) + '"'
    if value is None:
        return "nil"
    if isinstance(value, list):
        return "{ " + ", ".join(lua(item, depth + 1) for item in value) + " }"
    pad = "  " * depth
    inside = "".join(f"{pad}[{lua(key)}] = {lua(item, depth + 1)},\n" if key[:1] != "#"
                     else f"{pad}{lua(item, depth + 1)},\n" for key, item in value.items())
    return "{\n" + inside + "  " * (depth - 1) + "}"


def source(calls: list[Call]) -> str:
    """The script. tm.stream and tm.kind take a name and then a table."""
    lines = ['local tm = require "tidemill"', "local handles = {}"]
    for call in calls:
        name, arguments = call[0], [lua(argument) for argument in call[1:]]
        if name in ("stream", "kind"):
            lines.append(f"tm.{name}({arguments[0]})({', '.join(arguments[1:])})")
        elif name in ("signer", "feed", "rest", "registry"):
            lines.append(f"handles.{name} = tm.{name}({', '.join(arguments)})")
        else:
            lines.append(f"tm.{name}({', '.join(arguments)})")
    return "\n".join(lines) + "\n"


def _plan() -> list[Call]:
    return [
        ["protocol", {"tag": "type", "subscription": "sid", "sequence": "seq", "reconnect_codes": [25]}],
        ["stream", "ticks", {
            "columns": [{"#1": "id", "#2": "uuid", "not_null": True}, {"#1": "price", "#2": "int4", "scale": 6},
                        {"#1": "side", "#2": "text", "one_of": ["yes", "no"]}, {"#1": "at", "#2": "timestamptz", "not_null": True},
                        {"#1": "n", "#2": "int2", "not_null": True}],
            "key": ["id", "at"], "occurrence": True, "partition": "day", "partition_column": "at", "time": "at",
            "window": "2h", "memory": "1MiB"}],
        ["kind", "tick", {"stream": "ticks", "from": {"id": "msg.id", "price": '=tm.decimal "msg.price"', "side": "msg.side",
                                                       "at": '=tm.millis "msg.at"', "n": "=tm.occurrence"}, "forward": True}],
        ["stream", "instruments", {
            "columns": [{"#1": "ticker", "#2": "text", "not_null": True}, {"#1": "title", "#2": "text"}],
            "mode": "upsert", "key": ["ticker"], "ticker": "ticker"}],
        ["kind", "instrument", {"document": True, "stream": "instruments", "from": {"ticker": "ticker", "title": "title"}}],
        ["kind", "subscribed", {"role": "subscribed", "channel": "msg.channel", "subscription": "msg.sid"}],
        ["kind", "error", {"role": "error", "code": "msg.code", "text": "msg.text"}],
        ["dedup", "ticks", {"window": "3h"}],
    ]


def gatherer(data: str) -> list[Call]:
    """A gatherer that can start: nothing that it names can be reached."""
    return [
        ["gatherer", {"id": "g1", "store": "host=127.0.0.1 port=1 dbname=x connect_timeout=1", "data": data,
                      "health": "127.0.0.1:0", "metrics": "127.0.0.1:0", "log_level": "error", "log_format": "logfmt",
                      "journal": "64MiB", "segment": "1MiB", "buffer": "1MiB", "connects_per_second": 5, "migrate": True}],
        *_plan(),
        ["signer", {"headers": {"X-Time": "{timestamp_ms}"}}],
        ["feed", {"url": "ws://127.0.0.1:1/ws", "signer": "=handles.signer", "silence": "15s", "quiet": "1m", "max_message": "1MiB"}],
        ["rest", {"url": "http://127.0.0.1:1/api", "timeout": "5s", "per_second": 3, "max_body": "1MiB"}],
        ["registry", "instruments", ["title"]],
        ["every", "10s", "=function() end"],
        ["on", "gap", "=function() end"],
    ]


def deduplicator(_data: str) -> list[Call]:
    """A deduplicator that can start."""
    return [
        ["deduplicator", {"id": "d1", "production": "host=127.0.0.1 port=1 dbname=x connect_timeout=1",
                          "gatherers": {"g1": "host=127.0.0.1 port=1 dbname=y", "g2": "host=127.0.0.1 port=1 dbname=z"},
                          "health": "127.0.0.1:0", "metrics": "127.0.0.1:0", "log_level": "error", "poll": "1s",
                          "poll_rows": 100, "batch_rows": 1000, "queue": "1MiB", "accept_past": "7d", "lease": "1500ms"}],
        *_plan(),
    ]


# Values that are wrong in most places, and right in a few.
ODD = [None, True, False, 0, 1, -1, 3.5, 1e300, "", " ", "x", "g 1", "\0", "é", "a" * 300, {}, [], ["a", "a"], {"a": 1},
       "0s", "10 parsecs", "-5s", "1us", "99999999999d", "10MiB", "1B", "8192TiB", "1e3s", "msg", "msg..x", "a[1", "$.a[-1]", "ticks",
       "price", "=function() end", "=tm.decimal 'a'", "=tm.const(5)", "=tm.path()", "=tm.decimal('a', 3)",
       "=tm.decimal('a', { scale = 99 })", "=0/0", "=tm.null", "localhost:80", "127.0.0.1:99999", "[::1]:0", "http://10.0.0.1/",
       "ws://127.0.0.1:1/x y", "wss://example.com", "=handles", "hash", "none", "upsert", "subscribed", "select"]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _misspelt(rng: random.Random, word: str) -> str:
    if len(word) < 2:
        return word + "x"
    at = rng.randrange(len(word) - 1)
    return rng.choice([word[:at] + word[at + 1:], word[:at] + word[at + 1] + word[at] + word[at + 2:], word + "s", word.upper()])


def mutate(rng: random.Random, calls: list[Call]) -> tuple[list[Call], str]:
    """One random change, and what it was. It may leave a good script good."""
    calls = copy.deepcopy(calls)
    if rng.random() < 0.15:
        at = rng.randrange(len(calls))
        how = rng.choice(["delete", "twice", "last"])
        call = calls[at]
        if how == "delete":
            del calls[at]
        elif how == "twice":
            calls.insert(at, copy.deepcopy(call))
        else:
            calls.append(calls.pop(at))
        return calls, f"{how} {call[0]}"
    path = rng.choice([p for p in _places(calls) if len(p) > 1 and p[1] != 0])
    parent: Any = calls
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    how = rng.choice(["value", "value", "value", "value", "key", "key", "delete"])
    if how == "key" and isinstance(parent, dict) and not key.startswith("#"):
        new = _misspelt(rng, key)
        parent[new] = parent.pop(key)
        return calls, f"{path} is named {new}"
    if how == "delete":
        del parent[key]
        return calls, f"{path} deleted"
    word = parent[key]
    parent[key] = _misspelt(rng, word) if isinstance(word, str) and word and rng.random() < 0.3 else rng.choice(ODD)
    return calls, f"{path} = {parent[key]!r}"
