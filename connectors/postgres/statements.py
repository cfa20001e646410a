"""The SQL that writes a batch, in the order it is run: parents before children.

Each statement takes one array a column (`unnest`), so that a batch is one round trip a table however many
rows it has. Each may be run twice with the same rows: the second time changes nothing. The
order of the columns is that of the row types in `rows.py`.
"""

from __future__ import annotations

FAMILIES = """
INSERT INTO prompt_families AS old (family_id, tenant, name, created_at, record_offset)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[])
ON CONFLICT (family_id) DO UPDATE SET
    name = COALESCE(NULLIF(EXCLUDED.name, ''), old.name),
    created_at = COALESCE(old.created_at, EXCLUDED.created_at),
    record_offset = EXCLUDED.record_offset
WHERE EXCLUDED.record_offset > COALESCE(old.record_offset, -1)
"""

CLUSTERS = """
INSERT INTO clusters AS old
    (cluster_id, tenant, founded_at, merged_into, split_from, retired, dissolved, record_offset)
SELECT cluster_id, tenant, founded_at, merged_into, split_from, COALESCE(retired, false), COALESCE(dissolved, false),
    record_offset
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::boolean[], $7::boolean[],
    $8::bigint[])
    AS new (cluster_id, tenant, founded_at, merged_into, split_from, retired, dissolved, record_offset)
ON CONFLICT (cluster_id) DO NOTHING
"""

# Apart from the insert, where "not changed" (NULL) must become "false" and could not be told from it any more.
CLUSTER_CHANGES = """
UPDATE clusters AS old SET
    founded_at = COALESCE(new.founded_at, old.founded_at),
    merged_into = COALESCE(new.merged_into, old.merged_into),
    split_from = COALESCE(new.split_from, old.split_from),
    retired = COALESCE(new.retired, old.retired),
    dissolved = COALESCE(new.dissolved, old.dissolved),
    record_offset = new.record_offset
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::boolean[], $7::boolean[],
    $8::bigint[])
    AS new (cluster_id, tenant, founded_at, merged_into, split_from, retired, dissolved, record_offset)
WHERE old.cluster_id = new.cluster_id AND new.record_offset > COALESCE(old.record_offset, -1)
"""

MAPPINGS = """
INSERT INTO family_cluster_mappings AS old (cluster_id, family_id, mapped_at, record_offset)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[])
ON CONFLICT (cluster_id) DO UPDATE SET
    family_id = EXCLUDED.family_id, mapped_at = EXCLUDED.mapped_at, record_offset = EXCLUDED.record_offset
WHERE EXCLUDED.record_offset > old.record_offset
"""

TEMPLATES = """
INSERT INTO canonical_templates AS old
    (template_id, tenant, cluster_id, version, template, slots, name, description, confidence, members, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::text[], $8::text[],
    $9::float8[], $10::int[], $11::timestamptz[])
ON CONFLICT (template_id) DO UPDATE SET
    template = EXCLUDED.template, slots = EXCLUDED.slots, name = EXCLUDED.name, description = EXCLUDED.description,
    confidence = EXCLUDED.confidence, members = EXCLUDED.members, created_at = EXCLUDED.created_at
WHERE old.template IS NULL AND EXCLUDED.template IS NOT NULL
"""

SLOTS = """
INSERT INTO template_slots
    (template_id, name, position, type, optional, repeated, confidence, example_values, detail, statistics)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::boolean[], $6::boolean[], $7::float8[],
    $8::jsonb[], $9::jsonb[], $10::jsonb[])
ON CONFLICT (template_id, name) DO NOTHING
"""

# The more values were seen, the newer: a replay and a second reading end in the same row.
SLOT_STATISTICS = """
INSERT INTO slot_statistics AS old
    (template_id, name, position, type, optional, repeated, confidence, example_values, detail, statistics)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::boolean[], $6::boolean[], $7::float8[],
    $8::jsonb[], $9::jsonb[], $10::jsonb[])
ON CONFLICT (template_id, name) DO UPDATE SET
    type = EXCLUDED.type, optional = EXCLUDED.optional, repeated = EXCLUDED.repeated, confidence = EXCLUDED.confidence,
    example_values = EXCLUDED.example_values, detail = EXCLUDED.detail, statistics = EXCLUDED.statistics
WHERE (EXCLUDED.statistics->>'values')::bigint > (old.statistics->>'values')::bigint
"""

REFINEMENTS = """
INSERT INTO template_refinements AS old
    (template_id, refinement_id, event_id, tenant, family_id, name, description, family_name, family_description,
     slots, model, prompt_version, created_at, record_offset)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::jsonb[], $11::text[], $12::text[], $13::timestamptz[], $14::bigint[])
ON CONFLICT (template_id) DO UPDATE SET
    refinement_id = EXCLUDED.refinement_id, event_id = EXCLUDED.event_id, family_id = EXCLUDED.family_id,
    name = EXCLUDED.name, description = EXCLUDED.description, family_name = EXCLUDED.family_name,
    family_description = EXCLUDED.family_description, slots = EXCLUDED.slots, model = EXCLUDED.model,
    prompt_version = EXCLUDED.prompt_version, created_at = EXCLUDED.created_at, record_offset = EXCLUDED.record_offset
WHERE EXCLUDED.record_offset > old.record_offset
"""

