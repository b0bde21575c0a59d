-- A bandit that reads its log again tells outcomes anew under larger revisions: of those the newest is looked up, where
-- before all smaller ones were listed, which a rebuild would have made long.

CREATE OR REPLACE VIEW v_outcomes (
    event_id String COMMENT 'Deterministic id of this outcome; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user; never the user\'s own id.',
    decision_id String COMMENT 'Decision that chose the arm.',
    policy_version Int64 COMMENT 'Version that decided.',
    arm LowCardinality(String) COMMENT 'Arm that served it.',
    propensity Float64 COMMENT 'Probability with which it was chosen.',
    fallback Bool COMMENT 'Whether a default served it.',
    model LowCardinality(Nullable(String)) COMMENT 'Model that answered.',
    reward Nullable(Float64) COMMENT 'Composite reward; null when a part it needs is missing.',
    quality Nullable(Float64) COMMENT 'Weighted quality, 0 to 1.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Cost of all attempts.',
    latency_ms Nullable(Float64) COMMENT 'Latency of the request.',
    parts Map(LowCardinality(String), Float64) COMMENT 'Every part of the reward by name, as it entered.',
    missing Array(LowCardinality(String)) COMMENT 'Quality parts that had not arrived.',
    status LowCardinality(String) COMMENT 'complete; timed_out when the attribution window closed first.',
    calls Int32 COMMENT 'Attempts joined.',
    errors Int32 COMMENT 'Attempts that failed.',
    revision Int32 COMMENT '1 or more when first told, larger with each part that changes the reward; the largest counts.',
    completed_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest part.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder wrote the row.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    project,
    request_id,
    occurred_at,
    environment,
    app,
    feature,
    team,
    user_hash,
    decision_id,
    policy_version,
    arm,
    propensity,
    fallback,
    model,
    reward,
    quality,
    cost_usd,
    latency_ms,
    parts,
    missing,
    status,
    calls,
    errors,
    revision,
    completed_at,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM outcomes
WHERE (project, decision_id, revision) IN (
    SELECT project, decision_id, max(revision) FROM outcomes WHERE revision > 1 GROUP BY project, decision_id
) OR (
    revision = 1 AND (project, decision_id) NOT IN (SELECT project, decision_id FROM outcomes WHERE revision > 1)
)
COMMENT 'Each decision with all its parts joined: the newest revision, one row per project and decision.';
