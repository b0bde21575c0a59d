-- Budgets: their declarations, where they stand, alerts; and what a decision reserved.

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS reservations Array(Tuple(budget String, window String, account String, bound_usd Decimal(28, 12), cumulative_usd Decimal(28, 12))) COMMENT 'Reservations the decision made, one for each hard budget it falls under.' AFTER policy_age_ms,
    ADD COLUMN IF NOT EXISTS input_tokens_bound Nullable(Int64) COMMENT 'Upper bound of the input tokens that was reserved for.' AFTER reservations,
    ADD COLUMN IF NOT EXISTS output_tokens_bound Nullable(Int64) COMMENT 'Cap on the output tokens that was reserved for.' AFTER input_tokens_bound,
    ADD COLUMN IF NOT EXISTS downgraded_from LowCardinality(Nullable(String)) COMMENT 'Arm it would have been without a budget\'s pressure.' AFTER output_tokens_bound,
    ADD COLUMN IF NOT EXISTS budget_price Nullable(Float64) COMMENT 'Price of money it was decided under: reward per US dollar.' AFTER downgraded_from;

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
    reservations Array(Tuple(budget String, window String, account String, bound_usd Decimal(28, 12), cumulative_usd Decimal(28, 12))) COMMENT 'Reservations the decision made, one for each hard budget it falls under.',
    input_tokens_bound Nullable(Int64) COMMENT 'Upper bound of the input tokens that was reserved for.',
    output_tokens_bound Nullable(Int64) COMMENT 'Cap on the output tokens that was reserved for.',
    downgraded_from LowCardinality(Nullable(String)) COMMENT 'Arm it would have been without a budget\'s pressure.',
    budget_price Nullable(Float64) COMMENT 'Price of money it was decided under: reward per US dollar.',
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
    reservations,
    input_tokens_bound,
    output_tokens_bound,
    downgraded_from,
    budget_price,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM decisions
COMMENT 'Every decision, once, with the propensities of all its arms.';

