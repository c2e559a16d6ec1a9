// Answers questions about Parquet files by DuckDB and by hyparquet, neither of which is ours.
//
//     node parquet.mjs <questions.json >answers.json
//
// A question is {"sql": "..."}, answered with DuckDB's rows, each value as DuckDB writes it, or {"file": "..."}, answered
// with hyparquet's rows as objects. An error is {"error": "..."}. What JSON has no number for becomes a string; times are
// microseconds since 1970, bytes are hex.
import { readFileSync } from 'node:fs'
import { DuckDBInstance } from '@duckdb/node-api'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

const connection = await (await DuckDBInstance.create(':memory:', { threads: '1' })).connect()

// hyparquet's own parsers round times to milliseconds and read bytes as text.
const parsers = {
  timestampFromMilliseconds: String,
  timestampFromMicroseconds: String,
  timestampFromNanoseconds: String,
}

const plain = (key, value) => {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
}

const answer = async ({ sql, file, columns }) => {
  if (sql) return (await connection.runAndReadAll(sql)).getRowsJson()
  return parquetReadObjects({ file: await asyncBufferFromFile(file), columns, compressors, parsers, utf8: false })
}

const answers = []
for (const question of JSON.parse(readFileSync(0, 'utf8'))) {
  answers.push(await answer(question).catch((error) => ({ error: String(error) })))
}
process.stdout.write(JSON.stringify(answers, plain))
