"""Event models, generated from ``schemas/events`` by ``make schemas``. Do not edit.

Frozen and strict: a string is not a number, and an unknown field is an error. Timestamps are integer microseconds
since the epoch (UTC), money is ``Decimal``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Int = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Micros = Annotated[int, Field(ge=-(2**63), lt=2**63, description="Microseconds since the epoch, UTC.")]


class EventModel(BaseModel):
    """What every event model shares."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Action(EventModel):
    """One step in the life of a change that the controller or a person made, proposed or refused to make."""

    event_id: str
    action_id: str
    project: str
    feature: str = ""
    occurred_at: Micros
    state: str
    kind: str
    arms: tuple[str, ...] = ()
    by: str = "controller"
    rule: str = ""
    rules_version: Long = 0
    priority: Long = 0
    cause: tuple[str, ...] = ()
    cause_kind: str = ""
    scope: dict[str, str] = Field(default_factory=dict)
    value_before: float | None = None
    value_after: float | None = None
    applied_at: Micros | None = None
    verify_by: Micros | None = None
    expires_at: Micros | None = None
    undo: str = ""
    reason: str = ""
    change: str = ""
    dry_run: bool = False


class Alert(EventModel):
    """Something a person or the controller should know. The same id is the same alert."""

    event_id: str
    alert_id: str
    project: str
    occurred_at: Micros
    kind: str
    severity: str
    state: str
    scope: dict[str, str] = Field(default_factory=dict)
    subject: str
    title: str
    detail: str = ""
    value: float | None = None
    threshold: float | None = None
    window_start: Micros | None = None
    window_end: Micros | None = None
    attributes: dict[str, str] = Field(default_factory=dict)


class ArmBucket(EventModel):
    """Exact sums of one arm over one span of event time."""

    bucket: Long
    arm: str
    n: Long
    sum_nano: str
    sumsq_atto: str


class ArmMoments(EventModel):
    """Exact sums of z z' of one arm over one span of event time, z the encoded features in units of 2^-12 and last the reward as a share of its range in units of 2^-14."""

    bucket: Long
    arm: str
    sums: tuple[Long, ...]


class ArmPairs(EventModel):
    """Exact sums of z z' of one arm over one span of event time, z = (1, score) in units of 2^-12 and last what it stands for in units of 2^-14."""

    score: str
    stands_for: str
    bucket: Long
    arm: str
    sums: tuple[Long, ...]


class ArmUses(EventModel):
    """Exact sums of what requests of one arm used over one span of event time."""

    bucket: Long
    arm: str
    sums: tuple[str, ...]


class ArmSummary(EventModel):
    """Absolute, mergeable summary of one shard's outcomes for a feature. Internal to bandit; compacted."""

    event_id: str
    project: str
    feature: str
    shard: Int
    occurred_at: Micros
    charter_revision: Long
    outcomes: Long
    buckets: tuple[ArmBucket, ...]
    moments: tuple[ArmMoments, ...] = ()
    pairs: tuple[ArmPairs, ...] = ()
    measures: tuple[str, ...] = ()
    uses: tuple[ArmUses, ...] = ()


class Budget(EventModel):
    """What a scope may spend in a window. Compacted: the newest revision wins."""

    event_id: str
    project: str
    budget: str
    occurred_at: Micros
    revision: Long
    effective_from: Micros
    ended: bool = False
    scope: dict[str, str] = Field(default_factory=dict)
    each: tuple[str, ...] = ()
    amount_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    per: str
    rolling_s: Long | None = None
    time_zone: str = "UTC"
    mode: str = "soft"
    warn_at: tuple[float, ...] = ()
    max_input_tokens: Long | None = None
    max_output_tokens: Long | None = None
    min_output_tokens: Long | None = None


