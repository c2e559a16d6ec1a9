// Answers questions about Parquet files by DuckDB and by hyparquet, neither of which is ours.
//
// A line of standard input is a question and gets a line of standard output: {"sql": "..."}, answered with DuckDB's rows,
// each value as DuckDB writes it; {"file": "..."}, with hyparquet's rows as objects; {"metadata": "..."}, with what
// hyparquet knows of the footer. An error is {"error": "..."}. What JSON has no number for becomes a string; times are
// microseconds since 1970, bytes are hex.
import { createInterface } from 'node:readline'
import { DuckDBInstance } from '@duckdb/node-api'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
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

const describe = (metadata) => ({
  rows: metadata.num_rows,
  groups: metadata.row_groups.length,
  created_by: metadata.created_by,
  meta: Object.fromEntries(metadata.key_value_metadata.map(({ key, value }) => [key, value])),
})

const answer = async ({ sql, file, metadata }) => {
  if (metadata) return describe(await parquetMetadataAsync(await asyncBufferFromFile(metadata)))
  if (sql) return (await connection.runAndReadAll(sql)).getRowsJson()
  return parquetReadObjects({ file: await asyncBufferFromFile(file), compressors, parsers, utf8: false })
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await answer(JSON.parse(line)).catch((error) => ({ error: String(error) }))
  process.stdout.write(JSON.stringify(said, plain) + '\n')
}