PROMPTS = """
INSERT INTO prompts
    (prompt_id, tenant, text, text_sha256, text_chars, moderation_status, moderation, source, metadata, usage,
     created_at, received_at, prompt_partition, prompt_offset)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::jsonb[], $8::text[],
    $9::jsonb[], $10::jsonb[], $11::timestamptz[], $12::timestamptz[], $13::int[], $14::bigint[])
ON CONFLICT (prompt_id, tenant) DO NOTHING
"""

# Prompts whose id has the row of another record already; run only when PROMPTS inserted fewer rows than it was given.
CLASHES = """
SELECT old.prompt_id, old.tenant, old.moderation_status
FROM prompts AS old
JOIN unnest($1::text[], $2::text[], $3::int[], $4::bigint[]) AS new (prompt_id, tenant, prompt_partition, prompt_offset)
    ON old.prompt_id = new.prompt_id AND old.tenant = new.tenant
WHERE (old.prompt_partition, old.prompt_offset) <> (new.prompt_partition, new.prompt_offset)
"""

# A rejected prompt gives way to an allowed one with its id (it has no text to show); it stays counted as a repeat.
GIVE_WAY = """
INSERT INTO prompt_repeats (prompt_partition, prompt_offset, prompt_id, tenant, outcome, received_at)
SELECT old.prompt_partition, old.prompt_offset, old.prompt_id, old.tenant, 'rejected', old.received_at
FROM prompts AS old
JOIN unnest($1::text[], $2::text[]) AS new (prompt_id, tenant)
    ON old.prompt_id = new.prompt_id AND old.tenant = new.tenant
ON CONFLICT (prompt_partition, prompt_offset) DO NOTHING
"""

REPLACE = """
UPDATE prompts AS old SET
    text = new.text, text_sha256 = new.text_sha256, text_chars = new.text_chars,
    moderation_status = new.moderation_status, moderation = new.moderation, source = new.source,
    metadata = new.metadata, usage = new.usage, created_at = new.created_at, received_at = new.received_at,
    written_at = clock_timestamp(), prompt_partition = new.prompt_partition, prompt_offset = new.prompt_offset
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::jsonb[], $8::text[],
    $9::jsonb[], $10::jsonb[], $11::timestamptz[], $12::timestamptz[], $13::int[], $14::bigint[])
    AS new (prompt_id, tenant, text, text_sha256, text_chars, moderation_status, moderation, source, metadata, usage,
            created_at, received_at, prompt_partition, prompt_offset)
WHERE old.prompt_id = new.prompt_id AND old.tenant = new.tenant
"""

REPEATS = """
INSERT INTO prompt_repeats (prompt_partition, prompt_offset, prompt_id, tenant, outcome, received_at)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
ON CONFLICT (prompt_partition, prompt_offset) DO NOTHING
"""

# Links that a higher one follows are no longer current. Only moves (sequence > 0) can follow anything.
SUPERSEDED = """
UPDATE cluster_assignments AS old SET current = false
FROM unnest($1::text[], $2::text[], $3::int[]) AS new (prompt_id, tenant, sequence)
WHERE old.prompt_id = new.prompt_id AND old.tenant = new.tenant AND old.current AND old.sequence < new.sequence
"""

# A link that comes late, below the current one, joins the chain without becoming current.
ASSIGNMENTS = """
INSERT INTO cluster_assignments
    (prompt_id, tenant, sequence, current, cluster_id, previous_cluster_id, similarity, confidence, reasoning,
     decision, template_id, template_version, slots, raw)
SELECT prompt_id, tenant, sequence,
    current AND NOT EXISTS (
        SELECT FROM cluster_assignments AS old
        WHERE old.prompt_id = new.prompt_id AND old.tenant = new.tenant AND old.current),
    cluster_id, previous_cluster_id, similarity, confidence, reasoning, decision, template_id, template_version,
    slots, raw
FROM unnest($1::text[], $2::text[], $3::int[], $4::boolean[], $5::uuid[], $6::uuid[], $7::float8[], $8::float8[],
    $9::text[], $10::jsonb[], $11::uuid[], $12::text[], $13::jsonb[], $14::boolean[])
    AS new (prompt_id, tenant, sequence, current, cluster_id, previous_cluster_id, similarity, confidence, reasoning,
            decision, template_id, template_version, slots, raw)
ON CONFLICT (prompt_id, tenant, sequence) DO NOTHING
"""

EVENTS = """
INSERT INTO evolution_events
    (event_id, type, tenant, cluster_id, family_id, template_id, prompt_id, previous_version, new_version,
     change_reason, diff, detected_by, details, created_at, prompt_partition, prompt_offset, record_partition,
     record_offset)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::jsonb[], $14::timestamptz[], $15::int[], $16::bigint[],
    $17::int[], $18::bigint[])
ON CONFLICT (event_id) DO NOTHING
"""
