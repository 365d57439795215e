DELETE FROM day_tables WHERE table_name = 'error_group_minutes';
DROP TABLE IF EXISTS error_group_minutes;
DROP TABLE IF EXISTS error_groups;
DROP TABLE IF EXISTS service_health;
DROP TABLE IF EXISTS alerts;
