-- Controls, actions and the rules behind them; one view of every change of the configuration; decisions under controls.

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS control Nullable(String) COMMENT 'Controls it was made under: their ids, joined by +; null when none bore on it.' AFTER budget_price;

CREATE TABLE IF NOT EXISTS controls (
    event_id String COMMENT 'Hash of project, feature, owner and revision.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature it is about.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was put in force: the ledger\'s time of the controller, the clock of a person.',
    owner LowCardinality(String) COMMENT 'controller or person; with project and feature the Kafka key.',
    revision Int64 COMMENT 'Grows with every change of the key; the newest wins.',
    lifted Bool DEFAULT false COMMENT 'A person\'s record that holds no longer.',
    by LowCardinality(String) COMMENT 'Who said it: controller, or the name a person gave.',
    reason String COMMENT 'Why, in one line.',
    expires_at Nullable(DateTime64(6, 'UTC')) COMMENT 'The whole record holds until then; null: until it is lifted.',
    items Array(Tuple(control_id String, kind String, arms Array(String), expires_at Nullable(DateTime64(6, 'UTC')), reason String)) COMMENT 'What is in force; of a person also nothing: then the controller keeps its hands off.',
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
ORDER BY (project, feature, owner, revision, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What is in force for a feature, said by one owner. Compacted: the newest revision of a key wins, and a person\'s record stands in place of the controller\'s.';

CREATE TABLE IF NOT EXISTS actions (
    event_id String COMMENT 'Deterministic id of this step.',
    action_id String COMMENT 'Deterministic id of the change, the same through its life.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature it is about; empty where the cause names none.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'The ledger\'s time of the step.',
    state LowCardinality(String) COMMENT 'proposed, refused, applied, verified, undone, expired, returned, superseded, overridden, lifted.',
    kind LowCardinality(String) COMMENT 'disable, pin, pause, rollback, propose, escalate, override.',
    arms Array(LowCardinality(String)) COMMENT 'Arms it is about.',
    by LowCardinality(String) DEFAULT 'controller' COMMENT 'controller, or the name a person gave.',
    rule LowCardinality(String) COMMENT 'Rule that asked for it; empty for a person\'s.',
    rules_version Int64 COMMENT 'Version of the declared rules.',
    priority Int64 COMMENT 'Priority of the rule.',
    cause Array(LowCardinality(String)) COMMENT 'Ids of the alerts it answers.',
    cause_kind LowCardinality(String) COMMENT 'Kind of those alerts.',
    scope Map(LowCardinality(String), String) COMMENT 'Scope of the alert that caused it.',
    value_before Nullable(Float64) COMMENT 'How far the cause was from where it should be when the action was taken: relative deviation.',
    value_after Nullable(Float64) COMMENT 'The same when the action was judged.',
    applied_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was put in force.',
    verify_by Nullable(DateTime64(6, 'UTC')) COMMENT 'Until then it must have shown its effect.',
    expires_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When what it changed returns at the latest; null for a rollback, which stays.',
    undo String COMMENT 'How it is taken back.',
    reason String COMMENT 'Why it took this step.',
    change String COMMENT 'rollback: event id of the declaration it takes back.',
    dry_run Bool DEFAULT false COMMENT 'Nothing was put in force: the rules only say what they would do.',
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
ORDER BY (project, feature, occurred_at, action_id, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One step in the life of a change that the controller or a person made, proposed or refused to make.';

CREATE TABLE IF NOT EXISTS control_rules (
    event_id String COMMENT 'Hash of project, revision and text.',
    project LowCardinality(String) COMMENT 'Project; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When they were applied.',
    revision Int64 COMMENT 'Counts up with each change; the newest wins.',
    rules_yaml String COMMENT 'The rules as written.',
    digest String COMMENT 'SHA-256 of the text.',
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
ORDER BY (project, revision, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What the controller does about which alert, for a project.';

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
    reason LowCardinality(String) COMMENT 'Why: policy, no_policy, stale_policy, nothing_eligible, unknown_feature, paused.',
    context Map(LowCardinality(String), String) COMMENT 'The request\'s declared context.',
    decider LowCardinality(String) COMMENT 'Where it was decided: router or client.',
    policy_age_ms Nullable(Float64) COMMENT 'Age of the policy when it decided.',
    reservations Array(Tuple(budget String, window String, account String, bound_usd Decimal(28, 12), cumulative_usd Decimal(28, 12))) COMMENT 'Reservations the decision made, one for each hard budget it falls under.',
    input_tokens_bound Nullable(Int64) COMMENT 'Upper bound of the input tokens that was reserved for.',
    output_tokens_bound Nullable(Int64) COMMENT 'Cap on the output tokens that was reserved for.',
    downgraded_from LowCardinality(Nullable(String)) COMMENT 'Arm it would have been without a budget\'s pressure.',
    budget_price Nullable(Float64) COMMENT 'Price of money it was decided under: reward per US dollar.',
    control Nullable(String) COMMENT 'Controls it was made under: their ids, joined by +; null when none bore on it.',
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
    control,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM decisions
COMMENT 'Every decision, once, with the propensities of all its arms.';

CREATE OR REPLACE VIEW v_controls (
    event_id String COMMENT 'Hash of project, feature, owner and revision.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature it is about.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was put in force: the ledger\'s time of the controller, the clock of a person.',
    owner LowCardinality(String) COMMENT 'controller or person; with project and feature the Kafka key.',
    revision Int64 COMMENT 'Grows with every change of the key; the newest wins.',
    lifted Bool COMMENT 'A person\'s record that holds no longer.',
    by LowCardinality(String) COMMENT 'Who said it: controller, or the name a person gave.',
    reason String COMMENT 'Why, in one line.',
    expires_at Nullable(DateTime64(6, 'UTC')) COMMENT 'The whole record holds until then; null: until it is lifted.',
    items Array(Tuple(control_id String, kind String, arms Array(String), expires_at Nullable(DateTime64(6, 'UTC')), reason String)) COMMENT 'What is in force; of a person also nothing: then the controller keeps its hands off.',
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
    owner,
    revision,
    lifted,
    by,
    reason,
    expires_at,
    items,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM controls
ORDER BY revision DESC, k_offset DESC
LIMIT 1 BY project, feature, owner
COMMENT 'What each owner has in force for each feature: the newest record. A person\'s stands in place of the controller\'s until it is lifted or expires_at has passed.';

CREATE OR REPLACE VIEW v_actions (
    event_id String COMMENT 'Deterministic id of this step.',
    action_id String COMMENT 'Deterministic id of the change, the same through its life.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature it is about; empty where the cause names none.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'The ledger\'s time of the step.',
    state LowCardinality(String) COMMENT 'proposed, refused, applied, verified, undone, expired, returned, superseded, overridden, lifted.',
    kind LowCardinality(String) COMMENT 'disable, pin, pause, rollback, propose, escalate, override.',
    arms Array(LowCardinality(String)) COMMENT 'Arms it is about.',
    by LowCardinality(String) COMMENT 'controller, or the name a person gave.',
    rule LowCardinality(String) COMMENT 'Rule that asked for it; empty for a person\'s.',
    rules_version Int64 COMMENT 'Version of the declared rules.',
    priority Int64 COMMENT 'Priority of the rule.',
    cause Array(LowCardinality(String)) COMMENT 'Ids of the alerts it answers.',
    cause_kind LowCardinality(String) COMMENT 'Kind of those alerts.',
    scope Map(LowCardinality(String), String) COMMENT 'Scope of the alert that caused it.',
    value_before Nullable(Float64) COMMENT 'How far the cause was from where it should be when the action was taken: relative deviation.',
    value_after Nullable(Float64) COMMENT 'The same when the action was judged.',
    applied_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was put in force.',
    verify_by Nullable(DateTime64(6, 'UTC')) COMMENT 'Until then it must have shown its effect.',
    expires_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When what it changed returns at the latest; null for a rollback, which stays.',
    undo String COMMENT 'How it is taken back.',
    reason String COMMENT 'Why it took this step.',
    change String COMMENT 'rollback: event id of the declaration it takes back.',
    dry_run Bool COMMENT 'Nothing was put in force: the rules only say what they would do.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder wrote the row.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    action_id,
    project,
    feature,
    occurred_at,
    state,
    kind,
    arms,
    by,
    rule,
    rules_version,
    priority,
    cause,
    cause_kind,
    scope,
    value_before,
    value_after,
    applied_at,
    verify_by,
    expires_at,
    undo,
    reason,
    change,
    dry_run,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM actions
COMMENT 'Every step in the life of every change that the controller or a person made, proposed or refused to make, once.';

CREATE OR REPLACE VIEW v_control_rules (
    event_id String COMMENT 'Hash of project, revision and text.',
    project LowCardinality(String) COMMENT 'Project; the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When they were applied.',
    revision Int64 COMMENT 'Counts up with each change; the newest wins.',
    rules_yaml String COMMENT 'The rules as written.',
    digest String COMMENT 'SHA-256 of the text.',
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
    revision,
    rules_yaml,
    digest,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM control_rules
COMMENT 'The rules of the controller as they were declared, all revisions.';

CREATE OR REPLACE VIEW v_changes (
    change_id String COMMENT 'Id of the event that made the change; flywheel rollback takes those of charters, budgets, rules and controls.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was made.',
    project String COMMENT 'Project.',
    what String COMMENT 'charter, budget, rules, control or action.',
    subject String COMMENT 'What changed: a feature, the name of a budget, a project.',
    revision Nullable(Int64) COMMENT 'Its revision, where it has one.',
    by String COMMENT 'Who made it, where that is known.',
    said String COMMENT 'The change in one line.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT change_id, occurred_at, project, what, subject, revision, by, said FROM (
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'charter' AS what, toString(feature) AS subject, toNullable(revision) AS revision, '' AS by, concat('charter ', substring(digest, 1, 12)) AS said FROM charters
    UNION ALL
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'budget' AS what, toString(budget) AS subject, toNullable(revision) AS revision, '' AS by, if(ended, 'ended', concat(toString(amount_usd), ' USD per ', per, ', ', mode)) AS said FROM budgets
    UNION ALL
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'rules' AS what, toString(project) AS subject, toNullable(revision) AS revision, '' AS by, concat('rules ', substring(digest, 1, 12)) AS said FROM control_rules
    UNION ALL
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'control' AS what, toString(feature) AS subject, toNullable(revision) AS revision, toString(by) AS by, if(lifted, 'lifted', if(empty(items), if(owner = 'person', 'hands off', 'nothing in force'), arrayStringConcat(arrayMap(item -> concat(item.kind, ' ', arrayStringConcat(item.arms, ', ')), items), '; '))) AS said FROM controls
    UNION ALL
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'action' AS what, toString(feature) AS subject, CAST(NULL AS Nullable(Int64)) AS revision, toString(by) AS by, concat(kind, ' ', state, ': ', reason) AS said FROM actions WHERE state NOT IN ('proposed', 'refused', 'verified')
)
COMMENT 'Every change of the configuration, whoever made it: charters, budgets, rules, controls, and the actions behind them.';

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
    UNION ALL
    SELECT 'controls' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'control') AS duplicate_records FROM controls
    UNION ALL
    SELECT 'actions' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'action') AS duplicate_records FROM actions
    UNION ALL
    SELECT 'control_rules' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'control_rules') AS duplicate_records FROM control_rules
)
COMMENT 'Proof that nothing was recorded twice: surplus_rows is 0 in every row. Reads every id, so it is slow on large tables.';
