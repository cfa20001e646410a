-- The catalogue as the Postgres sink writes it.
--
-- Keys       A prompt's id is chosen by its client and unique within its tenant: (prompt_id, tenant) is the key, with
--            prompt_id first, so that the key is also the index that a look-up by prompt_id alone needs.
--            Every other id is a UUIDv5 (schemas/ids.py).
-- Stubs      The topics are read independently of each other, so a child may come before its parent. The parent is
--            then inserted with its keys alone; the columns that are NULL in a stub are named below.
-- Text       Postgres holds no U+0000: it is stored as U+2400 (connectors/postgres/storable.py).
-- Positions  prompt_partition and prompt_offset are those of the record in `prompts`; record_offset is that of the
--            record that brought the row, in a topic where one tenant stays in one partition. It only grows, so
--            "newest wins" is decided by it and never by a clock.

CREATE TABLE prompts (
    prompt_id         text        NOT NULL,
    tenant            text        NOT NULL,
    text              text,       -- NULL exactly when the prompt was rejected
    text_sha256       text,       -- of a rejected prompt: all that is kept of its text
    text_chars        integer     NOT NULL,
    moderation_status text        NOT NULL,
    moderation        jsonb       NOT NULL, -- scores, reason, moderator, policy_version
    source            text        NOT NULL,
    metadata          jsonb       NOT NULL,
    usage             jsonb,      -- model, prompt_tokens, completion_tokens, cost_usd as the client reported them
    created_at        timestamptz NOT NULL, -- event time
    received_at       timestamptz NOT NULL, -- timestamp of the record in `prompts`
    written_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    prompt_partition  integer     NOT NULL,
    prompt_offset     bigint      NOT NULL,
    PRIMARY KEY (prompt_id, tenant),
    CONSTRAINT prompts_moderation_status_known CHECK (moderation_status IN ('allowed', 'rejected')),
    CONSTRAINT prompts_rejected_has_no_text CHECK ((moderation_status = 'rejected') = (text IS NULL)),
    CONSTRAINT prompts_rejected_has_hash CHECK ((moderation_status = 'rejected') = (text_sha256 IS NOT NULL))
);
CREATE INDEX prompts_created_at ON prompts (created_at);

-- Records of `prompts` whose id already has a row: count(prompts) + count(prompt_repeats) is the number of prompts
-- that reached an end other than `dead-letters`.
CREATE TABLE prompt_repeats (
    prompt_partition integer     NOT NULL,
    prompt_offset    bigint      NOT NULL,
    prompt_id        text        NOT NULL,
    tenant           text        NOT NULL,
    outcome          text        NOT NULL,
    received_at      timestamptz NOT NULL,
    PRIMARY KEY (prompt_partition, prompt_offset),
    CONSTRAINT prompt_repeats_outcome_known CHECK (outcome IN ('duplicate', 'rejected'))
);

CREATE TABLE prompt_families (
    family_id     uuid PRIMARY KEY,
    tenant        text NOT NULL,
    name          text NOT NULL, -- '' while it has none, and in a stub
    created_at    timestamptz, -- NULL in a stub
    record_offset bigint       -- in `evolution-events`; NULL in a stub
);

CREATE TABLE clusters (
    cluster_id    uuid PRIMARY KEY,
    tenant        text    NOT NULL,
    founded_at    timestamptz, -- NULL in a stub
    merged_into   uuid REFERENCES clusters,
    split_from    uuid REFERENCES clusters,
    retired       boolean NOT NULL DEFAULT false,
    dissolved     boolean NOT NULL DEFAULT false,
    record_offset bigint       -- in `prompts-canonicalized`; NULL in a stub
);

CREATE TABLE family_cluster_mappings (
    cluster_id    uuid PRIMARY KEY REFERENCES clusters,
    family_id     uuid        NOT NULL REFERENCES prompt_families,
    mapped_at     timestamptz NOT NULL,
    record_offset bigint      NOT NULL -- in `evolution-events`
);
CREATE INDEX family_cluster_mappings_family_id ON family_cluster_mappings (family_id);

CREATE TABLE canonical_templates (
    template_id uuid PRIMARY KEY,
    tenant      text NOT NULL,
    cluster_id  uuid NOT NULL REFERENCES clusters,
    version     text NOT NULL, -- semantic: major.minor.patch
    template    text,          -- NULL in a stub, as are the columns below
    slots       jsonb,
    name        text,
    description text,
    confidence  double precision,
    members     integer,
    created_at  timestamptz,
    CONSTRAINT canonical_templates_version_once UNIQUE (cluster_id, version),
    CONSTRAINT canonical_templates_stub_or_whole
        CHECK (num_nulls(template, slots, name, description, confidence, members, created_at) IN (0, 7))
);
CREATE INDEX canonical_templates_cluster_id ON canonical_templates (cluster_id);
CREATE INDEX canonical_templates_version ON canonical_templates (version);
CREATE INDEX canonical_templates_slots ON canonical_templates USING gin (slots);