class BudgetTerms(EventModel):
    """Terms of a budget as of one revision."""

    revision: Long
    effective_from: Micros
    ended: bool = False
    scope: dict[str, str] = Field(default_factory=dict)
    each: tuple[str, ...] = ()
    amount_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    per: str
    rolling_s: Long | None = None
    time_zone: str = "UTC"
    mode: str = "soft"
    warn_at: tuple[float, ...] = ()
    max_input_tokens: Long | None = None
    max_output_tokens: Long | None = None
    min_output_tokens: Long | None = None


class BudgetEntry(EventModel):
    """One entry of the ledger that leases are granted from: a definition, what was spent, or what a deciding process asks for."""

    event_id: str
    project: str
    budget: str
    occurred_at: Micros
    kind: str
    instance: str = ""
    window: str = ""
    account: str = ""
    source: str = ""
    version: Long = 0
    spent_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    settled_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    calls: Long = 0
    unpriced: Long = 0
    above_bound: Long = 0
    holder: str = ""
    incarnation: str = ""
    seq: Long = 0
    reserved_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    limit_wanted_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    need_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    closing: bool = False
    terms: BudgetTerms | None = None


class BudgetState(EventModel):
    """Where an instance of a budget stands. Compacted by instance: the newest wins."""

    event_id: str
    project: str
    budget: str
    occurred_at: Micros
    instance: str
    scope: dict[str, str] = Field(default_factory=dict)
    revision: Long
    mode: str
    ended: bool = False
    amount_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    window: str
    window_start: Micros
    window_end: Micros
    spent_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    exposure_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    available_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    stranded_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    calls: Long
    unpriced: Long
    above_bound: Long
    holders: Long
    forecast_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    forecast_low_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    forecast_high_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    price_of_money: float = 0.0
    exhausted: bool = False


class CallContent(EventModel):
    """What was asked and answered; its own topic and its own short retention."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    call_id: str
    feature: str | None = None
    input_text: str | None = None
    output_text: str | None = None
    redaction: str = "none"


class Charter(EventModel):
    """What a user declared for a feature."""

    event_id: str
    project: str
    feature: str
    occurred_at: Micros
    revision: Long
    charter_yaml: str
    digest: str
    by: str = ""
    forced: str = ""


class ControlItem(EventModel):
    """One thing in force."""

    control_id: str
    kind: str
    arms: tuple[str, ...] = ()
    expires_at: Micros | None = None
    reason: str = ""


class Control(EventModel):
    """What is in force for a feature, said by one owner. Compacted: the newest revision of a key wins, and a person's record stands in place of the controller's."""

    event_id: str
    project: str
    feature: str
    occurred_at: Micros
    owner: str
    revision: Long
    lifted: bool = False
    by: str = ""
    reason: str = ""
    expires_at: Micros | None = None
    items: tuple[ControlItem, ...] = ()


class ControlEntry(EventModel):
    """One entry of the ledger that the controller is a function of: a fact passed on, or the time."""

    event_id: str
    project: str
    occurred_at: Micros
    kind: str
    feature: str = ""
    body: str = ""


class ControlRules(EventModel):
    """What the controller does about which alert, for a project."""

    event_id: str
    project: str
    occurred_at: Micros
    revision: Long
    rules_yaml: str
    digest: str


class DeadLetter(EventModel):
    """An input that could not be processed, whole, with why."""

    event_id: str
    project: str
    occurred_at: Micros
    source_topic: str
    source_partition: Int
    source_offset: Long
    service: str
    service_version: str
    reason: str
    field: str | None = None
    detail: str
    schema_id: Int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: dict[str, bytes] = Field(default_factory=dict)


class DeadLetterAction(EventModel):
    """What a person did with a dead letter."""

    event_id: str
    project: str
    occurred_at: Micros
    letter_id: str
    case_id: str
    action: Literal["UNKNOWN", "REPLAYED", "DROPPED"]
    replays: Int
    source_topic: str


class Reservation(EventModel):
    """What one hard budget was charged for the decision."""

    budget: str
    window: str
    account: str
    bound_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    cumulative_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]


class Decision(EventModel):
    """Which arm serves a request, with the whole distribution it was drawn from."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    environment: str | None = None
    app: str | None = None
    feature: str | None = None
    team: str | None = None
    user_hash: str | None = None
    trace_id: str | None = None
    policy: str
    policy_version: Long
    policy_kind: str
    arm: str
    propensity: float
    arms: tuple[str, ...] = ()
    propensities: tuple[float, ...] = ()
    propensity_error: float = 0.0
    model: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    params: dict[str, str] = Field(default_factory=dict)
    fallback: bool = False
    reason: str
    context: dict[str, str] = Field(default_factory=dict)
    decider: str
    policy_age_ms: float | None = None
    reservations: tuple[Reservation, ...] = ()
    input_tokens_bound: Long | None = None
    output_tokens_bound: Long | None = None
    downgraded_from: str | None = None
    budget_price: float | None = None
    control: str | None = None
    features: tuple[Int, ...] = ()
    encoding: str | None = None


