-- What a call can say since its second version: buckets that the first one lacked, whose price it is, who shares it. And newer
-- costs of calls by other prices: rows beside the call, which itself keeps the cost it arrived with.

ALTER TABLE llm_calls
    ADD COLUMN IF NOT EXISTS shares Map(LowCardinality(String), String) COMMENT 'Who pays for a call that several teams share: team to fraction, decimal texts that add up to 1. Empty: the team.' AFTER team,
    ADD COLUMN IF NOT EXISTS usage_emitter LowCardinality(Nullable(String)) COMMENT 'Convention by which a raw usage object was read, e.g. openai_chat or anthropic.' AFTER usage_convention,
    ADD COLUMN IF NOT EXISTS video_input_tokens Nullable(Int64) COMMENT 'Disjoint bucket: video input.' AFTER image_input_tokens,
    ADD COLUMN IF NOT EXISTS image_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: images the model made.' AFTER video_input_tokens,
    ADD COLUMN IF NOT EXISTS video_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: video the model made.' AFTER image_output_tokens,
    ADD COLUMN IF NOT EXISTS audio_cache_read_tokens Nullable(Int64) COMMENT 'Disjoint bucket: audio input read from a cache.' AFTER video_output_tokens,
    ADD COLUMN IF NOT EXISTS image_cache_read_tokens Nullable(Int64) COMMENT 'Disjoint bucket: image input read from a cache.' AFTER audio_cache_read_tokens,
    ADD COLUMN IF NOT EXISTS web_searches Nullable(Int64) COMMENT 'Searches billed by the piece beside the tokens.' AFTER image_cache_read_tokens,
    ADD COLUMN IF NOT EXISTS pool_seconds Nullable(Decimal(18, 9)) COMMENT 'Seconds of a local model\'s pool that the call held: its seconds divided by the calls that ran beside it.' AFTER web_searches,
    ADD COLUMN IF NOT EXISTS price_context Map(LowCardinality(String), String) COMMENT 'What else changes the price, as key and value: service_tier, processing (batch), speed, inference_geo.' AFTER pool_seconds,
    ADD COLUMN IF NOT EXISTS price_source LowCardinality(Nullable(String)) COMMENT 'Whose price it is: genai-prices, own or provider.' AFTER cost_source,
    ADD COLUMN IF NOT EXISTS price_model LowCardinality(Nullable(String)) COMMENT 'Entry of the price table that was applied.' AFTER price_version,
    ADD COLUMN IF NOT EXISTS price_above_tokens Nullable(Int64) COMMENT 'Long-context threshold that was exceeded, where one was.' AFTER price_model,
    ADD COLUMN IF NOT EXISTS computed_usd Nullable(Decimal(28, 12)) COMMENT 'What the price table says, beside what the provider billed.' AFTER price_above_tokens;

