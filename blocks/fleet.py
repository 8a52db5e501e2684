"""Define the fleet block: which hosts are evacuated by one trigger, and on what terms."""

from typing import ClassVar, Literal, Self

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, model_validator

from blocks.described import Described, wrong_value
from blocks.form import FormMade, logo
from blocks.quick_save import QuickSave


class Fleet(QuickSave, FormMade, Described, Block):
    """Hosts that one trigger evacuates: workloads by name, or all evacuations with a tag."""

    _block_type_name: ClassVar[str] = "Fleet"
    _block_type_slug: ClassVar[str] = "fleet"
    _description: ClassVar[str] = "Hosts that one trigger evacuates, and on what terms."
    _logo_url: ClassVar[HttpUrl | None] = logo("1f5c2")
    _code_example: ClassVar[str] = (
        'from blocks import Fleet\n\nFleet(workloads=["gpu001", "gpu002"], store="fleet").save("lab")'
    )

    workloads: list[str] = Field(default=[])
    """Names of workloads that are deployed; one that is not is named, and not left out."""
    tag: str = ""
    """Tag of deployments: all evacuations that have it belong to the fleet."""
    store: str = Field(min_length=1)
    """Name of the Evidence Store block that gets the fleet's record, below fleets/."""
    order_seconds: float = Field(default=3600, gt=0, le=604_800)
    """How long an order stands for a host that does not answer."""
    ask_after_seconds: float = Field(default=900, ge=0, le=604_800)
    """A host that begins later than this freezes and looks, and then asks a person."""
    ask_above: int | None = Field(default=None, ge=0)
    """Above so many hosts all are frozen at once, and a person has to approve that they are stopped. Nobody is asked if
    empty."""
    ask_seconds: float = Field(default=900, gt=0, le=86400)
    """How long to wait for that person."""
    unanswered: Literal["stop", "thaw"] = "stop"
    """What is done if nobody has answered by then."""
    senders: int = Field(default=16, ge=0, le=10_000)
    """How many hosts may send at once: a host waits for its turn, 30 s at most. No limit if 0."""

    @model_validator(mode="after")
    def _names_hosts(self) -> Self:
        if not self.workloads and not self.tag:
            cure = "Give workloads=, the names of workload blocks, or tag=, a tag of their deployments"
            raise wrong_value("workloads or a tag", "neither", cure)
        return self