CREATE TABLE template_slots (
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
CREATE INDEX template_slots_example_values ON template_slots USING gin (example_values);

-- A version never changes: only a stub may be filled, once, and nothing is ever deleted.
CREATE FUNCTION refuse_change_of_template_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'template versions are insert-only: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER canonical_templates_insert_only BEFORE UPDATE ON canonical_templates
    FOR EACH ROW WHEN (OLD.template IS NOT NULL) EXECUTE FUNCTION refuse_change_of_template_version();
CREATE TRIGGER canonical_templates_keep BEFORE DELETE ON canonical_templates
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_template_version();
CREATE TRIGGER template_slots_insert_only BEFORE UPDATE OR DELETE ON template_slots
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_template_version();

-- A prompt's assignments are a chain of links 0, 1, 2, ...; all are kept, the highest sequence is current.
CREATE TABLE cluster_assignments (
    prompt_id           text    NOT NULL,
    tenant              text    NOT NULL,
    sequence            integer NOT NULL,
    current             boolean NOT NULL,
    cluster_id          uuid REFERENCES clusters, -- NULL: unclustered
    previous_cluster_id uuid,
    similarity          double precision NOT NULL,
    confidence          double precision NOT NULL,
    reasoning           text    NOT NULL,
    decision            jsonb   NOT NULL,
    template_id         uuid REFERENCES canonical_templates,
    template_version    text,
    slots               jsonb   NOT NULL,
    raw                 boolean NOT NULL,
    PRIMARY KEY (prompt_id, tenant, sequence),
    FOREIGN KEY (prompt_id, tenant) REFERENCES prompts ON DELETE CASCADE
);
CREATE UNIQUE INDEX cluster_assignments_one_current ON cluster_assignments (prompt_id, tenant) WHERE current;
CREATE INDEX cluster_assignments_cluster_id ON cluster_assignments (cluster_id);

-- prompt_id has no foreign key: events outlive the prompts they speak of, and may arrive before them.
CREATE TABLE evolution_events (
    event_id         uuid PRIMARY KEY,
    type             text        NOT NULL,
    tenant           text        NOT NULL,
    cluster_id       uuid REFERENCES clusters,
    family_id        uuid REFERENCES prompt_families,
    template_id      uuid REFERENCES canonical_templates,
    prompt_id        text        NOT NULL,
    previous_version text,
    new_version      text,
    change_reason    text        NOT NULL,
    diff             text        NOT NULL,
    detected_by      text        NOT NULL,
    details          jsonb       NOT NULL,
    created_at       timestamptz NOT NULL, -- event time
    prompt_partition integer     NOT NULL,
    prompt_offset    bigint      NOT NULL,
    record_partition integer     NOT NULL, -- in `evolution-events`
    record_offset    bigint      NOT NULL
);
CREATE INDEX evolution_events_template_id ON evolution_events (template_id);
CREATE INDEX evolution_events_cluster_id ON evolution_events (cluster_id);
CREATE INDEX evolution_events_created_at ON evolution_events (created_at);

-- Where each sink goes on reading; moved by compare-and-set in the transaction that writes the rows.
CREATE TABLE sink_offsets (
    sink        text    NOT NULL,
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sink, topic, partition)
);

-- Every cluster with the one it ends in after all merges (itself, when it was never merged).
CREATE VIEW resolved_clusters AS
WITH RECURSIVE walk (cluster_id, resolved_id) AS (
    SELECT cluster_id, cluster_id FROM clusters
    UNION
    SELECT walk.cluster_id, clusters.merged_into
    FROM walk JOIN clusters ON clusters.cluster_id = walk.resolved_id
    WHERE clusters.merged_into IS NOT NULL
)
SELECT walk.cluster_id, walk.resolved_id
FROM walk JOIN clusters ON clusters.cluster_id = walk.resolved_id
WHERE clusters.merged_into IS NULL;

-- The newest version of each cluster's template.
CREATE VIEW current_templates AS
SELECT DISTINCT ON (cluster_id) *
FROM canonical_templates
WHERE template IS NOT NULL
ORDER BY cluster_id, string_to_array(version, '.')::int[] DESC;
