DELETE FROM day_tables WHERE table_name IN ('operation_windows', 'operation_minutes', 'hop_windows', 'hop_minutes');
DROP TABLE IF EXISTS operation_windows;
DROP TABLE IF EXISTS operation_minutes;
DROP TABLE IF EXISTS operation_hours;
DROP TABLE IF EXISTS hop_windows;
DROP TABLE IF EXISTS hop_minutes;
DROP TABLE IF EXISTS hop_hours;
DROP FUNCTION IF EXISTS histogram_quantile(integer[], bigint[], double precision);
DROP FUNCTION IF EXISTS histogram_bucket_middle(integer);
