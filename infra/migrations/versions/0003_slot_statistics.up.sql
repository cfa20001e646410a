-- What is known by now of the slots of a template version. The version itself (template_slots) never changes; this is
-- told anew each time its members have doubled, and the row that saw the most values is the newest.
CREATE TABLE slot_statistics (
    template_id    uuid    NOT NULL REFERENCES canonical_templates,
    name           text    NOT NULL,
    position       integer NOT NULL,
    type           text    NOT NULL,
    optional       boolean NOT NULL,
    repeated       boolean NOT NULL,
    confidence     double precision NOT NULL,
    example_values jsonb   NOT NULL,
    detail         jsonb   NOT NULL,
    statistics     jsonb   NOT NULL,
    PRIMARY KEY (template_id, name)
);

-- The slots of a version as they are known by now.
CREATE VIEW current_slots AS
SELECT slot.template_id, slot.name, slot.position,
    COALESCE(newer.type, slot.type) AS type,
    COALESCE(newer.optional, slot.optional) AS optional,
    COALESCE(newer.repeated, slot.repeated) AS repeated,
    COALESCE(newer.confidence, slot.confidence) AS confidence,
    COALESCE(newer.example_values, slot.example_values) AS example_values,
    COALESCE(newer.detail, slot.detail) AS detail,
    COALESCE(newer.statistics, slot.statistics) AS statistics
FROM template_slots AS slot LEFT JOIN slot_statistics AS newer USING (template_id, name);
