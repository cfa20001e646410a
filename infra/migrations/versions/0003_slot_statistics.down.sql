DROP VIEW current_slots;
DROP TABLE slot_statistics;
