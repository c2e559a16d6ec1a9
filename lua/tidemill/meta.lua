---@meta tidemill
--- Types of the tables that scripts write. Read by editors (LuaLS), never run.

---@alias tidemill.Duration string a number and a unit: us, ms, s, m, h, d ("250ms", "48h")
---@alias tidemill.Size string a number and a unit: B, KiB, MiB, GiB, TiB ("64MiB")
---@alias tidemill.Address string "address:port"; IPv6 in brackets; port 0 picks one

---@class tidemill.Process what both roles take
---@field id string letters, digits, '_', '-' and '.'; unique among the gatherers of a deduplicator
---@field health? tidemill.Address GET /health, and the console at /; default "127.0.0.1:8080"
---@field metrics? tidemill.Address GET /metrics; default "127.0.0.1:9090"; may be the same as health
---@field console_names? string[] names by which browsers may ask for the console, beside addresses, localhost and the machine's
---@field socket? string path of the control socket; default none
---@field alert_state? string file in which states and silences of alerts outlive a restart; default: a gatherer's is
--- alerts.state in `data`, a deduplicator has none
---@field control? tidemill.Control who may use it beside root and the process's own user, who may do all
---@field log_level? "debug"|"info"|"warn"|"error" default "info"
---@field log_format? "logfmt"|"json" default "logfmt"
---@field limits? tidemill.Limits what the script may use
---@field callback_failures? integer failures in a row that disable a handler or timer; default 10
---@field policy_stuck? tidemill.Duration a policy thread that does not turn for so long is reported; default 5s
---@field migrate? boolean create and bring up to date the store's tables at start; default true
---@field key_margin? tidemill.Duration a reload may let a key begin so long after what was taken; default 5s

---@class tidemill.Control users ("alice") and groups ("@ops") by what they may do at the control socket
---@field read? string|string[] look at everything
---@field operate? string|string[] and reload, reconnect, run recovery routines, set the log level
---@field admin? string|string[] and change thresholds, windows and subscriptions, query the database, run policy
---@field group? string the socket's group, which may connect; default: everybody may try when somebody is named above
---@field sessions? integer at once; default 64
---@field cpu? tidemill.Duration CPU time of a command; default 2s
---@field memory? tidemill.Size of a session's Lua; default 32MiB

---@class tidemill.GathererArchive where rows go that would have to leave the store before production has them
---@field to string "file:///directory" or "s3://bucket/prefix?region=eu-central-1"
---@field credentials? string of S3: "file:/path#profile", "credential:NAME", "environment", "container" or "instance"

---@class tidemill.Archive: tidemill.GathererArchive what production has, in Parquet
---@field lag? tidemill.Duration an hour or day is exported so long after its end; default 1h
---@field wait? tidemill.Duration and at most so much later, while a gatherer still has something of it; default 6h
---@field schedule? table<string, "hour"|"day"|false> default: hours, days for observations such as snapshots
---@field approve? boolean what the archive could give back waits for a person's word; default true

---@class tidemill.Gatherer: tidemill.Process
---@field store string|tidemill.Secret conninfo of the local PostgreSQL
---@field data string directory of the journal; relative to where the process starts
---@field journal? tidemill.Size the journal's bound on disk; default 8GiB
---@field segment? tidemill.Size of a file of it; default 64MiB
---@field buffer? tidemill.Size in memory, not yet durable; default 64MiB
---@field connects_per_second? number over all links; default 10
---@field keep? tidemill.Duration rows that production has acknowledged stay so long in the store; default 7d
---@field store_limit? tidemill.Size bound of the local store: at it acknowledged rows go at once; default none
---@field expire? string[] streams whose unacknowledged rows may go at the bound, in this order; default none
---@field partition_rows? integer rows of a partition, of a store that has none yet; default 4000000
---@field archive? tidemill.GathererArchive default: none, such rows are gone

---@class tidemill.Deduplicator: tidemill.Process
---@field production string|tidemill.Secret conninfo of the production PostgreSQL
---@field gatherers string|table<string, string|tidemill.Secret> "g1=conninfo;g2=conninfo" or { g1 = "conninfo" }
---@field poll? tidemill.Duration look after this long without a notification; default 250ms
---@field poll_rows? integer per stream and poll; default 20000
---@field batch_rows? integer per transaction; default 50000
---@field queue? tidemill.Size polled but not yet merged; default 64MiB
---@field accept_past? tidemill.Duration rows older than this are quarantined; default 7d
---@field accept_future? tidemill.Duration likewise; default 7d
---@field lease? tidemill.Duration a deduplicator that is silent for so long is replaced by one that stands by; default 1500ms
---@field shards? integer|string deduplicators of one production share so many shards; `tidemill reshard` changes it; default 1
---@field retain? table<string, tidemill.Duration> how long days of a stream are kept in production: { tickers = "30d" }; default for ever
---@field compress? table<string, tidemill.Duration> TimescaleDB compresses days after so long; later rows go to `tidemill.late`
---@field archive? tidemill.Archive default: none
---@field standby_wait? tidemill.Duration a commit waits so long for production's synchronous standby; default 10s

