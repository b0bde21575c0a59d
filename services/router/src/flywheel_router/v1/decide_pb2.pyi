from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecideRequest(_message.Message):
    __slots__ = ("project", "feature", "request_id", "context", "app", "environment", "team", "user", "default_arm", "default_model", "user_hash", "input_tokens", "input_bytes", "max_tokens")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ContextValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ContextValue, _Mapping]] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ARM_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    USER_HASH_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    project: str
    feature: str
    request_id: str
    context: _containers.MessageMap[str, ContextValue]
    app: str
    environment: str
    team: str
    user: str
    default_arm: str
    default_model: str
    user_hash: str
    input_tokens: int
    input_bytes: int
    max_tokens: int
    def __init__(self, project: _Optional[str] = ..., feature: _Optional[str] = ..., request_id: _Optional[str] = ..., context: _Optional[_Mapping[str, ContextValue]] = ..., app: _Optional[str] = ..., environment: _Optional[str] = ..., team: _Optional[str] = ..., user: _Optional[str] = ..., default_arm: _Optional[str] = ..., default_model: _Optional[str] = ..., user_hash: _Optional[str] = ..., input_tokens: _Optional[int] = ..., input_bytes: _Optional[int] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class ContextValue(_message.Message):
    __slots__ = ("text", "number", "flag")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: float
    flag: bool
    def __init__(self, text: _Optional[str] = ..., number: _Optional[float] = ..., flag: _Optional[bool] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decision_id", "arm", "model", "prompt_name", "prompt_version", "params", "propensity", "policy", "policy_version", "fallback", "reason", "request_id", "propensities", "errors", "policy_kind")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PropensitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PROMPT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROPENSITIES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    POLICY_KIND_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    arm: str
    model: str
    prompt_name: str
    prompt_version: str
    params: _containers.ScalarMap[str, str]
    propensity: float
    policy: str
    policy_version: int
    fallback: bool
    reason: str
    request_id: str
    propensities: _containers.ScalarMap[str, float]
    errors: _containers.RepeatedCompositeFieldContainer[FieldError]
    policy_kind: str
    def __init__(self, decision_id: _Optional[str] = ..., arm: _Optional[str] = ..., model: _Optional[str] = ..., prompt_name: _Optional[str] = ..., prompt_version: _Optional[str] = ..., params: _Optional[_Mapping[str, str]] = ..., propensity: _Optional[float] = ..., policy: _Optional[str] = ..., policy_version: _Optional[int] = ..., fallback: _Optional[bool] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ..., propensities: _Optional[_Mapping[str, float]] = ..., errors: _Optional[_Iterable[_Union[FieldError, _Mapping]]] = ..., policy_kind: _Optional[str] = ...) -> None: ...

class FieldError(_message.Message):
    __slots__ = ("field", "message")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
