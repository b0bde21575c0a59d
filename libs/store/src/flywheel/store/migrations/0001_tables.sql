-- Facts, one table per event: immutable rows with their dimensions and the Kafka position they came from.
-- Every column of a sort or partition key is set by the producer and never changes. Unknown is NULL.
-- The recorder writes an event once; ReplacingMergeTree is the safety net behind it (the lowest offset wins).

CREATE TABLE IF NOT EXISTS llm_calls (
    event_id String COMMENT 'Deterministic id of this call; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user; never the user\'s own id.',
    trace_id Nullable(String) COMMENT 'W3C trace id, 32 hex digits.',
    span_id Nullable(String) COMMENT 'W3C span id, 16 hex digits.',
    parent_span_id Nullable(String) COMMENT 'Parent span id.',
    conversation_id Nullable(String) COMMENT 'Session or thread.',
    operation LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'What kind of call it was.',
    provider LowCardinality(String) COMMENT 'Provider that served the call, as OTel gen_ai.provider.name.',
    request_model LowCardinality(String) COMMENT 'Model asked for.',
    response_model LowCardinality(Nullable(String)) COMMENT 'Model that answered.',
    response_id Nullable(String) COMMENT 'Provider\'s id of the answer.',
    prompt_name LowCardinality(Nullable(String)) COMMENT 'Prompt used.',
    prompt_version LowCardinality(Nullable(String)) COMMENT 'Its version.',
    temperature Nullable(Float64) COMMENT 'Sampling temperature.',
    top_p Nullable(Float64) COMMENT 'Nucleus sampling mass.',
    max_tokens Nullable(Int64) COMMENT 'Cap on output tokens.',
    params Map(LowCardinality(String), String) COMMENT 'Further request parameters, each value as JSON text.',
    streaming Nullable(Bool) COMMENT 'Whether the answer was streamed.',
    usage_convention LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'Whether the reported input includes cached tokens, as received.',
    usage_source LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'Who counted the tokens.',
    input_tokens Nullable(Int64) COMMENT 'All input tokens, cached ones included. Null is unknown, never 0.',
    output_tokens Nullable(Int64) COMMENT 'All output tokens, reasoning included.',
    uncached_input_tokens Nullable(Int64) COMMENT 'Disjoint bucket: input neither read from nor written to a cache.',
    cache_read_tokens Nullable(Int64) COMMENT 'Disjoint bucket: input read from a cache.',
    cache_write_5m_tokens Nullable(Int64) COMMENT 'Disjoint bucket: input written to a short-lived cache.',
    cache_write_1h_tokens Nullable(Int64) COMMENT 'Disjoint bucket: input written to a one-hour cache.',
    visible_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: output the caller sees.',
    reasoning_tokens Nullable(Int64) COMMENT 'Disjoint bucket: hidden reasoning output.',
    audio_input_tokens Nullable(Int64) COMMENT 'Disjoint bucket: audio input.',
    audio_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: audio output.',
    image_input_tokens Nullable(Int64) COMMENT 'Disjoint bucket: image input.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Cost in US dollars. Null is unknown, 0 is really free.',
    cost_source LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'PROVIDER: reported with the call; LOCAL: priced by us from the table.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    latency_ms Nullable(Float64) COMMENT 'From request sent to answer complete.',
    ttft_ms Nullable(Float64) COMMENT 'From request sent to first token.',
    status LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'How the call ended.',
    error_type LowCardinality(Nullable(String)) COMMENT 'Low-cardinality error class.',
    finish_reason LowCardinality(Nullable(String)) COMMENT 'Why generation stopped.',
    tool_calls Nullable(Int64) COMMENT 'Tool calls in the answer.',
    decision_id Nullable(String) COMMENT 'Decision that chose the arm.',
    policy LowCardinality(Nullable(String)) COMMENT 'Policy of that decision.',
    policy_version Nullable(Int64) COMMENT 'Its version.',
    variant LowCardinality(Nullable(String)) COMMENT 'Arm that served the request.',
    propensity Nullable(Float64) COMMENT 'Probability with which that arm was chosen.',
    attempt Int32 DEFAULT 1 COMMENT '1 for the first attempt at a request.',
    shadow Bool DEFAULT false COMMENT 'True when nobody saw the answer.',
    attributes Map(LowCardinality(String), String) COMMENT 'Free attributes.',
    flags Array(LowCardinality(String)) COMMENT 'Contradictions noticed on arrival, by name.',
    received_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingest took it.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, ifNull(feature, ''), occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One attempt at a model. A request may have several.';

CREATE TABLE IF NOT EXISTS decisions (
    event_id String COMMENT 'Deterministic id of this decision; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user; never the user\'s own id.',
    trace_id Nullable(String) COMMENT 'W3C trace id.',
    policy LowCardinality(String) COMMENT 'Policy asked, named as its feature.',
    policy_version Int64 COMMENT 'Version that decided; 0 when there was none.',
    policy_kind LowCardinality(String) COMMENT 'Kind of policy, e.g. thompson_beta, or default when none decided.',
    arm LowCardinality(String) COMMENT 'Arm chosen.',
    propensity Float64 COMMENT 'Probability with which it was chosen.',
    arms Array(LowCardinality(String)) COMMENT 'Eligible arms, in the policy\'s order.',
    propensities Array(Float64) COMMENT 'Probability of each eligible arm; they add up to 1.',
    propensity_error Float64 COMMENT 'Bound on the absolute error of the propensities; 0 for closed forms.',
    model LowCardinality(Nullable(String)) COMMENT 'Model of the arm.',
    prompt_name LowCardinality(Nullable(String)) COMMENT 'Prompt of the arm.',
    prompt_version LowCardinality(Nullable(String)) COMMENT 'Its version.',
    params Map(LowCardinality(String), String) COMMENT 'Parameters of the arm, each value as JSON text.',
    fallback Bool DEFAULT false COMMENT 'True when a declared default was used because the policy could not decide.',
    reason LowCardinality(String) COMMENT 'Why: policy, no_policy, stale_policy, nothing_eligible, unknown_feature.',
    context Map(LowCardinality(String), String) COMMENT 'The request\'s declared context.',
    decider LowCardinality(String) COMMENT 'Where it was decided: router or client.',
    policy_age_ms Nullable(Float64) COMMENT 'Age of the policy when it decided.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, ifNull(feature, ''), occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Which arm serves a request, with the whole distribution it was drawn from.';

CREATE TABLE IF NOT EXISTS feedback (
    event_id String COMMENT 'Deterministic id of this feedback; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user; never the user\'s own id.',
    decision_id Nullable(String) COMMENT 'Decision it judges, where known.',
    kind LowCardinality(String) COMMENT 'What was said, e.g. user.thumb; charters name these.',
    value Nullable(Float64) COMMENT '0 (worst) to 1 (best). Null where only a label is given.',
    label LowCardinality(Nullable(String)) COMMENT 'Categorical answer.',
    comment Nullable(String) COMMENT 'Free words.',
    source LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'Who says so.',
    attributes Map(LowCardinality(String), String) COMMENT 'Free attributes.',
    received_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingest took it.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, ifNull(feature, ''), occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What a person or the business says of a request, later.';

CREATE TABLE IF NOT EXISTS evaluations (
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
    kind LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'What kind of evaluator.',
    score Nullable(Float64) COMMENT '0 (worst) to 1 (best).',
    label LowCardinality(Nullable(String)) COMMENT 'Categorical verdict.',
    passed Nullable(Bool) COMMENT 'Whether it passed.',
    explanation Nullable(String) COMMENT 'Why.',
    judge_model LowCardinality(Nullable(String)) COMMENT 'Model that judged.',
    judge_cost_usd Nullable(Decimal(28, 12)) COMMENT 'What judging cost.',
    sample_prob Float64 DEFAULT 1.0 COMMENT 'Probability with which this call was picked for evaluation.',
    rubric_version LowCardinality(Nullable(String)) COMMENT 'Version of the rubric.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, ifNull(feature, ''), occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What an evaluator says of a call.';

CREATE TABLE IF NOT EXISTS outcomes (
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
    fallback Bool DEFAULT false COMMENT 'Whether a default served it.',
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
    revision Int32 DEFAULT 1 COMMENT '1 for the first; a later part that changes the reward gives the next.',
    completed_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest part.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, ifNull(feature, ''), occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A request with all its parts joined: what the policy learns from.';

CREATE TABLE IF NOT EXISTS call_content (
    event_id String COMMENT 'Deterministic id of this content; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    call_id String COMMENT 'Call it belongs to.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves.',
    input_text Nullable(String) COMMENT 'What was sent to the model.' CODEC(ZSTD(3)),
    output_text Nullable(String) COMMENT 'What it answered.' CODEC(ZSTD(3)),
    redaction LowCardinality(String) DEFAULT 'none' COMMENT 'How it was redacted before it was written: none, masked.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX i_request_id request_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), project, call_id, occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity_bytes = 67108864
COMMENT 'What was asked and answered; its own topic and its own short retention.';

CREATE TABLE IF NOT EXISTS policies (
    event_id String COMMENT 'Hash of project, feature and version.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest fact it stands on, never the clock.',
    policy_version Int64 COMMENT 'Grows with the facts behind it; the newest wins.',
    kind LowCardinality(String) COMMENT 'thompson_beta, thompson_gaussian, ucb1, epsilon_greedy or static.',
    charter_digest LowCardinality(String) COMMENT 'Charter it follows.',
    charter_revision Int64 COMMENT 'Its revision.',
    default_arm LowCardinality(String) COMMENT 'Arm to use when the policy can\'t decide.',
    explore_floor Float64 COMMENT 'Least share of every eligible arm.',
    epsilon Float64 COMMENT 'Share explored by epsilon_greedy.',
    stale_after_s Float64 COMMENT 'Older than this the declared default is used.',
    outcomes Int64 COMMENT 'Outcomes behind this version, all arms, without forgetting.',
    arms Array(Tuple(name String, model String, prompt_name Nullable(String), prompt_version Nullable(String), params Map(LowCardinality(String), String), eligible_when Array(Tuple(field String, operator String, value String)), enabled Bool, weight Float64, mean Float64, variance Float64, alpha Float64, beta Float64, score Float64, propensity Float64)) COMMENT 'Arms in declared order.',
    context Array(LowCardinality(String)) COMMENT 'Declared context fields.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (project, feature, policy_version, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What is believed of a feature\'s arms and how the next one is chosen. Compacted: the newest version wins.';

CREATE TABLE IF NOT EXISTS charters (
    event_id String COMMENT 'Hash of project, feature and text.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was applied.',
    revision Int64 COMMENT 'Counts up with each change; the newest wins.',
    charter_yaml String COMMENT 'The charter as written.',
    digest String COMMENT 'SHA-256 of the charter\'s text.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (project, feature, revision, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What a user declared for a feature.';

CREATE TABLE IF NOT EXISTS dead_letters (
    event_id String COMMENT 'Hash of source position and service.',
    project LowCardinality(String) COMMENT 'Project, or empty when it could not be read.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'Broker\'s timestamp of the input.',
    source_topic LowCardinality(String) COMMENT 'Topic it came from.',
    source_partition Int32 COMMENT 'Partition.',
    source_offset Int64 COMMENT 'Offset.',
    service LowCardinality(String) COMMENT 'Service that refused it.',
    service_version LowCardinality(String) COMMENT 'Its version.',
    reason LowCardinality(String) COMMENT 'Reason code, e.g. undecodable, invalid, unsupported.',
    field LowCardinality(Nullable(String)) COMMENT 'Field at fault.',
    detail String COMMENT 'What was wrong, in words.',
    schema_id Nullable(Int32) COMMENT 'Schema id in the frame, where there was one.',
    key Nullable(String) COMMENT 'Key as received.',
    value Nullable(String) COMMENT 'Value as received.',
    headers Map(LowCardinality(String), String) COMMENT 'Headers as received.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.' CODEC(Delta, ZSTD(1)),
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.' CODEC(Delta, ZSTD(1)),
    k_batch_first Int64 COMMENT 'First offset of the batch the row was written in: everything below it was finished before.' CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder wrote the row.' CODEC(Delta, ZSTD(1)),
    k_rank UInt64 MATERIALIZED 18446744073709551615 - toUInt64(k_offset) COMMENT 'Makes the lowest offset win where one event was written twice.' CODEC(Delta, ZSTD(1)),
    INDEX i_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(k_rank)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (toStartOfHour(occurred_at), source_topic, source_partition, source_offset, event_id)
TTL toDateTime(recorded_at) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An input that could not be processed, whole, with why.';

CREATE TABLE IF NOT EXISTS duplicate_events (
    event LowCardinality(String) COMMENT 'Event of the record.',
    event_id String COMMENT 'Its id, recorded before.',
    same_content Nullable(Bool) COMMENT 'Whether it says the same as the recorded one, received_at aside; NULL when that one is gone.',
    first_partition Nullable(Int32) COMMENT 'Kafka partition of the recorded one.',
    first_offset Nullable(Int64) COMMENT 'Kafka offset of the recorded one.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic of the duplicate.',
    k_partition Int32 COMMENT 'Its partition.',
    k_offset Int64 COMMENT 'Its offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Its Kafka timestamp.',
    k_batch_first Int64 COMMENT 'First offset of the batch it was in: everything below it was finished before.',
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the recorder noted it.'
)
ENGINE = ReplacingMergeTree(recorded_at)
PARTITION BY toYYYYMM(k_timestamp)
ORDER BY (k_topic, k_partition, k_offset)
TTL toDateTime(recorded_at) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Records whose event was recorded before: kept out of every view, counted here.';