---@class tidemill.Column [1] is the name, [2] the type
---@field [1] string lower-case letters, digits, '_'
---@field [2] "bool"|"int2"|"int4"|"int8"|"float8"|"text"|"uuid"|"timestamptz"|"jsonb"|"bytea"
---@field not_null? boolean
---@field scale? integer the stored integer is the value times 10^scale
---@field one_of? string[] the texts allowed; others make the frame unknown
---@field min? integer of the stored integer, itself allowed; less makes the frame unknown
---@field max? integer likewise; more makes the frame unknown

---@class tidemill.AddedColumn [1] is the name, [2] the type; never not_null
---@field [1] string
---@field [2] string
---@field scale? integer
---@field one_of? string[]
---@field min? integer
---@field max? integer
---@field from table<string, any> kind = path or source

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
---@field from? string an exchange time, "2026-11-26T00:00:00Z": only records from then on; not with the fields below
---@field within? tidemill.Duration
---@field window? tidemill.Duration
---@field memory? tidemill.Size

---@class tidemill.Kind
---@field stream? string where its rows go; required unless role says otherwise
---@field role? "data"|"ack"|"subscribed"|"unsubscribed"|"error" default "data"
---@field document? boolean a REST object, decoded by tm.submit; never matched in frames
---@field each? string path of an array whose elements are the records
---@field from? table<string, any> column = path, source, or a list of alternative paths
---@field opens? string a stream of which the connection brings all records of the row's market from here on
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
---@field key_id? string|tidemill.Secret
---@field key_file? string PEM with an RSA or Ed25519 key
---@field key? tidemill.Secret its text instead of a file
---@field message? string template of the bytes to sign
---@field headers table<string, string|tidemill.Secret> templates: {timestamp_ms}, {timestamp_s}, {method}, {path}, {key_id},
--- {signature}; a secret is sent as it is

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
---@field key_id? string with key_file; without both requests are unsigned, which is for loopback only
---@field key_file? string
---@field key? tidemill.Secret the key itself instead of its file
---@field sweep? tidemill.Duration between reconciliations of the registry; default 5m
---@field rest_per_second? number default 10

---@class kalshi.Subscription
---@field connections? integer 1 to 1000; default 1
---@field markets? kalshi.MarketRule which markets; without it the whole channel, without a list
---@field chunk? integer tickers in a frame, 1 to 10000; default 500
---@field every? tidemill.Duration between looks at all markets, as a rule may depend on the time; default the sweep
---@field commands_per_second? integer on each connection, 1 to 10000; default 100

---@class kalshi.Market what a choice of markets sees; times in microseconds since 1970. Other fields are an error
---@field ticker string
---@field event_ticker? string
---@field series_ticker? string its event's; until REST has told that, what stands before the first "-" of event_ticker
---@field status? string initialized, active, inactive, closed, determined, finalized, ...
---@field open_time? number
---@field close_time? number
---@field updated_time? number
---@field result? string
---@field settlement_ts? number
---@field volume? number as of the last sweep, in hundredths of a contract
---@field open_interest? number likewise

-- ---- subscriptions ----

--- "all"; a pattern in which * stands for any text ("KXBTC*"); a list of tickers and patterns; a function that says yes or
--- no. Markets named in a list stay subscribed for as long as they are named, others until the registry forgets them.
---@alias kalshi.MarketRule "all"|string|string[]|fun(market: kalshi.Market): boolean

-- ---- guards ----

---@class tidemill.Limits CPU time of one entry into the script, and its memory
---@field load? tidemill.Duration running the file; default 2s
---@field step? tidemill.Duration of a handler or timer, from one wait to the next; default 1s
---@field routine? tidemill.Duration likewise of a recovery routine; default as step
---@field event? tidemill.Duration handing an event to its handlers; default 1s
---@field memory? tidemill.Size all of the script's values; default 256MiB

---@class tidemill.Callback
---@field failures? integer in a row, after which it is not called any more; default: the role's callback_failures

-- ---- run time ----

---@class tidemill.SecretSource one of these
---@field file? string path; regular, 0640 at most, of root or this process's user
---@field credential? string name of a systemd credential
---@field env? string name of a variable: only where nothing else is possible

---@class tidemill.Sql
---@field conninfo string|tidemill.Secret
---@field timeout? tidemill.Duration of a statement, waiting for a connection included; default 10s
---@field connections? integer 1 to 16; default 2
---@field max_rows? integer of an answer; default 10000
---@field max_bytes? tidemill.Size of an answer; default 16MiB

