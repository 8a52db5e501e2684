"""Results that Prefect cached under a former class path are still read as what they are."""

import pytest
from prefect.utilities.importtools import from_qualified_name

import tasks.runtime.step  # noqa: F401  it makes the former names known
from tasks.custody.containment.cordon import Challenge, Cordon
from tasks.custody.containment.receipt import Freeze
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.store.latest import Promotion
from tasks.custody.store.receipts import Receipts
from tasks.custody.store.sent import Sent


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ("tasks.custody.evidence.Evidence", Evidence),
        ("tasks.custody.receipt.Freeze", Freeze),
        ("tasks.custody.receipt.Cordon", Cordon),
        ("tasks.custody.containment.receipt.Challenge", Challenge),
        ("tasks.custody.receipt.Receipts", Receipts),
        ("tasks.custody.containment.receipt.Receipts", Receipts),
        ("tasks.custody.turn.Promotion", Promotion),
        ("tasks.offload.Sent", Sent),
    ],
)
def test_a_former_class_path_leads_to_the_class_of_today(former: str, today: type) -> None:
    assert from_qualified_name(former) is today
