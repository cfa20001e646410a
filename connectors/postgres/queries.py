"""The SQL behind `reader.py`. Merged clusters count as the one they ended in (`resolved_clusters`)."""

from __future__ import annotations

MEMBERS = """
SELECT resolved.resolved_id AS cluster_id, count(*) AS members
FROM cluster_assignments AS link JOIN resolved_clusters AS resolved USING (cluster_id)
WHERE link.current
GROUP BY resolved.resolved_id
"""

CLUSTERS = f"""
WITH members AS ({MEMBERS})
SELECT cluster.cluster_id::text, cluster.tenant, COALESCE(members.members, 0) AS members, cluster.retired,
    cluster.founded_at, family.family_id::text,
    COALESCE(refined_family.family_name, family.name, '') AS family_name,
    template.version, template.template, COALESCE(refined.name, template.name, '') AS name,
    COALESCE(NULLIF(refined.description, ''), template.description, '') AS description,
    COALESCE(template.name, '') AS offline_name, COALESCE(family.name, '') AS offline_family_name,
    COALESCE(refined.model, '') AS named_by, COALESCE(refined_family.model, '') AS family_named_by,
    ARRAY(SELECT slot.name FROM template_slots AS slot
          WHERE slot.template_id = template.template_id ORDER BY slot.position) AS slot_names
FROM clusters AS cluster
LEFT JOIN members USING (cluster_id)
LEFT JOIN family_cluster_mappings AS mapping USING (cluster_id)
LEFT JOIN prompt_families AS family USING (family_id)
LEFT JOIN current_templates AS template USING (cluster_id)
LEFT JOIN template_refinements AS refined USING (template_id)
LEFT JOIN refined_families AS refined_family ON refined_family.family_id = mapping.family_id
WHERE cluster.merged_into IS NULL AND NOT cluster.dissolved
    AND ($1::text IS NULL OR cluster.tenant = $1)
    AND ($2::text IS NULL OR starts_with(cluster.cluster_id::text, $2))
ORDER BY members DESC, cluster.cluster_id
LIMIT $3
"""  # noqa: S608  put together from constants of this file

RESOLVE = """
SELECT DISTINCT resolved_id::text FROM resolved_clusters WHERE starts_with(cluster_id::text, $1) LIMIT $2
"""

MERGED = """
SELECT cluster_id::text FROM resolved_clusters
WHERE resolved_id = $1::uuid AND cluster_id <> resolved_id ORDER BY cluster_id
"""

VERSIONS = """
SELECT template_id::text, version, template, confidence, members, created_at
FROM canonical_templates
WHERE cluster_id = $1::uuid AND template IS NOT NULL
ORDER BY string_to_array(version, '.')::int[] DESC
"""

SLOTS = """
SELECT slot.name, slot.type, slot.optional, slot.repeated, slot.confidence,
    slot.example_values::text AS examples_json, slot.statistics::text AS statistics_json,
    slot.detail::text AS detail_json,
    COALESCE(refined.slots -> slot.name ->> 'name', '') AS refined_name,
    COALESCE(refined.slots -> slot.name ->> 'reason', '') AS refined_reason
FROM current_slots AS slot JOIN current_templates AS template USING (template_id)
LEFT JOIN template_refinements AS refined USING (template_id)
WHERE template.cluster_id = $1::uuid
ORDER BY slot.position
"""

EXAMPLES = """
SELECT prompt.prompt_id, prompt.text, link.template_version, link.slots::text AS slots_json, prompt.created_at
FROM cluster_assignments AS link
JOIN resolved_clusters AS resolved USING (cluster_id)
JOIN prompts AS prompt USING (prompt_id, tenant)
WHERE link.current AND resolved.resolved_id = $1::uuid
ORDER BY prompt.created_at DESC, prompt.prompt_offset DESC, prompt.prompt_id
LIMIT $2
"""