class DetectionEntry(EventModel):
    """One entry of the ledger that the detector is a function of: observations, a charter, or the time."""

    event_id: str
    project: str
    occurred_at: Micros
    kind: str
    feature: str = ""
    body: str = ""


class Evaluation(EventModel):
    """What an evaluator says of a call."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    environment: str | None = None
    app: str | None = None
    feature: str | None = None
    team: str | None = None
    user_hash: str | None = None
    call_id: str | None = None
    decision_id: str | None = None
    evaluator: str
    evaluator_version: str | None = None
    kind: Literal["UNKNOWN", "HEURISTIC", "JUDGE", "HUMAN", "BUSINESS"] = "UNKNOWN"
    score: float | None = None
    label: str | None = None
    passed: bool | None = None
    explanation: str | None = None
    judge_model: str | None = None
    judge_cost_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    sample_prob: float = 1.0
    rubric_version: str | None = None
    golden_score: float | None = None


class Feedback(EventModel):
    """What a person or the business says of a request, later."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    environment: str | None = None
    app: str | None = None
    feature: str | None = None
    team: str | None = None
    user_hash: str | None = None
    decision_id: str | None = None
    kind: str
    value: float | None = None
    label: str | None = None
    comment: str | None = None
    source: Literal["UNKNOWN", "USER", "BUSINESS", "AUTOMATIC"] = "UNKNOWN"
    attributes: dict[str, str] = Field(default_factory=dict)
    received_at: Micros | None = None


class Lease(EventModel):
    """What a holder may reserve from one account, cumulative. Compacted by account: the newest wins."""

    event_id: str
    project: str
    budget: str
    occurred_at: Micros
    instance: str
    account: str
    holder: str
    window: str
    window_start: Micros | None = None
    window_end: Micros | None = None
    seq: Long
    granted_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    available_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)]
    ttl_s: float
    scarce: bool = False
    exhausted: bool = False
    closed: bool = False
    reason: str


