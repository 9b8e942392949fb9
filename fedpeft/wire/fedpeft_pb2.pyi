from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNSPECIFIED: _ClassVar[Kind]
    HELLO: _ClassVar[Kind]
    HELLO_REPLY: _ClassVar[Kind]
    TRAIN: _ClassVar[Kind]
    UPDATE: _ClassVar[Kind]
    EVALUATE: _ClassVar[Kind]
    EVALUATION: _ClassVar[Kind]
    REFUSAL: _ClassVar[Kind]
UNSPECIFIED: Kind
HELLO: Kind
HELLO_REPLY: Kind
TRAIN: Kind
UPDATE: Kind
EVALUATE: Kind
EVALUATION: Kind
REFUSAL: Kind

class Header(_message.Message):
    __slots__ = ("kind", "run", "round", "attempt", "client", "codec", "digest", "version", "base", "plan", "info", "weight", "metrics", "refusal", "sections", "memory", "files")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    run: str
    round: int
    attempt: int
    client: str
    codec: str
    digest: bytes
    version: int
    base: int
    plan: Plan
    info: Info
    weight: float
    metrics: _containers.ScalarMap[str, float]
    refusal: Refusal
    sections: _containers.RepeatedCompositeFieldContainer[Section]
    memory: int
    files: _containers.ScalarMap[str, str]
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., client: _Optional[str] = ..., codec: _Optional[str] = ..., digest: _Optional[bytes] = ..., version: _Optional[int] = ..., base: _Optional[int] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., info: _Optional[_Union[Info, _Mapping]] = ..., weight: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., sections: _Optional[_Iterable[_Union[Section, _Mapping]]] = ..., memory: _Optional[int] = ..., files: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("seed", "steps", "batch_size", "learning_rate", "weight_decay", "max_grad_norm", "optimizer", "objective", "objective_params", "rank", "codec", "version", "feedback", "layout", "auxiliary", "pruning", "mask", "importance", "frozen")
    class ObjectiveParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    MAX_GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_PARAMS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    AUXILIARY_FIELD_NUMBER: _ClassVar[int]
    PRUNING_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    optimizer: str
    objective: str
    objective_params: _containers.ScalarMap[str, float]
    rank: int
    codec: str
    version: int
    feedback: int
    layout: str
    auxiliary: str
    pruning: float
    mask: bytes
    importance: str
    frozen: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, seed: _Optional[int] = ..., steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., weight_decay: _Optional[float] = ..., max_grad_norm: _Optional[float] = ..., optimizer: _Optional[str] = ..., objective: _Optional[str] = ..., objective_params: _Optional[_Mapping[str, float]] = ..., rank: _Optional[int] = ..., codec: _Optional[str] = ..., version: _Optional[int] = ..., feedback: _Optional[int] = ..., layout: _Optional[str] = ..., auxiliary: _Optional[str] = ..., pruning: _Optional[float] = ..., mask: _Optional[bytes] = ..., importance: _Optional[str] = ..., frozen: _Optional[_Iterable[str]] = ...) -> None: ...

class Info(_message.Message):
    __slots__ = ("client", "node", "examples", "device", "memory_mb", "versions", "codecs", "objectives", "layout")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    client: str
    node: int
    examples: int
    device: str
    memory_mb: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    codecs: _containers.RepeatedScalarFieldContainer[str]
    objectives: _containers.RepeatedScalarFieldContainer[str]
    layout: str
    def __init__(self, client: _Optional[str] = ..., node: _Optional[int] = ..., examples: _Optional[int] = ..., device: _Optional[str] = ..., memory_mb: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., codecs: _Optional[_Iterable[str]] = ..., objectives: _Optional[_Iterable[str]] = ..., layout: _Optional[str] = ...) -> None: ...

class Section(_message.Message):
    __slots__ = ("name", "codec", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    codec: str
    bytes: int
    def __init__(self, name: _Optional[str] = ..., codec: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "reason")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
