-- Golden probes: evaluations of answers whose score is known, which say something about the evaluator only.

ALTER TABLE evaluations
    ADD COLUMN IF NOT EXISTS golden_score Nullable(Float64) COMMENT 'Of a golden probe, an answer whose score is known and that the evaluator judges again and again: that score, 0 to 1. It says something about the evaluator only: nothing is learned from it. Null for every other evaluation.' AFTER rubric_version;

CREATE OR REPLACE VIEW v_evaluations (
    event_id String COMMENT 'Deterministic id of this evaluation; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user; never the user\'s own id.',
    call_id Nullable(String) COMMENT 'Call evaluated; null for the request as a whole.',
    decision_id Nullable(String) COMMENT 'Decision it judges, where known.',
    evaluator LowCardinality(String) COMMENT 'Name of the evaluator, e.g. judge.helpful.',
    evaluator_version LowCardinality(Nullable(String)) COMMENT 'Its version.',
    kind LowCardinality(String) COMMENT 'What kind of evaluator.',
    score Nullable(Float64) COMMENT '0 (worst) to 1 (best).',
    label LowCardinality(Nullable(String)) COMMENT 'Categorical verdict.',
    passed Nullable(Bool) COMMENT 'Whether it passed.',
    explanation Nullable(String) COMMENT 'Why.',
    judge_model LowCardinality(Nullable(String)) COMMENT 'Model that judged.',
    judge_cost_usd Nullable(Decimal(28, 12)) COMMENT 'What judging cost.',
    sample_prob Float64 COMMENT 'Probability with which this call was picked for evaluation.',
    rubric_version LowCardinality(Nullable(String)) COMMENT 'Version of the rubric.',
    golden_score Nullable(Float64) COMMENT 'Of a golden probe, an answer whose score is known and that the evaluator judges again and again: that score, 0 to 1. It says something about the evaluator only: nothing is learned from it. Null for every other evaluation.',
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
    call_id,
    decision_id,
    evaluator,
    evaluator_version,
    kind,
    score,
    label,
    passed,
    explanation,
    judge_model,
    judge_cost_usd,
    sample_prob,
    rubric_version,
    golden_score,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM evaluations
COMMENT 'What evaluators said of calls, once per evaluation event. A re-score is a row of its own.';