class LlmCall(EventModel):
    """One attempt at a model. A request may have several."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    environment: str | None = None
    app: str | None = None
    feature: str | None = None
    team: str | None = None
    shares: dict[str, str] = Field(default_factory=dict)
    user_hash: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    conversation_id: str | None = None
    operation: Literal["UNKNOWN", "CHAT", "TEXT_COMPLETION", "GENERATE_CONTENT", "EMBEDDINGS", "RETRIEVAL", "EXECUTE_TOOL", "INVOKE_AGENT", "OTHER"] = "UNKNOWN"
    provider: str
    request_model: str
    response_model: str | None = None
    response_id: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Long | None = None
    params: dict[str, str] = Field(default_factory=dict)
    streaming: bool | None = None
    usage_convention: Literal["UNKNOWN", "INCLUSIVE", "EXCLUSIVE"] = "UNKNOWN"
    usage_emitter: str | None = None
    usage_source: Literal["UNKNOWN", "PROVIDER", "TOKENIZER"] = "UNKNOWN"
    input_tokens: Long | None = None
    output_tokens: Long | None = None
    uncached_input_tokens: Long | None = None
    cache_read_tokens: Long | None = None
    cache_write_5m_tokens: Long | None = None
    cache_write_1h_tokens: Long | None = None
    visible_output_tokens: Long | None = None
    reasoning_tokens: Long | None = None
    audio_input_tokens: Long | None = None
    audio_output_tokens: Long | None = None
    image_input_tokens: Long | None = None
    video_input_tokens: Long | None = None
    image_output_tokens: Long | None = None
    video_output_tokens: Long | None = None
    audio_cache_read_tokens: Long | None = None
    image_cache_read_tokens: Long | None = None
    web_searches: Long | None = None
    pool_seconds: Annotated[Decimal, Field(max_digits=18, decimal_places=9)] | None = None
    price_context: dict[str, str] = Field(default_factory=dict)
    cost_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    cost_source: Literal["UNKNOWN", "PROVIDER", "LOCAL"] = "UNKNOWN"
    price_source: str | None = None
    price_version: str | None = None
    price_model: str | None = None
    price_above_tokens: Long | None = None
    computed_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    status: Literal["UNKNOWN", "OK", "ERROR", "TIMEOUT", "CANCELLED", "FILTERED"] = "UNKNOWN"
    error_type: str | None = None
    finish_reason: str | None = None
    tool_calls: Long | None = None
    decision_id: str | None = None
    policy: str | None = None
    policy_version: Long | None = None
    variant: str | None = None
    propensity: float | None = None
    attempt: Int = 1
    shadow: bool = False
    doubt_raw: float | None = None
    doubt: float | None = None
    escalation: str | None = None
    escalation_propensity: float | None = None
    attributes: dict[str, str] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    received_at: Micros | None = None


class Outcome(EventModel):
    """A request with all its parts joined: what the policy learns from."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    environment: str | None = None
    app: str | None = None
    feature: str | None = None
    team: str | None = None
    user_hash: str | None = None
    decision_id: str
    policy_version: Long
    arm: str
    propensity: float
    fallback: bool = False
    model: str | None = None
    reward: float | None = None
    quality: float | None = None
    cost_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    latency_ms: float | None = None
    parts: dict[str, float] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()
    status: str
    calls: Int = 0
    errors: Int = 0
    revision: Int = 1
    completed_at: Micros


class EligibilityRule(EventModel):
    """A condition on the request's context; an arm is eligible when all its rules hold."""

    field: str
    operator: str
    value: str


class PolicyArm(EventModel):
    """One way to serve a request, with what is believed of it."""

    name: str
    model: str
    prompt_name: str | None = None
    prompt_version: str | None = None
    params: dict[str, str] = Field(default_factory=dict)
    eligible_when: tuple[EligibilityRule, ...] = ()
    enabled: bool = True
    weight: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    alpha: float = 0.0
    beta: float = 0.0
    score: float = 0.0
    propensity: float = 0.0


class ContextFeature(EventModel):
    """A declared feature of the request's context."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    values: tuple[str, ...] = ()
    buckets: Int = 0
    length: str | None = None


class LinearArm(EventModel):
    """What is believed of an arm's reward at an encoded context x: normal, mean coefficients·x, standard deviation |root x|."""

    name: str
    coefficients: tuple[float, ...]
    root: tuple[float, ...]


class ArmPrior(EventModel):
    """What is believed of an arm before its own outcomes."""

    name: str
    mean: float
    weight: float
    relatives: dict[str, float] = Field(default_factory=dict)


class ConstraintPrice(EventModel):
    """What one unit of what a constraint bounds costs in reward, so that the constraint is kept."""

    constraint: str
    measure: str
    price: float
    bound: float
    target: float
    expected: float
    used: float
    requests_per_hour: float = 0.0


