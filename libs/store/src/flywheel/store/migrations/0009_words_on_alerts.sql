-- What people say to alerts: acknowledged, silenced for a time. An acknowledgement is a report of the alert in state
-- acknowledged; it belongs to the episode that was firing then.

CREATE TABLE IF NOT EXISTS silences (
    event_id String COMMENT 'Hash of project, silence and revision.',
    silence_id String COMMENT 'Deterministic id of the silence, the same when it is lifted; with the project the Kafka key.',
    project LowCardinality(String) COMMENT 'Project whose alerts it is about.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was said, by the person\'s clock.',
    revision Int64 COMMENT 'Grows with every word about it; the newest wins.',
    starts_at DateTime64(6, 'UTC') COMMENT 'It holds from then on.',
    ends_at DateTime64(6, 'UTC') COMMENT 'It holds until then.',
    lifted Bool DEFAULT false COMMENT 'It was taken back: it holds no longer.',
    by LowCardinality(String) COMMENT 'Who said it.',
    reason String COMMENT 'Why, in one line.',
    features Array(String) COMMENT 'Features it is about; empty: any.',
    arms Array(String) COMMENT 'Arms it is about; empty: any.',
    models Array(String) COMMENT 'Models it is about, with or without their provider in front; empty: any.',
    kinds Array(String) COMMENT 'Kinds of alerts it is about; empty: any.',
    severities Array(String) COMMENT 'Severities it is about; empty: any.',
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
ORDER BY (project, silence_id, revision, occurred_at, event_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Alerts that a person expects, for a time: they are recorded, not sent, and not acted on unless a rule says so.';

CREATE OR REPLACE VIEW v_silences (
    event_id String COMMENT 'Hash of project, silence and revision.',
    silence_id String COMMENT 'Deterministic id of the silence, the same when it is lifted; with the project the Kafka key.',
    project LowCardinality(String) COMMENT 'Project whose alerts it is about.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was said, by the person\'s clock.',
    revision Int64 COMMENT 'Grows with every word about it; the newest wins.',
    starts_at DateTime64(6, 'UTC') COMMENT 'It holds from then on.',
    ends_at DateTime64(6, 'UTC') COMMENT 'It holds until then.',
    lifted Bool COMMENT 'It was taken back: it holds no longer.',
    by LowCardinality(String) COMMENT 'Who said it.',
    reason String COMMENT 'Why, in one line.',
    features Array(String) COMMENT 'Features it is about; empty: any.',
    arms Array(String) COMMENT 'Arms it is about; empty: any.',
    models Array(String) COMMENT 'Models it is about, with or without their provider in front; empty: any.',
    kinds Array(String) COMMENT 'Kinds of alerts it is about; empty: any.',
    severities Array(String) COMMENT 'Severities it is about; empty: any.',
    k_topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    k_partition Int32 COMMENT 'Kafka partition.',
    k_offset Int64 COMMENT 'Kafka offset.',
    k_timestamp DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of the record.',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the recorder wrote the row.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    event_id,
    silence_id,
    project,
    occurred_at,
    revision,
    starts_at,
    ends_at,
    lifted,
    by,
    reason,
    features,
    arms,
    models,
    kinds,
    severities,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM silences
ORDER BY revision DESC, k_offset DESC
LIMIT 1 BY project, silence_id
COMMENT 'Every silence of alerts as it was last said. It holds from starts_at until ends_at, unless lifted.';

CREATE OR REPLACE VIEW v_alerts (
    event_id String COMMENT 'Deterministic id of this report of it.',
    alert_id String COMMENT 'Deterministic id of what it is about, the same while it fires and when it is resolved.',
    project LowCardinality(String) COMMENT 'Project.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was noticed, in event time.',
    kind LowCardinality(String) COMMENT 'What kind it is, e.g. budget_threshold, budget_exhausted, budget_forecast.',
    severity LowCardinality(String) COMMENT 'info, warning or critical.',
    state LowCardinality(String) COMMENT 'firing or resolved; acknowledged: a person has seen it (attributes by, note, until). A person\'s resolved has the attribute by too.',
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

CREATE OR REPLACE VIEW v_alert_episodes (
    project LowCardinality(String) COMMENT 'Project.',
    alert_id String COMMENT 'Deterministic id of what it is about; one that fires again has another episode.',
    episode UInt64 COMMENT 'How often it was resolved before.',
    is_newest Bool COMMENT 'It did not fire again.',
    started_at DateTime64(6, 'UTC') COMMENT 'Its first report.',
    last_at DateTime64(6, 'UTC') COMMENT 'Its newest report, or what a person said to it after that.',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was resolved; NULL where it was not.',
    state String COMMENT 'firing or resolved.',
    severity String COMMENT 'The worst it had: info, warning or critical.',
    reports UInt64 COMMENT 'Reports of it.',
    acknowledged_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When a person last acknowledged it; NULL where nobody did.',
    acknowledged_by String COMMENT 'Who did.',
    acknowledged_until Nullable(DateTime64(6, 'UTC')) COMMENT 'The acknowledgement holds until then; NULL: until it is resolved or worse.',
    acknowledged_severity String COMMENT 'How severe it was then: one that is worse now is not acknowledged.',
    note String COMMENT 'What the person said.',
    kind String COMMENT 'What kind it is.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions it is about.',
    subject String COMMENT 'What it is about.',
    title String COMMENT 'One line for a person, while it fired.',
    detail String COMMENT 'What was seen, with the figures, while it fired.',
    value Nullable(Float64) COMMENT 'Figure seen while it fired.',
    threshold Nullable(Float64) COMMENT 'Figure it was held against.',
    window_start Nullable(DateTime64(6, 'UTC')) COMMENT 'Start of the window that it is about.',
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'Its end.',
    attributes Map(LowCardinality(String), String) COMMENT 'Further facts, while it fired.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    e.project AS project,
    e.alert_id AS alert_id,
    e.episode AS episode,
    e.is_newest AS is_newest,
    e.started_at AS started_at,
    e.last_at AS last_at,
    e.ended_at AS ended_at,
    if(e.ended_at IS NULL, 'firing', 'resolved') AS state,
    e.severity AS severity,
    e.reports AS reports,
    if(k.event_id = '', NULL, k.occurred_at) AS acknowledged_at,
    k.attributes['by'] AS acknowledged_by,
    parseDateTime64BestEffortOrNull(k.attributes['until'], 6, 'UTC') AS acknowledged_until,
    k.severity AS acknowledged_severity,
    k.attributes['note'] AS note,
    a.kind AS kind,
    a.scope AS scope,
    a.subject AS subject,
    a.title AS title,
    a.detail AS detail,
    a.value AS value,
    a.threshold AS threshold,
    a.window_start AS window_start,
    a.window_end AS window_end,
    a.attributes AS attributes
FROM alerts AS a
INNER JOIN (
    SELECT
        project,
        alert_id,
        episode,
        episode = max(episode) OVER (PARTITION BY project, alert_id) AS is_newest,
        minIf(at, is_report) AS started_at,
        max(at) AS last_at,
        maxOrNullIf(at, is_resolved) AS ended_at,
        argMaxIf(told, (transform(told, ['critical', 'warning', 'info'], [3, 2, 1], 0), at, k_offset), is_report) AS severity,
        countIf(is_report) AS reports,
        argMaxIf(event_id, (at, k_offset), is_report AND NOT is_resolved) AS newest,
        argMaxIf(event_id, (at, k_offset), NOT is_report) AS newest_word
    FROM (
        SELECT
            project,
            alert_id,
            event_id,
            severity AS told,
            k_offset,
            occurred_at AS at,
            state = 'resolved' AS is_resolved,
            state != 'acknowledged' AS is_report,
            countIf(state = 'resolved') OVER (PARTITION BY project, alert_id ORDER BY occurred_at, k_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS episode
        FROM alerts
    )
    GROUP BY project, alert_id, episode
    HAVING countIf(is_report AND NOT is_resolved) > 0
) AS e ON a.project = e.project AND a.event_id = e.newest
LEFT JOIN (SELECT project, event_id, occurred_at, severity, attributes FROM alerts WHERE state = 'acknowledged') AS k ON e.project = k.project AND e.newest_word = k.event_id
COMMENT 'Every time that an alert fired, once: from its first report until it was resolved. An alert that was resolved without having fired is not in it.';

CREATE OR REPLACE VIEW v_alert_states (
    state String COMMENT 'firing; acknowledged: firing, and a person has seen it as severe as it is; resolved; over: not resolved, but the window that it is about has ended, or the alert that it is about (attribute cause) is resolved.',
    project LowCardinality(String) COMMENT 'Project.',
    alert_id String COMMENT 'Deterministic id of what it is about; one that fires again has another episode.',
    episode UInt64 COMMENT 'How often it was resolved before.',
    started_at DateTime64(6, 'UTC') COMMENT 'Its first report.',
    last_at DateTime64(6, 'UTC') COMMENT 'Its newest report, or what a person said to it after that.',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was resolved; NULL where it was not.',
    severity String COMMENT 'The worst it had: info, warning or critical.',
    reports UInt64 COMMENT 'Reports of it.',
    acknowledged_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When a person last acknowledged it; NULL where nobody did.',
    acknowledged_by String COMMENT 'Who did.',
    acknowledged_until Nullable(DateTime64(6, 'UTC')) COMMENT 'The acknowledgement holds until then; NULL: until it is resolved or worse.',
    acknowledged_severity String COMMENT 'How severe it was then: one that is worse now is not acknowledged.',
    note String COMMENT 'What the person said.',
    kind String COMMENT 'What kind it is.',
    scope Map(LowCardinality(String), String) COMMENT 'Dimensions it is about.',
    subject String COMMENT 'What it is about.',
    title String COMMENT 'One line for a person, while it fired.',
    detail String COMMENT 'What was seen, with the figures, while it fired.',
    value Nullable(Float64) COMMENT 'Figure seen while it fired.',
    threshold Nullable(Float64) COMMENT 'Figure it was held against.',
    window_start Nullable(DateTime64(6, 'UTC')) COMMENT 'Start of the window that it is about.',
    window_end Nullable(DateTime64(6, 'UTC')) COMMENT 'Its end.',
    attributes Map(LowCardinality(String), String) COMMENT 'Further facts, while it fired.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    multiIf(
        told = 'resolved', 'resolved',
        ifNull(window_end > last_at AND window_end <= now64(6), false), 'over',
        (project, attributes['cause']) IN (SELECT project, alert_id FROM v_alert_episodes WHERE is_newest AND state = 'resolved'), 'over',
        acknowledged_at IS NOT NULL AND ifNull(acknowledged_until > now64(6), true) AND transform(severity, ['critical', 'warning', 'info'], [3, 2, 1], 0) <= transform(acknowledged_severity, ['critical', 'warning', 'info'], [3, 2, 1], 0), 'acknowledged',
        'firing'
    ) AS state,
    project,
    alert_id,
    episode,
    started_at,
    last_at,
    ended_at,
    severity,
    reports,
    acknowledged_at,
    acknowledged_by,
    acknowledged_until,
    acknowledged_severity,
    note,
    kind,
    scope,
    subject,
    title,
    detail,
    value,
    threshold,
    window_start,
    window_end,
    attributes
FROM (SELECT * EXCEPT state, state AS told FROM v_alert_episodes WHERE is_newest)
COMMENT 'How every alert stands: the newest time that it fired, and whether it still does.';

CREATE OR REPLACE VIEW v_changes (
    change_id String COMMENT 'Id of the event that made the change; flywheel rollback takes those of charters, budgets, rules and controls.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was made.',
    project String COMMENT 'Project.',
    what String COMMENT 'charter, budget, rules, control, silence or action.',
    subject String COMMENT 'What changed: a feature, several (of a silence), the name of a budget, a project.',
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
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'silence' AS what, if(empty(features), 'all features', arrayStringConcat(features, ', ')) AS subject, toNullable(revision) AS revision, toString(by) AS by, concat(if(lifted, 'silence lifted', concat('alerts silenced until ', formatDateTime(ends_at, '%FT%TZ'))), if(reason = '', '', concat(': ', reason))) AS said FROM silences
    UNION ALL
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'action' AS what, toString(feature) AS subject, CAST(NULL AS Nullable(Int64)) AS revision, toString(by) AS by, concat(kind, ' ', state, ': ', reason) AS said FROM actions WHERE state NOT IN ('proposed', 'refused', 'verified')
)
COMMENT 'Every change of the configuration, whoever made it: charters, budgets, rules, controls, silences of alerts, and the actions behind them.';

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
    UNION ALL
    SELECT 'silences' AS table, count() AS rows, uniqExact(event_id) AS unique_events, (SELECT uniqExact(k_topic, k_partition, k_offset) FROM duplicate_events WHERE event = 'silence') AS duplicate_records FROM silences
)
COMMENT 'Proof that nothing was recorded twice: surplus_rows is 0 in every row. Reads every id, so it is slow on large tables.';
