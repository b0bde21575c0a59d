-- Who published a charter, and why where it was not proven to earn more.

ALTER TABLE charters
    ADD COLUMN IF NOT EXISTS by String COMMENT 'Who published it, where that is known.' AFTER digest,
    ADD COLUMN IF NOT EXISTS forced String COMMENT 'Why it was published though it was not proven to earn more, as its feature asks; empty where nothing was in the way.' AFTER by;

CREATE OR REPLACE VIEW v_charters (
    event_id String COMMENT 'Hash of project, feature and text.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it was applied.',
    revision Int64 COMMENT 'Counts up with each change; the newest wins.',
    charter_yaml String COMMENT 'The charter as written.',
    digest String COMMENT 'SHA-256 of the charter\'s text.',
    by String COMMENT 'Who published it, where that is known.',
    forced String COMMENT 'Why it was published though it was not proven to earn more, as its feature asks; empty where nothing was in the way.',
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
    by,
    forced,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM charters
COMMENT 'Every charter as it was declared, all revisions.';

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
    SELECT event_id AS change_id, occurred_at, toString(project) AS project, 'charter' AS what, toString(feature) AS subject, toNullable(revision) AS revision, by, concat('charter ', substring(digest, 1, 12), if(forced = '', '', concat(', forced: ', forced))) AS said FROM charters
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
