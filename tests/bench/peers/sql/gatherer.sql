-- Once for each gatherer: its table as a foreign one. {{name}}, {{host}}, {{port}} are filled in.
CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '{host}', port '{port}', dbname '{name}', fetch_size '20000');
CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS (user 'postgres');
CREATE SCHEMA {name};
CREATE FOREIGN TABLE {name}.orderbook_deltas (
    ticker text COLLATE "C", exchange_ts timestamptz, side text COLLATE "C", price int4, delta int8, occurrence int2,
    received_at timestamptz, seq int8, epoch_no int4) SERVER {name} OPTIONS (schema_name 'public');
INSERT INTO cursors VALUES ('{name}', 0);
