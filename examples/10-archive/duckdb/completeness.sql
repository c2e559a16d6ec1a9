-- Objects that have other rows than their manifest promises, or of which one is missing; no row is good. Reads the
-- manifests and the objects' footers.
WITH promised AS (
    SELECT object, rows
    FROM read_json(getvariable('archive') || '/manifest/raw/**/*.json', columns = {object: 'VARCHAR', rows: 'BIGINT'})
    WHERE object IS NOT NULL -- an hour without rows has a manifest and no object
), held AS (
    SELECT file_name[length(getvariable('archive')) + 2:] AS object, num_rows AS rows
    FROM parquet_file_metadata(getvariable('archive') || '/raw/**/*.parquet')
)
SELECT object, promised.rows AS promised, held.rows AS held
FROM promised FULL JOIN held USING (object)
WHERE promised.rows IS DISTINCT FROM held.rows
ORDER BY object;
