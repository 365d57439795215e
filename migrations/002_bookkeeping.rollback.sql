DROP FUNCTION IF EXISTS drop_day_partition(text, date);
DROP FUNCTION IF EXISTS ensure_day_partitions(date[]);
DROP TABLE IF EXISTS day_partitions;
DROP TABLE IF EXISTS day_tables;
DROP TABLE IF EXISTS sink_offsets;