CREATE TABLE IF NOT EXISTS budgets (
    event_id String COMMENT 'Hash of project, budget and revision.',
    project LowCardinality(String) COMMENT 'Project.',
    budget LowCardinality(String) COMMENT 'Name of the budget; with the project the key its topics are partitioned by.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was applied, by the clock of who applied it.',
    revision Int64 COMMENT 'Grows with every change of the declaration; the newest wins.',
    effective_from DateTime64(6, 'UTC') COMMENT 'Money spent from here on counts (microseconds since the epoch, UTC).',
    ended Bool DEFAULT false COMMENT 'True when the budget holds no longer.',
    scope Map(LowCardinality(String), String) COMMENT 'Which calls it counts: every dimension named must have this value. Dimensions: app, feature, team, user_hash, environment, prompt_name, prompt_version, model, provider.',
    each Array(LowCardinality(String)) COMMENT 'Dimensions of which every distinct value has a budget of its own.',
    amount_usd Decimal(28, 12) COMMENT 'Money a window may cost, in US dollars.',
    per LowCardinality(String) COMMENT 'Window: hour, day, week, month or rolling.',
    rolling_s Nullable(Int64) COMMENT 'Length of a rolling window in seconds.',
    time_zone LowCardinality(String) DEFAULT 'UTC' COMMENT 'IANA zone whose calendar the windows follow.',
    mode LowCardinality(String) DEFAULT 'soft' COMMENT 'hard: a call is refused before money is overspent; soft: told only; downgrade: cheaper arms first.',
    warn_at Array(Float64) COMMENT 'Shares of the amount at which an alert is given.',
    max_input_tokens Nullable(Int64) COMMENT 'Input bound of a call that names none.',
    max_output_tokens Nullable(Int64) COMMENT 'Output bound of a call that names none.',
    min_output_tokens Nullable(Int64) COMMENT 'A call is refused rather than its output capped below this.',
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
ORDER BY (project, budget, revision, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What a scope may spend in a window. Compacted: the newest revision wins.';

CREATE TABLE IF NOT EXISTS budget_states (
    event_id String COMMENT 'Deterministic id of this state.',
    project LowCardinality(String) COMMENT 'Project.',
    budget LowCardinality(String) COMMENT 'Name of the budget.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'The broker\'s clock of the newest entry it stands on.',
    instance String COMMENT 'project/budget, with the values of its `each` dimensions appended, percent-encoded; the Kafka key.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions and values it counts, those of `each` included.',
    revision Int64 COMMENT 'Revision of the declaration.',
    mode LowCardinality(String) COMMENT 'hard, soft or downgrade.',
    ended Bool DEFAULT false COMMENT 'True when the budget holds no longer.',
    amount_usd Decimal(28, 12) COMMENT 'Money the window may cost.',
    window String COMMENT 'Start of the window, as 2026-11-21T00:00:00Z; `rolling` of a rolling one.',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window; of a rolling one, of the length that ends now.',
    window_end DateTime64(6, 'UTC') COMMENT 'Its end.',
    spent_usd Decimal(28, 12) COMMENT 'What calls really cost in the window.',
    exposure_usd Decimal(28, 12) COMMENT 'What is leased or reserved and not settled yet.',
    available_usd Decimal(28, 12) COMMENT 'Amount less spent less exposure, at least 0.',
    stranded_usd Decimal(28, 12) COMMENT 'Part of the exposure whose holder has closed its account or has not been heard of.',
    calls Int64 COMMENT 'Calls counted in the window; of a rolling budget since it was declared.',
    unpriced Int64 COMMENT 'Of these without a price.',
    above_bound Int64 COMMENT 'Of these dearer than what was reserved.',
    holders Int64 COMMENT 'Accounts that are open in the window.',
    forecast_usd Nullable(Decimal(28, 12)) COMMENT 'Expected spend at the window\'s end.',
    forecast_low_usd Nullable(Decimal(28, 12)) COMMENT 'Lower end of its 90 % interval.',
    forecast_high_usd Nullable(Decimal(28, 12)) COMMENT 'Upper end of its 90 % interval.',
    price_of_money Float64 COMMENT 'Reward that a dollar must bring to be worth spending now; 0 is no pressure.',
    exhausted Bool DEFAULT false COMMENT 'Nothing is left of the window\'s amount.',
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
ORDER BY (project, budget, instance, occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Where an instance of a budget stands. Compacted by instance: the newest wins.';

CREATE TABLE IF NOT EXISTS alerts (
    event_id String COMMENT 'Deterministic id of this report of it.',
    alert_id String COMMENT 'Deterministic id of what it is about, the same while it fires and when it is resolved.',
    project LowCardinality(String) COMMENT 'Project.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was noticed, in event time.',
    kind LowCardinality(String) COMMENT 'What kind it is, e.g. budget_threshold, budget_exhausted, budget_forecast.',
    severity LowCardinality(String) COMMENT 'info, warning or critical.',
    state LowCardinality(String) COMMENT 'firing or resolved.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions it is about.',
    subject String COMMENT 'What it is about, e.g. an instance of a budget.',
    title String COMMENT 'One line for a person.',
    detail String COMMENT 'What was seen, with the figures.',
    value Nullable(Float64) COMMENT 'Figure seen.',
    threshold Nullable(Float64) COMMENT 'Figure it was held against.',
    window_start Nullable(DateTime64(6, 'UTC')) COMMENT 'Start of the window it is about.',
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'Its end.',
    attributes Map(LowCardinality(String), String) COMMENT 'Further facts.',
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
ORDER BY (project, kind, occurred_at, event_id)
TTL toDateTime(recorded_at) + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Something a person or the controller should know. The same id is the same alert.';

CREATE OR REPLACE VIEW v_budgets (
    event_id String COMMENT 'Hash of project, budget and revision.',
    project LowCardinality(String) COMMENT 'Project.',
    budget LowCardinality(String) COMMENT 'Name of the budget; with the project the key its topics are partitioned by.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was applied, by the clock of who applied it.',
    revision Int64 COMMENT 'Grows with every change of the declaration; the newest wins.',
    effective_from DateTime64(6, 'UTC') COMMENT 'Money spent from here on counts (microseconds since the epoch, UTC).',
    ended Bool COMMENT 'True when the budget holds no longer.',
    scope Map(LowCardinality(String), String) COMMENT 'Which calls it counts: every dimension named must have this value. Dimensions: app, feature, team, user_hash, environment, prompt_name, prompt_version, model, provider.',
    each Array(LowCardinality(String)) COMMENT 'Dimensions of which every distinct value has a budget of its own.',
    amount_usd Decimal(28, 12) COMMENT 'Money a window may cost, in US dollars.',
    per LowCardinality(String) COMMENT 'Window: hour, day, week, month or rolling.',
    rolling_s Nullable(Int64) COMMENT 'Length of a rolling window in seconds.',
    time_zone LowCardinality(String) COMMENT 'IANA zone whose calendar the windows follow.',
    mode LowCardinality(String) COMMENT 'hard: a call is refused before money is overspent; soft: told only; downgrade: cheaper arms first.',
    warn_at Array(Float64) COMMENT 'Shares of the amount at which an alert is given.',
    max_input_tokens Nullable(Int64) COMMENT 'Input bound of a call that names none.',
    max_output_tokens Nullable(Int64) COMMENT 'Output bound of a call that names none.',
    min_output_tokens Nullable(Int64) COMMENT 'A call is refused rather than its output capped below this.',
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
    budget,
    occurred_at,
    revision,
    effective_from,
    ended,
    scope,
    each,
    amount_usd,
    per,
    rolling_s,
    time_zone,
    mode,
    warn_at,
    max_input_tokens,
    max_output_tokens,
    min_output_tokens,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM budgets
ORDER BY revision DESC, k_offset DESC
LIMIT 1 BY project, budget
COMMENT 'Every budget as it is declared now: its newest revision.';

CREATE OR REPLACE VIEW v_budget_status (
    event_id String COMMENT 'Deterministic id of this state.',
    project LowCardinality(String) COMMENT 'Project.',
    budget LowCardinality(String) COMMENT 'Name of the budget.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'The broker\'s clock of the newest entry it stands on.',
    instance String COMMENT 'project/budget, with the values of its `each` dimensions appended, percent-encoded; the Kafka key.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions and values it counts, those of `each` included.',
    revision Int64 COMMENT 'Revision of the declaration.',
    mode LowCardinality(String) COMMENT 'hard, soft or downgrade.',
    ended Bool COMMENT 'True when the budget holds no longer.',
    amount_usd Decimal(28, 12) COMMENT 'Money the window may cost.',
    window String COMMENT 'Start of the window, as 2026-11-21T00:00:00Z; `rolling` of a rolling one.',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window; of a rolling one, of the length that ends now.',
    window_end DateTime64(6, 'UTC') COMMENT 'Its end.',
    spent_usd Decimal(28, 12) COMMENT 'What calls really cost in the window.',
    exposure_usd Decimal(28, 12) COMMENT 'What is leased or reserved and not settled yet.',
    available_usd Decimal(28, 12) COMMENT 'Amount less spent less exposure, at least 0.',
    stranded_usd Decimal(28, 12) COMMENT 'Part of the exposure whose holder has closed its account or has not been heard of.',
    calls Int64 COMMENT 'Calls counted in the window; of a rolling budget since it was declared.',
    unpriced Int64 COMMENT 'Of these without a price.',
    above_bound Int64 COMMENT 'Of these dearer than what was reserved.',
    holders Int64 COMMENT 'Accounts that are open in the window.',
    forecast_usd Nullable(Decimal(28, 12)) COMMENT 'Expected spend at the window\'s end.',
    forecast_low_usd Nullable(Decimal(28, 12)) COMMENT 'Lower end of its 90 % interval.',
    forecast_high_usd Nullable(Decimal(28, 12)) COMMENT 'Upper end of its 90 % interval.',
    price_of_money Float64 COMMENT 'Reward that a dollar must bring to be worth spending now; 0 is no pressure.',
    exhausted Bool COMMENT 'Nothing is left of the window\'s amount.',
    used_share Float64 COMMENT 'spent_usd / amount_usd.',
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
    budget,
    occurred_at,
    instance,
    scope,
    revision,
    mode,
    ended,
    amount_usd,
    window,
    window_start,
    window_end,
    spent_usd,
    exposure_usd,
    available_usd,
    stranded_usd,
    calls,
    unpriced,
    above_bound,
    holders,
    forecast_usd,
    forecast_low_usd,
    forecast_high_usd,
    price_of_money,
    exhausted,
    toFloat64(spent_usd) / toFloat64(amount_usd) AS used_share,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM budget_states
ORDER BY k_partition, k_offset DESC
LIMIT 1 BY project, budget, instance
COMMENT 'Where every instance of a budget stands, by the newest state of its newest window. When window_end has passed, nothing is known to be spent since.';

CREATE OR REPLACE VIEW v_budget_windows (
    event_id String COMMENT 'Deterministic id of this state.',
    project LowCardinality(String) COMMENT 'Project.',
    budget LowCardinality(String) COMMENT 'Name of the budget.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'The broker\'s clock of the newest entry it stands on.',
    instance String COMMENT 'project/budget, with the values of its `each` dimensions appended, percent-encoded; the Kafka key.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions and values it counts, those of `each` included.',
    revision Int64 COMMENT 'Revision of the declaration.',
    mode LowCardinality(String) COMMENT 'hard, soft or downgrade.',
    ended Bool COMMENT 'True when the budget holds no longer.',
    amount_usd Decimal(28, 12) COMMENT 'Money the window may cost.',
    window String COMMENT 'Start of the window, as 2026-11-21T00:00:00Z; `rolling` of a rolling one.',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window; of a rolling one, of the length that ends now.',
    window_end DateTime64(6, 'UTC') COMMENT 'Its end.',
    spent_usd Decimal(28, 12) COMMENT 'What calls really cost in the window.',
    exposure_usd Decimal(28, 12) COMMENT 'What is leased or reserved and not settled yet.',
    available_usd Decimal(28, 12) COMMENT 'Amount less spent less exposure, at least 0.',
    stranded_usd Decimal(28, 12) COMMENT 'Part of the exposure whose holder has closed its account or has not been heard of.',
    calls Int64 COMMENT 'Calls counted in the window; of a rolling budget since it was declared.',
    unpriced Int64 COMMENT 'Of these without a price.',
    above_bound Int64 COMMENT 'Of these dearer than what was reserved.',
    holders Int64 COMMENT 'Accounts that are open in the window.',
    forecast_usd Nullable(Decimal(28, 12)) COMMENT 'Expected spend at the window\'s end.',
    forecast_low_usd Nullable(Decimal(28, 12)) COMMENT 'Lower end of its 90 % interval.',
    forecast_high_usd Nullable(Decimal(28, 12)) COMMENT 'Upper end of its 90 % interval.',
    price_of_money Float64 COMMENT 'Reward that a dollar must bring to be worth spending now; 0 is no pressure.',
    exhausted Bool COMMENT 'Nothing is left of the window\'s amount.',
    used_share Float64 COMMENT 'spent_usd / amount_usd.',
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
    budget,
    occurred_at,
    instance,
    scope,
    revision,
    mode,
    ended,
    amount_usd,
    window,
    window_start,
    window_end,
    spent_usd,
    exposure_usd,
    available_usd,
    stranded_usd,
    calls,
    unpriced,
    above_bound,
    holders,
    forecast_usd,
    forecast_low_usd,
    forecast_high_usd,
    price_of_money,
    exhausted,
    toFloat64(spent_usd) / toFloat64(amount_usd) AS used_share,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM budget_states
ORDER BY k_partition, k_offset DESC
LIMIT 1 BY project, budget, instance, window
COMMENT 'Where every instance of a budget stood in every window, by the last state told in it. Calls that came after its end are not in it.';

CREATE OR REPLACE VIEW v_alerts (
    event_id String COMMENT 'Deterministic id of this report of it.',
    alert_id String COMMENT 'Deterministic id of what it is about, the same while it fires and when it is resolved.',
    project LowCardinality(String) COMMENT 'Project.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was noticed, in event time.',
    kind LowCardinality(String) COMMENT 'What kind it is, e.g. budget_threshold, budget_exhausted, budget_forecast.',
    severity LowCardinality(String) COMMENT 'info, warning or critical.',
    state LowCardinality(String) COMMENT 'firing or resolved.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions it is about.',
    subject String COMMENT 'What it is about, e.g. an instance of a budget.',
    title String COMMENT 'One line for a person.',
    detail String COMMENT 'What was seen, with the figures.',
    value Nullable(Float64) COMMENT 'Figure seen.',
    threshold Nullable(Float64) COMMENT 'Figure it was held against.',
    window_start Nullable(DateTime64(6, 'UTC')) COMMENT 'Start of the window it is about.',
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'Its end.',
    attributes Map(LowCardinality(String), String) COMMENT 'Further facts.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder wrote the row.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    alert_id,
    project,
    occurred_at,
    kind,
    severity,
    state,
    scope,
    subject,
    title,
    detail,
    value,
    threshold,
    window_start,
    window_end,
    attributes,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM alerts
COMMENT 'Every report of an alert, once; of one alert_id the newest says whether it still fires.';

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
    UNION ALL
    SELECT 'budgets' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'budget') AS duplicate_records FROM budgets
    UNION ALL
    SELECT 'budget_states' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'budget_state') AS duplicate_records FROM budget_states
    UNION ALL
    SELECT 'alerts' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'alert') AS duplicate_records FROM alerts
)
COMMENT 'Proof that nothing was recorded twice: surplus_rows is 0 in every row. Reads every id, so it is slow on large tables.';
