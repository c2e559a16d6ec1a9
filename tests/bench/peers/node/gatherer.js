// A gatherer as a user of Node would write it: ws, JSON.parse, a Map against duplicates, and COPY in batches.
//
//   node gatherer.js '{"ws": URL, "rest": URL, "label": "node", "connections": 1,
//                      "store": {host, port, user, database} or "journal": FILE, "idle_ms": 1000}'
//
// Into `store` it writes by COPY, a transaction a batch; into `journal` it appends lines and calls fdatasync a batch. It ends
// by SIGTERM, or when nothing came for idle_ms after something had, and prints one line of JSON.
'use strict';

const fs = require('fs');
const { finished } = require('stream/promises');
const WebSocket = require('ws');

const FLUSH_MS = 50; // what has gathered then is a batch
const SEEN_MAX = 2000000; // keys of one generation; two are kept

const options = JSON.parse(process.argv[2]);
const stats = { frames: 0, rows: 0, first_ms: 0, last_ms: 0, heard_ms: 0 };
let nextSeq = 1;

// Keys seen, in two generations, so that memory is bounded.
class Seen {
  constructor() { this.young = new Map(); this.old = new Map(); }
  get(key) { return this.young.get(key) ?? this.old.get(key); }
  set(key, value) {
    this.young.set(key, value);
    if (this.young.size < SEEN_MAX) return;
    this.old = this.young;
    this.young = new Map();
  }
}
const seenTrades = new Seen();
const seenTickers = new Seen();
const seenDeltas = new Seen();

const micros = (text) => Math.round(Number(text) * 1e6);
const hundredths = (text) => Math.round(Number(text) * 100);

// Rows as lines of COPY's text format.
const batches = { orderbook_deltas: [], trades: [], tickers: [] };

const handlers = {
  orderbook_delta(m, at, frame) {
    const price = micros(m.price_dollars), delta = hundredths(m.delta_fp);
    const key = `${m.market_ticker}|${m.ts}|${m.side}|${price}|${delta}`;
    const last = seenDeltas.get(key); // the sequence of the subscription tells a repeat from a redelivery
    const occurrence = last === undefined ? 0 : last.count;
    if (last !== undefined && last.sid === frame.sid && frame.seq <= last.seq) return;
    seenDeltas.set(key, { count: occurrence + 1, sid: frame.sid, seq: frame.seq });
    batches.orderbook_deltas.push(
      `${m.market_ticker}\t${m.ts}\t${m.side}\t${price}\t${delta}\t${occurrence}\t${at}\t${nextSeq++}\n`);
  },
  trade(m, at) {
    if (seenTrades.get(m.trade_id)) return;
    seenTrades.set(m.trade_id, true);
    batches.trades.push(`${m.trade_id}\t${new Date(m.ts_ms).toISOString()}\t${at}\t${m.market_ticker}\t` +
      `${micros(m.yes_price_dollars)}\t${hundredths(m.count_fp)}\t${m.taker_outcome_side}\t${m.is_block_trade}\t${nextSeq++}\n`);
  },
  ticker(m, at) {
    const values = `${micros(m.price_dollars)}\t${micros(m.yes_bid_dollars)}\t${micros(m.yes_ask_dollars)}\t` +
      `${hundredths(m.yes_bid_size_fp)}\t${hundredths(m.yes_ask_size_fp)}\t${hundredths(m.last_trade_size_fp)}\t` +
      `${hundredths(m.volume_fp)}\t${hundredths(m.open_interest_fp)}\t${m.dollar_volume}\t${m.dollar_open_interest}`;
    const key = `${m.market_ticker}|${m.time}|${values}`;
    if (seenTickers.get(key)) return;
    seenTickers.set(key, true);
    batches.tickers.push(`${m.market_ticker}\t${m.time}\t${values}\t${at}\t${nextSeq++}\n`);
  },
};

let heardText = '';

function onMessage(data) {
  const now = Date.now();
  if (now !== stats.heard_ms) heardText = new Date(now).toISOString(); // many frames come in a millisecond
  stats.heard_ms = now;
  if (!stats.first_ms) stats.first_ms = now;
  stats.frames++;
  const frame = JSON.parse(data);
  const handler = handlers[frame.type];
  if (handler) handler(frame.msg, heardText, frame);
}

// ---- where rows go ----

const journal = options.journal ? fs.openSync(options.journal, 'a') : null;
let client = null, copyFrom = null;

async function copy(table, lines) {
  const stream = client.query(copyFrom(`COPY ${table} FROM STDIN`));
  stream.end(lines.join(''));
  await finished(stream);
}

async function flush() {
  const taken = Object.entries(batches).filter(([, lines]) => lines.length);
  if (!taken.length) return;
  for (const [table] of taken) batches[table] = [];
  if (journal !== null) {
    fs.writeSync(journal, taken.map(([, lines]) => lines.join('')).join(''));
    await new Promise((done, fail) => fs.fdatasync(journal, (error) => (error ? fail(error) : done())));
  } else {
    await client.query('BEGIN');
    for (const [table, lines] of taken) await copy(table, lines);
    await client.query('COMMIT');
  }
  for (const [, lines] of taken) stats.rows += lines.length;
  stats.last_ms = Date.now();
}

let flushing = null;
function flushSoon() {
  if (!flushing) flushing = flush().catch((error) => { console.error(error); process.exit(1); }).finally(() => { flushing = null; });
  return flushing;
}

// ---- life ----

async function openStore() {
  const { Client } = require('pg');
  copyFrom = require('pg-copy-streams').from;
  client = new Client(options.store);
  await client.connect();
  await client.query('SET synchronous_commit = off');
}

async function marketTickers() {
  const tickers = [];
  let cursor = '';
  do {
    const reply = await fetch(`${options.rest}/markets?limit=1000&status=open${cursor && `&cursor=${cursor}`}`);
    const page = await reply.json();
    for (const market of page.markets) tickers.push(market.ticker);
    cursor = page.cursor;
  } while (cursor);
  return tickers;
}

function subscribe(channels, tickers) {
  const socket = new WebSocket(`${options.ws}?label=${options.label}`, { perMessageDeflate: false, skipUTF8Validation: true,
    ca: options.ca && fs.readFileSync(options.ca) });
  socket.on('open', () => socket.send(JSON.stringify({ id: 1, cmd: 'subscribe', params: {
    channels, market_tickers: tickers, use_yes_price: false, skip_ticker_ack: true } })));
  socket.on('message', onMessage);
  socket.on('error', (error) => { console.error(error); process.exit(1); });
}

async function end() {
  await flushSoon();
  await flushSoon();
  const used = process.cpuUsage();
  console.log(JSON.stringify({ ...stats, cpu_s: (used.user + used.system) / 1e6 }));
  process.exit(0);
}

async function main() {
  if (options.store) await openStore();
  const tickers = await marketTickers();
  const share = Math.ceil(tickers.length / options.connections);
  for (let i = 0; i < options.connections; i++) subscribe(['orderbook_delta'], tickers.slice(i * share, (i + 1) * share));
  subscribe(['trade', 'ticker']);
  setInterval(() => {
    flushSoon();
    if (options.idle_ms && stats.rows && Date.now() - Math.max(stats.heard_ms, stats.last_ms) > options.idle_ms) end();
  }, FLUSH_MS);
  process.on('SIGTERM', end);
}

main().catch((error) => { console.error(error); process.exit(1); });