class ArmMeasure(EventModel):
    """Mean of a measure over an arm's requests, with an interval that holds at any number of them."""

    measure: str
    weight: float
    mean: float
    low: float
    high: float


class ArmStanding(EventModel):
    """Where an arm stands: what constraints make of it, and what it trades off."""

    name: str
    charge: float = 0.0
    breaks: str | None = None
    unproven: str | None = None
    efficient: bool = True
    dominated_by: tuple[str, ...] = ()
    measures: tuple[ArmMeasure, ...] = ()


class ArmTrial(EventModel):
    """How an arm of an experiment stands against the others."""

    name: str
    outcomes: float
    mean: float
    beaten_by: str | None = None
    log_evidence: float
    needed: float
    out: bool


class ArmDiversity(EventModel):
    """How alike an arm's answers are."""

    name: str
    requests: float
    spread: float
    others: float
    charge: float


class Policy(EventModel):
    """What is believed of a feature's arms and how the next one is chosen. Compacted: the newest version wins."""

    event_id: str
    project: str
    feature: str
    occurred_at: Micros
    policy_version: Long
    kind: str
    charter_digest: str
    charter_revision: Long
    default_arm: str
    explore_floor: float = 0.0
    epsilon: float = 0.0
    stale_after_s: float = 0.0
    outcomes: Long = 0
    arms: tuple[PolicyArm, ...]
    context: tuple[str, ...] = ()
    features: tuple[ContextFeature, ...] = ()
    encoding: str | None = None
    on_missing: str = "encode"
    scale: float | None = None
    gamma: float | None = None
    linear: tuple[LinearArm, ...] = ()
    priors: tuple[ArmPrior, ...] = ()
    prices: tuple[ConstraintPrice, ...] = ()
    standings: tuple[ArmStanding, ...] = ()
    trials: tuple[ArmTrial, ...] = ()
    diversity: tuple[ArmDiversity, ...] = ()
    contexts: tuple[float, ...] = ()


class Reprice(EventModel):
    """A newer cost of a call, by other prices. The call itself is never written again."""

    event_id: str
    project: str
    request_id: str
    occurred_at: Micros
    call_id: str
    revision: Long
    repriced_at: Micros
    cost_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    cost_source: Literal["UNKNOWN", "PROVIDER", "LOCAL"] = "UNKNOWN"
    price_source: str | None = None
    price_version: str | None = None
    price_model: str | None = None
    price_above_tokens: Long | None = None
    previous_usd: Annotated[Decimal, Field(max_digits=28, decimal_places=12)] | None = None
    flags: tuple[str, ...] = ()


class Silence(EventModel):
    """Alerts that a person expects, for a time: they are recorded, not sent, and not acted on unless a rule says so. An empty list means any."""

    event_id: str
    silence_id: str
    project: str
    occurred_at: Micros
    revision: Long
    starts_at: Micros
    ends_at: Micros
    lifted: bool = False
    by: str = ""
    reason: str = ""
    features: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()


MODELS: dict[str, type[EventModel]] = {
    "action": Action,
    "alert": Alert,
    "arm_summary": ArmSummary,
    "budget": Budget,
    "budget_entry": BudgetEntry,
    "budget_state": BudgetState,
    "call_content": CallContent,
    "charter": Charter,
    "control": Control,
    "control_entry": ControlEntry,
    "control_rules": ControlRules,
    "dead_letter": DeadLetter,
    "dead_letter_action": DeadLetterAction,
    "decision": Decision,
    "detection_entry": DetectionEntry,
    "evaluation": Evaluation,
    "feedback": Feedback,
    "lease": Lease,
    "llm_call": LlmCall,
    "outcome": Outcome,
    "policy": Policy,
    "reprice": Reprice,
    "silence": Silence,
}
