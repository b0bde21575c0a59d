-- What constraints make of a policy: their prices, and where each arm stands.

ALTER TABLE policies
    ADD COLUMN IF NOT EXISTS prices Array(Tuple(constraint String, measure String, price Float64, bound Float64, target Float64, expected Float64, used Float64, requests_per_hour Float64)) COMMENT 'Constraints of the charter that have a price; empty where it declares none.' AFTER priors,
    ADD COLUMN IF NOT EXISTS standings Array(Tuple(name String, charge Float64, breaks Nullable(String), unproven Nullable(String), efficient Bool, dominated_by Array(String), measures Array(Tuple(measure String, weight Float64, mean Float64, low Float64, high Float64)))) COMMENT 'An arm each, in the order of arms; empty in policies from before they were kept.' AFTER prices;

CREATE OR REPLACE VIEW v_frontier (
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature.',
    policy_version Int64 COMMENT 'Policy it is of: the newest.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest fact it stands on, never the clock.',
    arm String COMMENT 'Arm.',
    propensity Float64 COMMENT 'Probability of this arm when every enabled arm is eligible.',
    efficient Bool COMMENT 'Whether no other arm that serves is as good in quality, cost and latency and better in one, as far as means tell.',
    dominated_by Array(String) COMMENT 'Arms proven to be better in each of them.',
    charge Float64 COMMENT 'What choosing it is charged, in reward, at the prices of the constraints.',
    breaks Nullable(String) COMMENT 'Constraint that it is proven to break, so that it does not serve.',
    unproven Nullable(String) COMMENT 'Strict constraint that it is not yet proven to keep, so that it has the floor of exploring only.',
    measure String COMMENT 'quality, cost_usd, latency_ms, a share of slow requests (latency_ms>3000) or a score (score:safety.leak).',
    weight Float64 COMMENT 'Requests behind it, after forgetting.',
    mean Float64 COMMENT 'Mean, in the measure\'s unit.',
    low Float64 COMMENT 'Lower end of the 95 % interval, which holds at any number of requests.',
    high Float64 COMMENT 'Upper end.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    project,
    feature,
    policy_version,
    occurred_at,
    arm.name AS arm,
    arm.propensity AS propensity,
    standing.efficient AS efficient,
    standing.dominated_by AS dominated_by,
    standing.charge AS charge,
    standing.breaks AS breaks,
    standing.unproven AS unproven,
    known.measure AS measure,
    known.weight AS weight,
    known.mean AS mean,
    known.low AS low,
    known.high AS high
FROM (SELECT * FROM policies ORDER BY policy_version DESC, k_offset DESC LIMIT 1 BY project, feature)
ARRAY JOIN arms AS arm, standings AS standing
ARRAY JOIN standing.measures AS known
COMMENT 'Where each feature\'s arms stand now: quality, cost and latency with intervals, the Pareto front, what constraints make of them.';
