-- What constraints make of a policy: their prices, and where each arm stands.

ALTER TABLE policies
    ADD COLUMN IF NOT EXISTS prices Array(Tuple(constraint String, measure String, price Float64, bound Float64, target Float64, expected Float64, used Float64, requests_per_hour Float64)) COMMENT 'Constraints of the charter that have a price; empty where it declares none.' AFTER priors,
    ADD COLUMN IF NOT EXISTS standings Array(Tuple(name String, charge Float64, breaks Nullable(String), unproven Nullable(String), efficient Bool, dominated_by Array(String), measures Array(Tuple(measure String, weight Float64, mean Float64, low Float64, high Float64)))) COMMENT 'An arm each, in the order of arms; empty in policies from before they were kept.' AFTER prices;

CREATE OR REPLACE VIEW v_policies (
    event_id String COMMENT 'Hash of project, feature and version.',
    project LowCardinality(String) COMMENT 'Project.',
    feature LowCardinality(String) COMMENT 'Feature; with the project the Kafka key.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'Event time of the newest fact it stands on, never the clock.',
    policy_version Int64 COMMENT 'Grows with the facts behind it; the newest wins.',
    kind LowCardinality(String) COMMENT 'thompson_beta, thompson_gaussian, ucb1, ucb_v, epsilon_greedy, static, linear_thompson, linear_ucb or squarecb.',
    charter_digest LowCardinality(String) COMMENT 'Charter it follows.',
    charter_revision Int64 COMMENT 'Its revision.',
    default_arm LowCardinality(String) COMMENT 'Arm to use when the policy can\'t decide.',
    explore_floor Float64 COMMENT 'Least share of every eligible arm.',
    epsilon Float64 COMMENT 'Share explored by epsilon_greedy.',
    stale_after_s Float64 COMMENT 'Older than this the declared default is used.',
    outcomes Int64 COMMENT 'Outcomes behind this version, all arms, without forgetting.',
    arms Array(Tuple(name String, model String, prompt_name Nullable(String), prompt_version Nullable(String), params Map(LowCardinality(String), String), eligible_when Array(Tuple(field String, operator String, value String)), enabled Bool, weight Float64, mean Float64, variance Float64, alpha Float64, beta Float64, score Float64, propensity Float64)) COMMENT 'Arms in declared order.',
    context Array(LowCardinality(String)) COMMENT 'Declared context fields.',
    features Array(Tuple(name String, kind String, low Float64, high Float64, log Bool, values Array(String), buckets Int32, length Nullable(String))) COMMENT 'Declared context features, in the order of their slots; empty for kinds without.',
    encoding LowCardinality(Nullable(String)) COMMENT 'Digest of the features\' declarations; null for kinds without.',
    on_missing LowCardinality(String) COMMENT 'A request without a declared feature: encode decides with it as missing, default takes the default arm.',
    scale Nullable(Float64) COMMENT 'Standard deviations of belief that linear_thompson draws with and linear_ucb adds; null for kinds without.',
    gamma Nullable(Float64) COMMENT 'Gamma of squarecb, the outcomes behind it already in it; null for kinds without.',
    linear Array(Tuple(name String, coefficients Array(Float64), root Array(Float64))) COMMENT 'Beliefs of the linear kinds, an arm each, in the order of arms; empty for other kinds.',
    priors Array(Tuple(name String, mean Float64, weight Float64, relatives Map(String, Float64))) COMMENT 'Priors from arms\' relatives, an arm each, in the order of arms; empty where the declared prior holds for all.',
    prices Array(Tuple(constraint String, measure String, price Float64, bound Float64, target Float64, expected Float64, used Float64, requests_per_hour Float64)) COMMENT 'Constraints of the charter that have a price; empty where it declares none.',
    standings Array(Tuple(name String, charge Float64, breaks Nullable(String), unproven Nullable(String), efficient Bool, dominated_by Array(String), measures Array(Tuple(measure String, weight Float64, mean Float64, low Float64, high Float64)))) COMMENT 'An arm each, in the order of arms; empty in policies from before they were kept.',
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
    features,
    encoding,
    on_missing,
    scale,
    gamma,
    linear,
    priors,
    prices,
    standings,
    k_topic,
    k_partition,
    k_offset,
    k_timestamp,
    recorded_at
FROM policies
COMMENT 'Every version of every policy, with what was believed of its arms.';

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
