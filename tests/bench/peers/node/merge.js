// A merger as a user of Node would write it: COPY out of each store, piped into a temporary table of production, then INSERT ...
// ON CONFLICT DO NOTHING and the cursor, a transaction a batch; the next batch is read while this one is stored.
//
//   node merge.js '{"stores": [{name, host, port, user, database}], "production": {...}, "columns": "...", "rows": 20000}'
//
// Ends when a round brought nothing; prints one line of JSON.
'use strict';

const { pipeline } = require('stream/promises');
const { PassThrough } = require('stream');
const { Client } = require('pg');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');

const options = JSON.parse(process.argv[2]);
const columns = options.columns;

async function connect(where) {
  const client = new Client(where);
  await client.connect();
  return client;
}

// A batch as it comes from the store, in memory: production must not wait for a store in mid-transaction.
async function read(store) {
  const chunks = [];
  const out = store.client.query(copyTo(`COPY (SELECT ${columns} FROM orderbook_deltas WHERE epoch_no = 1 AND seq > ${store.cursor}
    ORDER BY seq LIMIT ${options.rows}) TO STDOUT (FORMAT binary)`));
  const collect = new PassThrough();
  collect.on('data', (chunk) => chunks.push(chunk));
  await pipeline(out, collect);
  return { data: Buffer.concat(chunks), rows: out.rowCount };
}

async function write(production, store, batch) {
  await production.query('BEGIN');
  const stage = production.query(copyFrom(`COPY stage (${columns}) FROM STDIN (FORMAT binary)`));
  await pipeline([batch.data], stage);
  await production.query(`INSERT INTO orderbook_deltas (${columns}) SELECT ${columns} FROM stage ON CONFLICT DO NOTHING`);
  await production.query('INSERT INTO cursors VALUES ($1, $2) ON CONFLICT (gatherer) DO UPDATE SET seq = excluded.seq',
    [store.name, store.cursor + batch.rows]);
  await production.query('COMMIT');
}

async function main() {
  const production = await connect(options.production);
  const stores = await Promise.all(options.stores.map(async (one) => ({ name: one.name, cursor: 0, client: await connect(one) })));
  await production.query('CREATE TABLE cursors (gatherer text PRIMARY KEY, seq int8)');
  await production.query('CREATE TEMP TABLE stage (LIKE orderbook_deltas) ON COMMIT DELETE ROWS');
  const began = Date.now();
  let offered = 0, last = began;
  let next = read(stores[0]), quiet = 0;
  for (let i = 0; quiet < stores.length; i = (i + 1) % stores.length) {
    const store = stores[i], batch = await next;
    next = read(stores[(i + 1) % stores.length]);
    quiet = batch.rows ? 0 : quiet + 1;
    if (!batch.rows) continue;
    await write(production, store, batch);
    store.cursor += batch.rows;
    offered += batch.rows;
    last = Date.now();
  }
  await next;
  console.log(JSON.stringify({ offered, seconds: (last - began) / 1e3 }));
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