---@class tidemill.Request
---@field method? "GET"|"HEAD"|"POST"|"PUT"|"PATCH"|"DELETE"|"OPTIONS" default "GET"
---@field url string|tidemill.Secret https://..., or http://... on loopback; a secret one is not shown in errors
---@field headers? table<string, string|tidemill.Secret>
---@field body? string|tidemill.Secret
---@field json? any instead of body: it is encoded, and Content-Type set
---@field signer? table from tm.signer
---@field timeout? tidemill.Duration of each try; default 30s
---@field max_body? tidemill.Size of the answer; default 16MiB
---@field retries? integer default 1, for POST and PATCH 0

---@class tidemill.Metric
---@field name string
---@field help string
---@field labels? string[] names; their values are given at use
---@field max? integer sets of label values, the rest is "other"; 1 to 100, default 50

---@class tidemill.AlertDefinition
---@field when? string a condition over metrics: 'rate(x_total, "5m") > 2 and y{z="a"} == 0', see core/engine/alert.h
---@field deadman? boolean instead of `when`: it always fires, and whoever is told misses it when the process, its policy
--- or its network is dead; `every` is 1m then and `severity` info
---@field hold? tidemill.Duration how long it must be true before the alert fires; default 0
---@field clear? string the condition that resolves it; default: that `when` is no longer true
---@field every? tidemill.Duration tell again while it fires
---@field severity? "info"|"warning"|"critical" default "warning"
---@field summary? string {id} {name} {severity} {value} {metric} {labels} {hold}
---@field description? string
---@field runbook? string
---@field labels? table<string, string>

---@class tidemill.AlertEvent
---@field name string
---@field state "firing"|"resolved"
---@field severity "info"|"warning"|"critical"
---@field value? number
---@field summary string
---@field since number microseconds since 1970
---@field repeated boolean it has fired before and fires still
---@field labels table<string, string>
---@field description? string
---@field runbook? string
---@field silenced boolean nobody is to be told: the event is not raised then

---@class tidemill.Silence
---@field alert string the name, in which * stands for any text
---@field reason string
---@field until_us number microseconds since 1970

---@class tidemill.NotifyTarget
---@field url? string|tidemill.Secret required but for pagerduty, which has one
---@field headers? table<string, string|tidemill.Secret>
---@field format? "json"|"text"|"slack"|"pagerduty"|"alertmanager" default "json"
---@field key? string|tidemill.Secret the routing key of pagerduty
---@field alerts? "info"|"warning"|"critical"|string[] it is told of alerts by itself: those that are at least so severe,
--- or of these names. alertmanager is told of them again each minute, as it wants; default: none, but "info" for it
---@field min_interval? tidemill.Duration between two messages; default 1s
---@field timeout? tidemill.Duration of a try; default 10s

-- ---- events, recovery routines ----

---@class tidemill.Watch when the engine's own events are raised
---@field lag? tidemill.Duration of the store behind the feed, or of production behind the gatherers; default 30s
---@field lag_critical? tidemill.Duration default 300s
---@field disk_free? tidemill.Size of the data directory's file system; default 2GiB
---@field journal_fill? number of the journal's bound, 0 to 1; default 0.8
---@field unknown_frames? number a minute; default 60
---@field down? tidemill.Duration how long a thing is away before that is an event; default 1s
---@field up? tidemill.Duration likewise for its return; default 1s
---@field settle? tidemill.Duration without further losses, after which an outage is over; default 1s
---@field grace? tidemill.Duration after the start, for what is not there yet; default 15s

---@class tidemill.Routine
---@field on? string[] events that start it
---@field every? tidemill.Duration it also starts by itself so often
---@field when? fun(event: tidemill.Event): boolean which of them concern it; default: all
---@field subject? fun(event: tidemill.Event): string? at most one run for each; nil: leave the event out
--- Default: the link's name, else the event's, else "all"
---@field merge? fun(a: tidemill.Event, b: tidemill.Event): tidemill.Event two of a subject as one; default: the later
---@field settle? tidemill.Duration wait so long at the start and take what came meanwhile along; default 0
---@field priority? integer 0 to 1000, a smaller one goes first; default 5
---@field timeout? tidemill.Duration default 10m
---@field retries? integer after a failure or a timeout; default 0
---@field backoff? tidemill.Duration before the first retry, doubled for each, with jitter, at most 5m; default 2s
---@field dry_run? boolean always run dry; default false
---@field run fun(run: tidemill.Run, event: tidemill.Event)

---@class tidemill.Event
---@field name? string connection_down, ...: of the link
---@field from? number microseconds since 1970: when all was last known to be well
---@field to? number microseconds since 1970: when it was again
---@field value? number lag: seconds; disk_low: bytes free; unknown_frames: a minute
---@field limit? number what `value` is compared with
---@field level? "warning"|"critical" lag
---@field gatherer? string gatherer_down, gatherer_back: its id
---@field identity? string failover: "system identifier/timeline" of production
---@field place? "disk"|"journal" disk_low, disk_fine
---@field market? string market_closed: its ticker
---@field result? string market_closed
---@field resume? string exchange_paused: when the exchange expects to be back

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
