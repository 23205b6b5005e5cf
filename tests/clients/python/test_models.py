"""Schemas from a dataclass, a pydantic model and a msgspec Struct, and how their instances are written."""

import dataclasses
import enum
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
import pytest
from dataset_ingest import Dataset
from msgspec import Meta

MOMENT = datetime(2026, 6, 10, 10, 58, tzinfo=UTC)


class Plan(enum.Enum):
    """An enum of texts."""

    FREE = "free"
    PRO = "pro"


@dataclasses.dataclass
class Order:
    """A dataclass with a field of every type."""

    __dataset_id__: ClassVar[int] = 13

    text: str
    number: float
    integer: int
    boolean: bool
    moment: datetime
    day: date
    uid: uuid.UUID
    price: Annotated[Decimal, "decimal(10,2)"]
    state: Literal["open", "paid"]
    plan: Plan
    tags: list[str]
    numbers: list[float]
    anything: Any
    tree: dict[str, Any]
    score: Annotated[float, Meta(ge=0, le=100)]
    name: Annotated[str, Meta(min_length=1, max_length=9)] | None = None
    timestamp: datetime = MOMENT
    context: dict[str, Any] = dataclasses.field(default_factory=dict)


def test_a_dataclass_declares_every_type() -> None:
    dataset = Dataset.of(Order)
    assert dataset.id == 13
    assert dataset.declared() == {
        "text": "string",
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "moment": "timestamp",
        "day": "date",
        "uid": "uuid",
        "price": "decimal(10,2)",
        "state": {"type": "enum", "values": ["open", "paid"]},
        "plan": {"type": "enum", "values": ["free", "pro"]},
        "tags": "string[]",
        "numbers": "number[]",
        "anything": "json",
        "tree": "json",
        "score": {"type": "number", "minimum": 0, "maximum": 100},
        "name": {"type": "string", "optional": True, "min_length": 1, "max_length": 9},
    }


def test_an_instance_of_a_dataclass_matches_its_schema() -> None:
    uid = uuid.UUID(int=7)
    price = Decimal("12.50")
    order = Order("x", 1.5, 2, True, MOMENT, MOMENT.date(), uid, price, "open", Plan.PRO, ["a"], [1.0], None, {}, 50)
    text = Dataset.of(Order).records.encode(order)
    told = msgspec.json.decode(text)
    assert (told["price"], told["plan"], told["uid"], told["day"]) == ("12.50", "pro", str(uid), "2026-06-10")
    assert (told["name"], told["moment"]) == (None, "2026-06-10T10:58:00Z")


def test_a_pydantic_model_has_its_aliases_and_constraints() -> None:
    class Signup(pydantic.BaseModel):
        timestamp: datetime
        context: dict[str, Any]
        land: str = pydantic.Field(alias="country", min_length=2)
        amount: float | None = pydantic.Field(default=None, ge=0, description="in EUR")

    dataset = Dataset(1, Signup)
    assert dataset.declared() == {
        "country": {"type": "string", "min_length": 2},
        "amount": {"type": "number", "description": "in EUR", "optional": True, "minimum": 0},
    }
    text = dataset.records.encode(Signup(timestamp=MOMENT, context={}, country="RO"))
    assert msgspec.json.decode(text)["country"] == "RO"


def test_a_struct_has_its_names_in_json() -> None:
    class Signup(msgspec.Struct, rename="camel"):
        timestamp: datetime
        context: dict[str, Any]
        signup_at: datetime

    dataset = Dataset(1, Signup)
    assert dataset.declared() == {"signupAt": "timestamp"}
    assert b'"signupAt":' in dataset.records.encode(Signup(MOMENT, {}, MOMENT))


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (Decimal, "needs its digits"),
        (int | str, "has several types"),
        (bytes, "has no counterpart"),
        (list[bool], "no"),
    ],
)
def test_a_type_without_a_counterpart_is_an_error(hint: Any, message: str) -> None:
    model = dataclasses.make_dataclass("Model", [("field", hint)])
    with pytest.raises(TypeError, match=rf"Model\.field: .*{message}"):
        Dataset(1, model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": "text"}, "there is no type “text”"),
        ({"a": {"type": "enum"}}, "needs its values"),
        ({"a": {"type": "number", "max": 1}}, "unknown member “max”"),
        ({"a": "decimal(40,2)"}, "1 to 38 digits"),
        ({"a": {"type": "number", "minimum": "0"}}, "is not a value"),
    ],
)
def test_a_wrong_schema_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(1, fields)
