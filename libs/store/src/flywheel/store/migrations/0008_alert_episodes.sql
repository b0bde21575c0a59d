-- Alerts by the times that they fired: what an incident is put together from. Reports are put in order by their narrow
-- columns alone; the wide ones of the newest are joined to them.

CREATE OR REPLACE VIEW v_alert_episodes (
    project LowCardinality(String) COMMENT 'Project.',
    alert_id String COMMENT 'Deterministic id of what it is about; one that fires again has another episode.',
    episode UInt64 COMMENT 'How often it was resolved before.',
    is_newest Bool COMMENT 'It did not fire again.',
    started_at DateTime64(6, 'UTC') COMMENT 'Its first report.',
    last_at DateTime64(6, 'UTC') COMMENT 'Its newest report.',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was resolved; NULL where it was not.',
    state String COMMENT 'firing or resolved.',
    severity String COMMENT 'The worst it had: info, warning or critical.',
    reports UInt64 COMMENT 'Reports of it.',
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
        min(at) AS started_at,
        max(at) AS last_at,
        maxOrNullIf(at, is_resolved) AS ended_at,
        argMax(told, (transform(told, ['critical', 'warning', 'info'], [3, 2, 1], 0), at, k_offset)) AS severity,
        count() AS reports,
        argMaxIf(event_id, (at, k_offset), NOT is_resolved) AS newest
    FROM (
        SELECT
            project,
            alert_id,
            event_id,
            severity AS told,
            k_offset,
            occurred_at AS at,
            state = 'resolved' AS is_resolved,
            countIf(state = 'resolved') OVER (PARTITION BY project, alert_id ORDER BY occurred_at, k_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS episode
        FROM alerts
    )
    GROUP BY project, alert_id, episode
    HAVING countIf(NOT is_resolved) > 0
) AS e ON a.project = e.project AND a.event_id = e.newest
COMMENT 'Every time that an alert fired, once: from its first report until it was resolved. An alert that was resolved without having fired is not in it.';

CREATE OR REPLACE VIEW v_alert_states (
    state String COMMENT 'firing; resolved; over: not resolved, but the window that it is about has ended, or the alert that it is about (attribute cause) is resolved.',
    project LowCardinality(String) COMMENT 'Project.',
    alert_id String COMMENT 'Deterministic id of what it is about; one that fires again has another episode.',
    episode UInt64 COMMENT 'How often it was resolved before.',
    started_at DateTime64(6, 'UTC') COMMENT 'Its first report.',
    last_at DateTime64(6, 'UTC') COMMENT 'Its newest report.',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was resolved; NULL where it was not.',
    severity String COMMENT 'The worst it had: info, warning or critical.',
    reports UInt64 COMMENT 'Reports of it.',
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