EVENTS = """
SELECT event.event_id::text, event.type, event.tenant, event.cluster_id::text, event.prompt_id,
    event.previous_version, event.new_version, event.change_reason, event.diff, event.detected_by, event.created_at,
    COALESCE(template.name, '') AS name
FROM evolution_events AS event LEFT JOIN current_templates AS template USING (cluster_id)
WHERE ($1::text IS NULL OR event.tenant = $1) AND ($2::uuid IS NULL OR event.cluster_id = $2)
ORDER BY event.created_at DESC, event.record_offset DESC, event.event_id
LIMIT $3
"""

PROMPTS = """
SELECT prompt_id, tenant, text, moderation_status, moderation::text AS moderation_json, source, created_at,
    prompt_partition, prompt_offset
FROM prompts
WHERE prompt_id = $1 AND ($2::text IS NULL OR tenant = $2)
ORDER BY tenant
LIMIT $3
"""

NEWEST_TEXTS = """
SELECT text FROM prompts
WHERE tenant = $1 AND moderation_status = 'allowed'
ORDER BY received_at DESC, prompt_partition DESC, prompt_offset DESC
LIMIT $2
"""

CHAIN = """
SELECT sequence, current, cluster_id::text, previous_cluster_id::text, similarity, confidence, reasoning,
    decision::text AS decision_json, template_version, slots::text AS slots_json, raw
FROM cluster_assignments
WHERE prompt_id = $1 AND tenant = $2
ORDER BY sequence
"""

# The tables by the names the sink writes, for their numbers of rows.
TABLES = (
    "prompts",
    "prompt_repeats",
    "prompt_families",
    "clusters",
    "family_cluster_mappings",
    "canonical_templates",
    "template_slots",
    "slot_statistics",
    "template_refinements",
    "cluster_assignments",
    "evolution_events",
)
ROWS = " UNION ALL ".join(f"SELECT '{table}' AS name, count(*) AS amount FROM {table}" for table in TABLES)  # noqa: S608  as above

PROMPT_COUNTS = """
SELECT
    (SELECT count(*) FROM prompts WHERE moderation_status = 'rejected')
        + (SELECT count(*) FROM prompt_repeats WHERE outcome = 'rejected') AS rejected,
    (SELECT count(*) FROM cluster_assignments WHERE current AND cluster_id IS NOT NULL) AS clustered,
    (SELECT count(*) FROM cluster_assignments WHERE current AND cluster_id IS NULL) AS unclustered,
    (SELECT count(*) FROM prompt_repeats WHERE outcome = 'duplicate') AS duplicate,
    (SELECT count(*) FROM clusters WHERE merged_into IS NULL AND NOT retired AND NOT dissolved) AS clusters,
    (SELECT count(*) FROM current_templates JOIN clusters USING (cluster_id)
     WHERE merged_into IS NULL AND NOT retired AND NOT dissolved) AS templates
"""

EVENT_COUNTS = "SELECT type AS name, count(*) AS amount FROM evolution_events GROUP BY type ORDER BY type"

LATENCIES = """
SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY written_at - received_at)) * 1000 AS ms_p50,
    extract(epoch FROM percentile_cont(0.95) WITHIN GROUP (ORDER BY written_at - received_at)) * 1000 AS ms_p95,
    extract(epoch FROM max(written_at) - min(received_at)) AS span_s
FROM prompts
WHERE received_at >= $1
"""

# What may not be: prompts without a current assignment, chains with a link missing.
BROKEN_CHAINS = """
SELECT
    (SELECT count(*) FROM prompts AS prompt WHERE moderation_status = 'allowed' AND NOT EXISTS (
        SELECT FROM cluster_assignments AS link
        WHERE link.prompt_id = prompt.prompt_id AND link.tenant = prompt.tenant AND link.current)) AS unassigned,
    (SELECT count(*) FROM (
        SELECT FROM cluster_assignments
        GROUP BY prompt_id, tenant HAVING max(sequence) <> count(*) - 1) AS chain) AS gaps
"""
