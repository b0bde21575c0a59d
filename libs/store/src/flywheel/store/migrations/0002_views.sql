-- What analysts read. Rows are already unique, so no view needs FINAL. Each runs with its definer's rights:
-- readers are granted the views, never the tables.

CREATE OR REPLACE VIEW v_calls (
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
    operation LowCardinality(String) COMMENT 'What kind of call it was.',
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
    usage_convention LowCardinality(String) COMMENT 'Whether the reported input includes cached tokens, as received.',
    usage_source LowCardinality(String) COMMENT 'Who counted the tokens.',
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
    cost_source LowCardinality(String) COMMENT 'PROVIDER: reported with the call; LOCAL: priced by us from the table.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    latency_ms Nullable(Float64) COMMENT 'From request sent to answer complete.',
    ttft_ms Nullable(Float64) COMMENT 'From request sent to first token.',
    status LowCardinality(String) COMMENT 'How the call ended.',
    error_type LowCardinality(Nullable(String)) COMMENT 'Low-cardinality error class.',
    finish_reason LowCardinality(Nullable(String)) COMMENT 'Why generation stopped.',
    tool_calls Nullable(Int64) COMMENT 'Tool calls in the answer.',
    decision_id Nullable(String) COMMENT 'Decision that chose the arm.',
    policy LowCardinality(Nullable(String)) COMMENT 'Policy of that decision.',
    policy_version Nullable(Int64) COMMENT 'Its version.',
    variant LowCardinality(Nullable(String)) COMMENT 'Arm that served the request.',
    propensity Nullable(Float64) COMMENT 'Probability with which that arm was chosen.',
    attempt Int32 COMMENT '1 for the first attempt at a request.',
    shadow Bool COMMENT 'True when nobody saw the answer.',
    attributes Map(LowCardinality(String), String) COMMENT 'Free attributes.',
    flags Array(LowCardinality(String)) COMMENT 'Contradictions noticed on arrival, by name.',
    received_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingest took it.',
    model String COMMENT 'Model that answered, or the one asked for where the answer did not say.',
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
    trace_id,
    span_id,
    parent_span_id,
    conversation_id,
    operation,
    provider,
    request_model,
    response_model,
    response_id,
    prompt_name,
    prompt_version,
    temperature,
    top_p,
    max_tokens,
    params,
    streaming,
    usage_convention,
    usage_source,
    input_tokens,
    output_tokens,
    uncached_input_tokens,
    cache_read_tokens,
    cache_write_5m_tokens,
    cache_write_1h_tokens,
    visible_output_tokens,
    reasoning_tokens,
    audio_input_tokens,
    audio_output_tokens,
    image_input_tokens,
    cost_usd,
    cost_source,
    price_version,
    latency_ms,
    ttft_ms,
    status,
    error_type,
    finish_reason,
    tool_calls,
    decision_id,
    policy,
    policy_version,
    variant,
    propensity,
    attempt,
    shadow,
    attributes,
    flags,
    received_at,
    ifNull(response_model, request_model) AS model,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM llm_calls
COMMENT 'Every attempt at a model, once. One row per call event; unknown is NULL, never 0.';

CREATE OR REPLACE VIEW v_decisions (
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
    fallback Bool COMMENT 'True when a declared default was used because the policy could not decide.',
    reason LowCardinality(String) COMMENT 'Why: policy, no_policy, stale_policy, nothing_eligible, unknown_feature.',
    context Map(LowCardinality(String), String) COMMENT 'The request\'s declared context.',
    decider LowCardinality(String) COMMENT 'Where it was decided: router or client.',
    policy_age_ms Nullable(Float64) COMMENT 'Age of the policy when it decided.',
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
    trace_id,
    policy,
    policy_version,
    policy_kind,
    arm,
    propensity,
    arms,
    propensities,
    propensity_error,
    model,
    prompt_name,
    prompt_version,
    params,
    fallback,
    reason,
    context,
    decider,
    policy_age_ms,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM decisions
COMMENT 'Every decision, once, with the propensities of all its arms.';

CREATE OR REPLACE VIEW v_feedback (
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
    source LowCardinality(String) COMMENT 'Who says so.',
    attributes Map(LowCardinality(String), String) COMMENT 'Free attributes.',
    received_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingest took it.',
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
    kind,
    value,
    label,
    comment,
    source,
    attributes,
    received_at,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM feedback
COMMENT 'What users and the business said afterwards, once per feedback event.';

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
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM evaluations
COMMENT 'What evaluators said of calls, once per evaluation event. A re-score is a row of its own.';

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
    revision Int32 COMMENT '1 for the first; a later part that changes the reward gives the next.',
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
WHERE (project, decision_id, revision) NOT IN (
    SELECT project, decision_id, toInt32(arrayJoin(range(1, toUInt32(revision)))) FROM outcomes WHERE revision > 1
)
COMMENT 'Each decision with all its parts joined: the newest revision, one row per project and decision.';

CREATE OR REPLACE VIEW v_policies (
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
    k_offset Int64 COMMENT 'Kafka offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder wrote the row.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    project,
    feature,
    occurred_at,
    policy_version,
    kind,
    charter_digest,
    charter_revision,
    default_arm,
    explore_floor,
    epsilon,
    stale_after_s,
    outcomes,
    arms,
    context,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM policies
COMMENT 'Every version of every policy, with what was believed of its arms.';

CREATE OR REPLACE VIEW v_policy_arms (
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    policy_version Int64 COMMENT 'Grows with the facts behind it; the newest wins.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest fact it stands on, never the clock.',
    kind LowCardinality(String) COMMENT 'thompson_beta, thompson_gaussian, ucb1, epsilon_greedy or static.',
    position UInt32 COMMENT 'Its place in the declared order, from 1.',
    arm String COMMENT 'Name of the arm.',
    model String COMMENT 'Model the arm calls, provider/model.',
    prompt_name Nullable(String) COMMENT 'Prompt the arm uses.',
    prompt_version Nullable(String) COMMENT 'Version of that prompt.',
    params Map(LowCardinality(String), String) COMMENT 'Request parameters, each value as JSON text.',
    enabled Bool COMMENT 'False keeps the arm\'s beliefs but never chooses it.',
    weight Float64 COMMENT 'Effective number of outcomes behind the belief, after forgetting.',
    mean Float64 COMMENT 'Posterior mean reward.',
    variance Float64 COMMENT 'Posterior variance of the mean reward.',
    alpha Float64 COMMENT 'Beta posterior: first parameter; 0 where the policy has none.',
    beta Float64 COMMENT 'Beta posterior: second parameter; 0 where the policy has none.',
    score Float64 COMMENT 'What the policy ranks by where that is not the mean (the upper bound of UCB1).',
    propensity Float64 COMMENT 'Probability of this arm when every enabled arm is eligible.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    project,
    feature,
    policy_version,
    occurred_at,
    kind,
    position,
    belief.name AS arm,
    belief.model AS model,
    belief.prompt_name AS prompt_name,
    belief.prompt_version AS prompt_version,
    belief.params AS params,
    belief.enabled AS enabled,
    belief.weight AS weight,
    belief.mean AS mean,
    belief.variance AS variance,
    belief.alpha AS alpha,
    belief.beta AS beta,
    belief.score AS score,
    belief.propensity AS propensity
FROM policies
ARRAY JOIN arms AS belief, arrayEnumerate(arms) AS position
COMMENT 'One row per arm of every policy version.';

CREATE OR REPLACE VIEW v_charters (
    event_id String COMMENT 'Hash of project, feature and text.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was applied.',
    revision Int64 COMMENT 'Counts up with each change; the newest wins.',
    charter_yaml String COMMENT 'The charter as written.',
    digest String COMMENT 'SHA-256 of the charter\'s text.',
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
    feature,
    occurred_at,
    revision,
    charter_yaml,
    digest,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM charters
COMMENT 'Every charter as it was declared, all revisions.';

CREATE OR REPLACE VIEW v_content (
    event_id String COMMENT 'Deterministic id of this content; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    call_id String COMMENT 'Call it belongs to.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves.',
    input_text Nullable(String) COMMENT 'What was sent to the model.',
    output_text Nullable(String) COMMENT 'What it answered.',
    redaction LowCardinality(String) COMMENT 'How it was redacted before it was written: none, masked.',
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
    call_id,
    feature,
    input_text,
    output_text,
    redaction,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM call_content
COMMENT 'Prompts and answers, kept for 14 days; needs the role content.';

CREATE OR REPLACE VIEW v_dead_letters (
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
    value_bytes Nullable(UInt64) COMMENT 'Length of the payload, which only the role content may read.',
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
    occurred_at,
    source_topic,
    source_partition,
    source_offset,
    service,
    service_version,
    reason,
    field,
    detail,
    schema_id,
    length(value) AS value_bytes,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM dead_letters
COMMENT 'Inputs that could not be processed and why, without their payload.';

CREATE OR REPLACE VIEW v_duplicates (
    event LowCardinality(String) COMMENT 'Event of the record.',
    event_id String COMMENT 'Its id, recorded before.',
    same_content Nullable(Bool) COMMENT 'Whether it says the same as the recorded one, received_at aside; NULL when that one is gone.',
    first_partition Nullable(Int32) COMMENT 'Kafka partition of the recorded one.',
    first_offset Nullable(Int64) COMMENT 'Kafka offset of the recorded one.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic of the duplicate.',
    k_partition Int32 COMMENT 'Its partition.',
    k_offset Int64 COMMENT 'Its offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Its Kafka timestamp.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder noted it.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event,
    event_id,
    same_content,
    first_partition,
    first_offset,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM duplicate_events
COMMENT 'Records whose event had been recorded before: kept out of every other view.';

CREATE OR REPLACE VIEW v_cost_by_feature_hour (
    hour DateTime('UTC') COMMENT 'Start of the hour of occurred_at, UTC.',
    project LowCardinality(String) COMMENT 'Project.',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment.',
    app LowCardinality(Nullable(String)) COMMENT 'Application.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    provider LowCardinality(String) COMMENT 'Provider.',
    model String COMMENT 'Model that answered, or the one asked for.',
    variant LowCardinality(Nullable(String)) COMMENT 'Arm or variant that served it.',
    shadow Bool COMMENT 'Whether these were shadow calls, which no user saw.',
    calls UInt64 COMMENT 'Calls.',
    errors UInt64 COMMENT 'Calls whose status is ERROR or TIMEOUT.',
    priced_calls UInt64 COMMENT 'Calls whose cost is known.',
    unpriced_calls Int64 COMMENT 'Calls whose cost is not known.',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'Cost of the priced calls; NULL when none is priced.',
    input_tokens Nullable(Int64) COMMENT 'Input tokens where known; NULL when none is.',
    output_tokens Nullable(Int64) COMMENT 'Output tokens where known; NULL when none is.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    toStartOfHour(occurred_at) AS hour,
    project,
    environment,
    app,
    feature,
    team,
    provider,
    ifNull(response_model, request_model) AS model,
    variant,
    shadow,
    count() AS calls,
    countIf(status IN ('ERROR', 'TIMEOUT')) AS errors,
    count(llm_calls.cost_usd) AS priced_calls,
    count() - count(llm_calls.cost_usd) AS unpriced_calls,
    sumOrNull(llm_calls.cost_usd) AS cost_usd,
    sumOrNull(llm_calls.input_tokens) AS input_tokens,
    sumOrNull(llm_calls.output_tokens) AS output_tokens
FROM llm_calls
GROUP BY hour, project, environment, app, feature, team, provider, model, variant, shadow
COMMENT 'Spend by hour and dimensions. cost_usd sums the priced calls only: read it beside unpriced_calls.';

CREATE OR REPLACE VIEW v_latency (
    hour DateTime('UTC') COMMENT 'Start of the hour of occurred_at, UTC.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature.',
    model String COMMENT 'Model that answered, or the one asked for.',
    variant LowCardinality(Nullable(String)) COMMENT 'Arm or variant that served it.',
    calls UInt64 COMMENT 'Calls.',
    latency_p50_ms Nullable(Float64) COMMENT 'Median latency.',
    latency_p90_ms Nullable(Float64) COMMENT '90th percentile.',
    latency_p95_ms Nullable(Float64) COMMENT '95th percentile.',
    latency_p99_ms Nullable(Float64) COMMENT '99th percentile.',
    ttft_p50_ms Nullable(Float64) COMMENT 'Median time to first token, where measured.',
    ttft_p95_ms Nullable(Float64) COMMENT '95th percentile of it.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    toStartOfHour(occurred_at) AS hour,
    project,
    feature,
    ifNull(response_model, request_model) AS model,
    variant,
    count() AS calls,
    quantile(0.5)(latency_ms) AS latency_p50_ms,
    quantile(0.9)(latency_ms) AS latency_p90_ms,
    quantile(0.95)(latency_ms) AS latency_p95_ms,
    quantile(0.99)(latency_ms) AS latency_p99_ms,
    quantile(0.5)(ttft_ms) AS ttft_p50_ms,
    quantile(0.95)(ttft_ms) AS ttft_p95_ms
FROM llm_calls
WHERE status = 'OK' AND latency_ms IS NOT NULL
GROUP BY hour, project, feature, model, variant
COMMENT 'Latency percentiles by hour, of calls that ended OK. Percentiles do not add up: take them anew over v_calls for another grouping.';

CREATE OR REPLACE VIEW v_unpriced_share (
    hour DateTime('UTC') COMMENT 'Start of the hour of occurred_at, UTC.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature.',
    provider LowCardinality(String) COMMENT 'Provider.',
    model String COMMENT 'Model that answered, or the one asked for.',
    calls UInt64 COMMENT 'Calls.',
    unpriced_calls Int64 COMMENT 'Calls whose cost is not known.',
    unpriced_share Float64 COMMENT 'unpriced_calls / calls.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    toStartOfHour(occurred_at) AS hour,
    project,
    feature,
    provider,
    ifNull(response_model, request_model) AS model,
    count() AS calls,
    count() - count(llm_calls.cost_usd) AS unpriced_calls,
    (count() - count(llm_calls.cost_usd)) / count() AS unpriced_share
FROM llm_calls
GROUP BY hour, project, feature, provider, model
COMMENT 'How much of the traffic has no known cost, by hour: what every sum of money here leaves out.';

CREATE OR REPLACE VIEW v_audit (
    table String COMMENT 'Table of facts.',
    rows UInt64 COMMENT 'Rows in it.',
    unique_events UInt64 COMMENT 'Different event ids in it.',
    duplicate_records Nullable(UInt64) COMMENT 'Records kept out of it because their event was recorded before.',
    surplus_rows Int64 COMMENT 'rows - unique_events.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT *, rows - unique_events AS surplus_rows FROM (
    SELECT 'llm_calls' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'llm_call') AS duplicate_records FROM llm_calls
    UNION ALL
    SELECT 'decisions' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'decision') AS duplicate_records FROM decisions
    UNION ALL
    SELECT 'feedback' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'feedback') AS duplicate_records FROM feedback
    UNION ALL
    SELECT 'evaluations' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'evaluation') AS duplicate_records FROM evaluations
    UNION ALL
    SELECT 'outcomes' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'outcome') AS duplicate_records FROM outcomes
    UNION ALL
    SELECT 'call_content' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'call_content') AS duplicate_records FROM call_content
    UNION ALL
    SELECT 'policies' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'policy') AS duplicate_records FROM policies
    UNION ALL
    SELECT 'charters' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'charter') AS duplicate_records FROM charters
    UNION ALL
    SELECT 'dead_letters' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'dead_letter') AS duplicate_records FROM dead_letters
)
COMMENT 'Proof that nothing was recorded twice: surplus_rows is 0 in every row. Reads every id, so it is slow on large tables.';
