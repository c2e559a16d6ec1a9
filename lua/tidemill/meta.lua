---@meta tidemill
--- Types of the tables that scripts write. Read by editors (LuaLS), never run.

---@alias tidemill.Duration string a number and a unit: us, ms, s, m, h, d ("250ms", "48h")
---@alias tidemill.Size string a number and a unit: B, KiB, MiB, GiB, TiB ("64MiB")
---@alias tidemill.Address string "address:port"; IPv6 in brackets; port 0 picks one

---@class tidemill.Process what both roles take
---@field id string letters, digits, '_', '-' and '.'; unique among the gatherers of a deduplicator
---@field health? tidemill.Address GET /health; default "127.0.0.1:8080"
---@field metrics? tidemill.Address GET /metrics; default "127.0.0.1:9090"; may be the same as health
---@field socket? string path of the control socket; default none
---@field log_level? "debug"|"info"|"warn"|"error" default "info"
---@field log_format? "logfmt"|"json" default "logfmt"
---@field migrate? boolean create and bring up to date the store's tables at start; default true

---@class tidemill.Gatherer: tidemill.Process
---@field store string conninfo of the local PostgreSQL
---@field data string directory of the journal; relative to where the process starts
---@field journal? tidemill.Size the journal's bound on disk; default 8GiB
---@field segment? tidemill.Size of a file of it; default 64MiB
---@field buffer? tidemill.Size in memory, not yet durable; default 64MiB
---@field connects_per_second? number over all links; default 10

---@class tidemill.Deduplicator: tidemill.Process
---@field production string conninfo of the production PostgreSQL
---@field gatherers string|table<string, string> "g1=conninfo;g2=conninfo" or { g1 = "conninfo" }
---@field poll? tidemill.Duration look after this long without a notification; default 250ms
---@field poll_rows? integer per stream and poll; default 20000
---@field batch_rows? integer per transaction; default 50000
---@field queue? tidemill.Size polled but not yet merged; default 64MiB
---@field accept_past? tidemill.Duration rows older than this are quarantined; default 7d
---@field accept_future? tidemill.Duration likewise; default 7d

---@class tidemill.Column [1] is the name, [2] the type
---@field [1] string lower-case letters, digits, '_'
---@field [2] "bool"|"int2"|"int4"|"int8"|"float8"|"text"|"uuid"|"timestamptz"|"jsonb"|"bytea"
---@field not_null? boolean
---@field scale? integer the stored integer is the value times 10^scale
---@field one_of? string[] the texts allowed; others make the frame unknown

---@class tidemill.Stream
---@field columns tidemill.Column[]
---@field key? string[] what makes two records the same; not for observer streams
---@field mode? "append"|"upsert" upsert: a record replaces the row with its key; default "append"
---@field occurrence? boolean equal keys are numbered; one column comes from tm.occurrence
---@field observer? boolean each gatherer's observation is a record of its own
---@field within? tidemill.Duration equal keys received within this time are one record
---@field partition? "none"|"day"|"hash" of the production table
---@field partition_column? string for "day"
---@field ticker? string the column that names the market
---@field time? string the column of the exchange's time
---@field window? tidemill.Duration how long keys are remembered
---@field memory? tidemill.Size for remembered keys

---@class tidemill.Dedup
---@field key? string[]
---@field occurrence? boolean
---@field within? tidemill.Duration
---@field window? tidemill.Duration
---@field memory? tidemill.Size

---@class tidemill.Kind
---@field stream? string where its rows go; required unless role says otherwise
---@field role? "data"|"ack"|"subscribed"|"unsubscribed"|"error" default "data"
---@field document? boolean a REST object, decoded by tm.submit; never matched in frames
---@field each? string path of an array whose elements are the records
---@field from? table<string, any> column = path, source, or a list of alternative paths
---@field forward? boolean raise the event "frame" with a copy
---@field channel? string path, for "subscribed"
---@field subscription? string path, where it differs from the protocol's
---@field code? string path of an integer, for "error"
---@field text? string path, for "error"

---@class tidemill.Protocol
---@field tag string path of the text that tells kinds apart
---@field subscription? string path of the subscription id
---@field sequence? string path of the sequence number
---@field reconnect_codes? integer[] errors after which a connection starts anew

---@class tidemill.Signer
---@field key_id? string
---@field key_file? string PEM with an RSA or Ed25519 key
---@field message? string template of the bytes to sign
---@field headers table<string, string> templates: {timestamp_ms}, {timestamp_s}, {method}, {path}, {key_id}, {signature}

---@class tidemill.Feed
---@field url string wss://..., or ws://... on loopback
---@field signer? table from tm.signer
---@field ca_file? string
---@field connect_timeout? tidemill.Duration default 10s
---@field ping_idle? tidemill.Duration a ping after so long without a byte; default 5s
---@field silence? tidemill.Duration reconnect after so long without a byte; default 15s
---@field quiet? tidemill.Duration reconnect after so long without a message; default never
---@field max_message? tidemill.Size default 4MiB

---@class tidemill.RestService
---@field url string base, https://..., or http://... on loopback
---@field signer? table from tm.signer
---@field timeout? tidemill.Duration default 30s
---@field max_body? tidemill.Size default 64MiB
---@field per_second? number requests, spread evenly; default 10

---@class tidemill.Event
---@field type string
---@field link? tidemill.Link
---@field sid? integer the exchange's subscription id
---@field number integer error: its code; link_down: the status
---@field first integer gap: the first missing sequence number
---@field last integer gap: the last one
---@field kind? string frame: its tag
---@field text string frame: its bytes; others: words

---@class kalshi.ExchangeSettings
---@field environment? "prod"|"demo" default "prod"
---@field ws_url? string instead of the environment's
---@field rest_url? string likewise
---@field key_id? string with key_file; without both requests are unsigned
---@field key_file? string
---@field sweep? tidemill.Duration between reconciliations of the registry; default 5m
---@field rest_per_second? number default 10

---@class kalshi.Subscription
---@field connections? integer 1 to 1000; default 1
---@field markets? "all"|string[]|fun(market: kalshi.Market): boolean
---@field chunk? integer tickers in a frame; default 500

---@class kalshi.Market what a choice of markets sees; times in microseconds since 1970
---@field ticker string
---@field event_ticker? string
---@field status? string initialized, active, inactive, closed, determined, finalized, ...
---@field open_time? number
---@field close_time? number
---@field updated_time? number
---@field result? string
---@field settlement_ts? number

-- ---- tests of policy (tidemill.test) ----

---@class tidemill.TestRequest what t.http is asked
---@field method string
---@field url string
---@field headers? string[] "Name: value"
---@field body? string
---@field timeout_us? number

---@class tidemill.TestResponse what t.http answers; nil: no answer at all
---@field status? integer default 200, 0 with an error
---@field body? string|table a table becomes JSON
---@field content_type? string
---@field retry_after? string
---@field error? string why there was no answer
---@field after? tidemill.Duration how long it takes; default: at once
