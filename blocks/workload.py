"""Define the workload block: what to evacuate and how to recognise it."""

from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import HttpUrl

from blocks.form import FormMade, logo
from blocks.quick_save import QuickSave
from blocks.workload_fields import WorkloadFields


class Workload(QuickSave, FormMade, Block, WorkloadFields):
    """A machine-learning workload on one host: an API and a training job under one root folder."""

    _block_type_name: ClassVar[str] = "Workload"
    _block_type_slug: ClassVar[str] = "workload"
    _description: ClassVar[str] = "What to evacuate: an API and a training job under one root folder on one host."
    _logo_url: ClassVar[HttpUrl | None] = logo("1f5a5")
    _code_example: ClassVar[str] = (
        'from blocks import Workload\n\nWorkload(root="/srv/mlops-sklearn-portfolio").save("portfolio")'
    )

    def save(self, *args: Any, **kwargs: Any) -> Any:
        """Save the block. Raises ValueError as `require_one_port` does."""
        self.require_one_port()
        return super().save(*args, **kwargs)