CREATE TABLE IF NOT EXISTS reprices (
    event_id String COMMENT 'Hash of call, revision, price version and cost: the same correction sent twice is one.',
    project LowCardinality(String) COMMENT 'Project of the call.',
    request_id String COMMENT 'Request of the call; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the call happened.',
    call_id String COMMENT 'Event id of the call.',
    revision Int64 COMMENT '1 for the first newer cost, one more for each further one; the largest counts.',
    repriced_at DateTime64(6, 'UTC') COMMENT 'When it was priced; of two with one revision the later counts.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Cost in US dollars. Null is unknown, 0 is really free.',
    cost_source LowCardinality(String) DEFAULT 'UNKNOWN' COMMENT 'LOCAL: priced by us; UNKNOWN: these prices do not have it.',
    price_source LowCardinality(Nullable(String)) COMMENT 'Whose price it is: genai-prices or own.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    price_model LowCardinality(Nullable(String)) COMMENT 'Entry of that table.',
    price_above_tokens Nullable(Int64) COMMENT 'Long-context threshold that was exceeded, where one was.',
    previous_usd Nullable(Decimal(28, 12)) COMMENT 'Cost that it replaces; null: it was unknown.',
    flags Array(LowCardinality(String)) COMMENT 'Why there is no price.',
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
ORDER BY (toStartOfHour(occurred_at), project, occurred_at, call_id, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A newer cost of a call, by other prices. The call itself is never written again.';

CREATE OR REPLACE VIEW v_calls (
    event_id String COMMENT 'Deterministic id of this call; the same id is the same fact.',
    project LowCardinality(String) COMMENT 'Top level of naming and of keys.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened, by the producer\'s clock (microseconds since the epoch, UTC).',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment, e.g. production.',
    app LowCardinality(Nullable(String)) COMMENT 'Application that made the request.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature the request serves; charters and policies are per feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays.',
    shares Map(LowCardinality(String), String) COMMENT 'Who pays for a call that several teams share: team to fraction, decimal texts that add up to 1. Empty: the team.',
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
    usage_emitter LowCardinality(Nullable(String)) COMMENT 'Convention by which a raw usage object was read, e.g. openai_chat or anthropic.',
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
    video_input_tokens Nullable(Int64) COMMENT 'Disjoint bucket: video input.',
    image_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: images the model made.',
    video_output_tokens Nullable(Int64) COMMENT 'Disjoint bucket: video the model made.',
    audio_cache_read_tokens Nullable(Int64) COMMENT 'Disjoint bucket: audio input read from a cache.',
    image_cache_read_tokens Nullable(Int64) COMMENT 'Disjoint bucket: image input read from a cache.',
    web_searches Nullable(Int64) COMMENT 'Searches billed by the piece beside the tokens.',
    pool_seconds Nullable(Decimal(18, 9)) COMMENT 'Seconds of a local model\'s pool that the call held: its seconds divided by the calls that ran beside it.',
    price_context Map(LowCardinality(String), String) COMMENT 'What else changes the price, as key and value: service_tier, processing (batch), speed, inference_geo.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Cost in US dollars as known on arrival. Null is unknown, 0 is really free. By newer prices: v_costs.',
    cost_source LowCardinality(String) COMMENT 'PROVIDER: reported with the call; LOCAL: priced by us from the table.',
    price_source LowCardinality(Nullable(String)) COMMENT 'Whose price it is: genai-prices, own or provider.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    price_model LowCardinality(Nullable(String)) COMMENT 'Entry of the price table that was applied.',
    price_above_tokens Nullable(Int64) COMMENT 'Long-context threshold that was exceeded, where one was.',
    computed_usd Nullable(Decimal(28, 12)) COMMENT 'What the price table says, beside what the provider billed.',
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
    shares,
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
    usage_emitter,
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
    video_input_tokens,
    image_output_tokens,
    video_output_tokens,
    audio_cache_read_tokens,
    image_cache_read_tokens,
    web_searches,
    pool_seconds,
    price_context,
    cost_usd,
    cost_source,
    price_source,
    price_version,
    price_model,
    price_above_tokens,
    computed_usd,
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

CREATE OR REPLACE VIEW v_reprices (
    event_id String COMMENT 'Hash of call, revision, price version and cost: the same correction sent twice is one.',
    project LowCardinality(String) COMMENT 'Project of the call.',
    request_id String COMMENT 'Request of the call; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the call happened.',
    call_id String COMMENT 'Event id of the call.',
    revision Int64 COMMENT '1 for the first newer cost, one more for each further one; the largest counts.',
    repriced_at DateTime64(6, 'UTC') COMMENT 'When it was priced; of two with one revision the later counts.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Cost in US dollars. Null is unknown, 0 is really free.',
    cost_source LowCardinality(String) COMMENT 'LOCAL: priced by us; UNKNOWN: these prices do not have it.',
    price_source LowCardinality(Nullable(String)) COMMENT 'Whose price it is: genai-prices or own.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    price_model LowCardinality(Nullable(String)) COMMENT 'Entry of that table.',
    price_above_tokens Nullable(Int64) COMMENT 'Long-context threshold that was exceeded, where one was.',
    previous_usd Nullable(Decimal(28, 12)) COMMENT 'Cost that it replaces; null: it was unknown.',
    flags Array(LowCardinality(String)) COMMENT 'Why there is no price.',
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
    revision,
    repriced_at,
    cost_usd,
    cost_source,
    price_source,
    price_version,
    price_model,
    price_above_tokens,
    previous_usd,
    flags,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM reprices
COMMENT 'Every newer cost of a call that flywheel reprice wrote, all revisions.';

CREATE OR REPLACE VIEW v_costs (
    event_id String COMMENT 'Event id of the call.',
    project LowCardinality(String) COMMENT 'Project.',
    request_id String COMMENT 'One thing the application wants done; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the call happened.',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment.',
    app LowCardinality(Nullable(String)) COMMENT 'Application.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature.',
    team LowCardinality(Nullable(String)) COMMENT 'Team that pays, where the call has no shares.',
    shares Map(LowCardinality(String), String) COMMENT 'Team to fraction, where several share the call.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user.',
    provider LowCardinality(String) COMMENT 'Provider.',
    model String COMMENT 'Model that answered, or the one asked for.',
    prompt_name LowCardinality(Nullable(String)) COMMENT 'Prompt used.',
    prompt_version LowCardinality(Nullable(String)) COMMENT 'Its version.',
    variant LowCardinality(Nullable(String)) COMMENT 'Arm or variant that served it.',
    shadow Bool COMMENT 'Whether it was a shadow call, which no user saw.',
    status LowCardinality(String) COMMENT 'How the call ended.',
    input_tokens Nullable(Int64) COMMENT 'All input tokens.',
    output_tokens Nullable(Int64) COMMENT 'All output tokens.',
    cost_usd Nullable(Decimal(28, 12)) COMMENT 'Newest known cost in US dollars. Null is unknown, 0 is really free.',
    cost_source LowCardinality(String) COMMENT 'PROVIDER: reported with the call; LOCAL: priced by us.',
    price_source LowCardinality(Nullable(String)) COMMENT 'Whose price that is: genai-prices, own or provider.',
    price_version LowCardinality(Nullable(String)) COMMENT 'Version of the price table used.',
    price_model LowCardinality(Nullable(String)) COMMENT 'Entry of the price table that was applied.',
    arrival_usd Nullable(Decimal(28, 12)) COMMENT 'Cost as known on arrival: what the bandit learned and budgets counted.',
    revision Int64 COMMENT '0: as it arrived; else how often it was priced anew.',
    repriced_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was priced anew.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    c.event_id AS event_id,
    c.project AS project,
    c.request_id AS request_id,
    c.occurred_at AS occurred_at,
    c.environment AS environment,
    c.app AS app,
    c.feature AS feature,
    c.team AS team,
    c.shares AS shares,
    c.user_hash AS user_hash,
    c.provider AS provider,
    ifNull(c.response_model, c.request_model) AS model,
    c.prompt_name AS prompt_name,
    c.prompt_version AS prompt_version,
    c.variant AS variant,
    c.shadow AS shadow,
    c.status AS status,
    c.input_tokens AS input_tokens,
    c.output_tokens AS output_tokens,
    if(ifNull(r.revision, 0) > 0, r.newest.1, c.cost_usd) AS cost_usd,
    if(ifNull(r.revision, 0) > 0, r.newest.2, toString(c.cost_source)) AS cost_source,
    if(ifNull(r.revision, 0) > 0, r.newest.3, toString(c.price_source)) AS price_source,
    if(ifNull(r.revision, 0) > 0, r.newest.4, toString(c.price_version)) AS price_version,
    if(ifNull(r.revision, 0) > 0, r.newest.5, toString(c.price_model)) AS price_model,
    c.cost_usd AS arrival_usd,
    ifNull(r.revision, 0) AS revision,
    if(ifNull(r.revision, 0) > 0, r.newest.6, NULL) AS repriced_at
FROM llm_calls AS c
LEFT ANY JOIN (
    SELECT
        project,
        occurred_at,
        call_id,
        max(reprices.revision) AS revision,
        argMax((cost_usd, toString(cost_source), toString(price_source), toString(price_version), toString(price_model), repriced_at), (reprices.revision, repriced_at, event_id)) AS newest
    FROM reprices
    GROUP BY project, occurred_at, call_id
) AS r ON c.project = r.project AND c.occurred_at = r.occurred_at AND c.event_id = r.call_id
COMMENT 'What each call cost by the newest prices applied to it, one row per call. v_calls keeps what was known on arrival.';

CREATE OR REPLACE VIEW v_showback (
    event_id String COMMENT 'Event id of the call.',
    project LowCardinality(String) COMMENT 'Project.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the call happened.',
    environment LowCardinality(Nullable(String)) COMMENT 'Deployment environment.',
    app LowCardinality(Nullable(String)) COMMENT 'Application.',
    feature LowCardinality(Nullable(String)) COMMENT 'Feature.',
    team Nullable(String) COMMENT 'Team that pays this part; NULL when nobody was named.',
    user_hash Nullable(String) COMMENT 'Keyed hash of the user.',
    provider LowCardinality(String) COMMENT 'Provider.',
    model String COMMENT 'Model that answered, or the one asked for.',
    prompt_name LowCardinality(Nullable(String)) COMMENT 'Prompt used.',
    prompt_version LowCardinality(Nullable(String)) COMMENT 'Its version.',
    shadow Bool COMMENT 'Whether it was a shadow call, which no user saw.',
    share Decimal(18, 9) COMMENT 'Part of the call, 1 where it is not shared: their sum is the number of calls.',
    unpriced Decimal(18, 9) COMMENT 'The same where the cost is not known, else 0.',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'Part of the newest known cost; the parts of a call add up to it to the last digit.',
    input_tokens Nullable(Int64) COMMENT 'Part of the input tokens; the parts add up.',
    output_tokens Nullable(Int64) COMMENT 'Part of the output tokens; the parts add up.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    project,
    occurred_at,
    environment,
    app,
    feature,
    payer.1 AS team,
    user_hash,
    provider,
    model,
    prompt_name,
    prompt_version,
    shadow,
    (payer.3 - payer.2) * toDecimal64('0.000000001', 9) AS share,
    if(v_costs.cost_usd IS NULL, share, toDecimal64(0, 9)) AS unpriced,
    (intDiv(picodollars * payer.3, toInt256(1000000000)) - intDiv(picodollars * payer.2, toInt256(1000000000))) * toDecimal256('0.000000000001', 12) AS cost_usd,
    toInt64(intDiv(toInt128(v_costs.input_tokens) * payer.3, toInt128(1000000000)) - intDiv(toInt128(v_costs.input_tokens) * payer.2, toInt128(1000000000))) AS input_tokens,
    toInt64(intDiv(toInt128(v_costs.output_tokens) * payer.3, toInt128(1000000000)) - intDiv(toInt128(v_costs.output_tokens) * payer.2, toInt128(1000000000))) AS output_tokens
FROM (
    SELECT
        *,
        toInt256(toDecimal256(v_costs.cost_usd, 12) * toInt256(1000000000000)) AS picodollars,
        arraySort(mapKeys(shares)) AS teams,
        arrayMap(t -> toInt64(ifNull(toDecimal64OrNull(shares[t], 9), toDecimal64(-1, 9)) * 1000000000), teams) AS billionths,
        arrayCumSum(billionths) AS until
    FROM v_costs
) AS v_costs
ARRAY JOIN if(
    notEmpty(teams) AND arrayAll(b -> b > 0, billionths) AND arraySum(billionths) = 1000000000,
    arrayMap((t, b, u) -> (toNullable(toString(t)), u - b, u), teams, billionths, until),
    [(toNullable(toString(v_costs.team)), toInt64(0), toInt64(1000000000))]
) AS payer
COMMENT 'Who pays for each call: one row per call and team. A part is what the teams up to it pay less what those before it pay, rounded down, so that the parts add up exactly; shares that do not add up to 1 count as none.';

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
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'Newest known cost of the priced calls; NULL when none is priced.',
    input_tokens Nullable(Int64) COMMENT 'Input tokens where known; NULL when none is.',
    output_tokens Nullable(Int64) COMMENT 'Output tokens where known; NULL when none is.',
    unpriced_share Float64 COMMENT 'unpriced_calls / calls.'
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
    model,
    variant,
    shadow,
    count() AS calls,
    countIf(status IN ('ERROR', 'TIMEOUT')) AS errors,
    count(v_costs.cost_usd) AS priced_calls,
    count() - count(v_costs.cost_usd) AS unpriced_calls,
    sumOrNull(v_costs.cost_usd) AS cost_usd,
    sumOrNull(v_costs.input_tokens) AS input_tokens,
    sumOrNull(v_costs.output_tokens) AS output_tokens,
    (count() - count(v_costs.cost_usd)) / count() AS unpriced_share
FROM v_costs
GROUP BY hour, project, environment, app, feature, team, provider, model, variant, shadow
COMMENT 'Spend by hour and dimensions, by the newest prices applied. cost_usd sums the priced calls only: read it beside unpriced_share.';

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
    model,
    count() AS calls,
    count() - count(v_costs.cost_usd) AS unpriced_calls,
    (count() - count(v_costs.cost_usd)) / count() AS unpriced_share
FROM v_costs
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
    UNION ALL
    SELECT 'reprices' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'reprice') AS duplicate_records FROM reprices
)
COMMENT 'Proof that nothing was recorded twice: surplus_rows is 0 in every row. Reads every id, so it is slow on large tables.';
