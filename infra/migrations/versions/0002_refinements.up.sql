-- What a model made of a template version (topic `refinements`). It stands beside the offline names in
-- canonical_templates, template_slots and prompt_families, which never change: without these rows all else is whole.
CREATE TABLE template_refinements (
    template_id        uuid PRIMARY KEY REFERENCES canonical_templates,
    refinement_id      uuid        NOT NULL,
    event_id           uuid        NOT NULL, -- without a foreign key: the event may be read later than this
    tenant             text        NOT NULL,
    family_id          uuid REFERENCES prompt_families,
    name               text        NOT NULL,
    description        text        NOT NULL,
    family_name        text        NOT NULL, -- '' where the model offered none
    family_description text        NOT NULL,
    slots              jsonb       NOT NULL, -- by the slot's name in the template: its better name, and the reason
    model              text        NOT NULL,
    prompt_version     text        NOT NULL,
    created_at         timestamptz NOT NULL, -- event time of the evolution event
    record_offset      bigint      NOT NULL  -- in `refinements`; a tenant stays in one partition, so the newest wins
);
CREATE INDEX template_refinements_family_id ON template_refinements (family_id);

-- The newest name a model gave to each family. The topic keeps the newest record of a cluster, so this is the
-- same after the tables were built anew from it.
CREATE VIEW refined_families AS
SELECT DISTINCT ON (family_id) family_id, family_name, family_description, model, prompt_version
FROM template_refinements
WHERE family_id IS NOT NULL AND family_name <> ''
ORDER BY family_id, record_offset DESC;
