"""When credentials end: what nothing renews is no Ready, and a role is asked before it is judged."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session

from tasks.custody.incident.readiness import Finding
from tasks.readiness.store import check_expiry

KEYS = {"access_key": "AKIANOBODYKNOWSTHIS1", "secret_key": "secret", "token": "token"}


class Identity:
    """Credentials as a block has them, that botocore gets in another way."""

    def __init__(self, keys: Any) -> None:
        """Whatever botocore would have found."""
        self.keys = keys

    def get_boto3_session(self) -> boto3.Session:
        """A session with these keys."""
        session: Any = Session()
        session._credentials = self.keys
        return boto3.Session(botocore_session=session)


def role(refresh: Callable[[], dict[str, str]]) -> Identity:
    return Identity(DeferredRefreshableCredentials(refresh_using=refresh, method="assume-role"))


def fresh() -> dict[str, str]:
    return {**KEYS, "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}


def denied() -> dict[str, str]:
    raise NoCredentialsError


def looked(credentials: Identity | None, promoter: Identity | None = None) -> Finding:
    block = SimpleNamespace(bucket="b", credentials=credentials, promoter=promoter)
    return check_expiry(SimpleNamespace(block=block, seen=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hours", "weight"), [(1, "fatal"), (23, "fatal"), (30, "loss")], ids=["tonight", "this night", "tomorrow"]
)
def test_temporary_keys_of_the_environment_are_renewed_by_nobody(
    monkeypatch: pytest.MonkeyPatch, hours: int, weight: str
) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    given = {
        "AWS_ACCESS_KEY_ID": KEYS["access_key"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret_key"],
        "AWS_SESSION_TOKEN": KEYS["token"],
        "AWS_CREDENTIAL_EXPIRATION": ends,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = looked(None)
    assert (found.weight, "nothing renews them" in found.found) == (weight, True), found.found
    monkeypatch.delenv("AWS_CREDENTIAL_EXPIRATION")
    assert "do not tell when they end" in looked(None).found


def test_a_role_is_asked_before_it_is_judged() -> None:
    found = looked(role(fresh))
    assert (found.weight, "renewed by themselves" in found.found) == ("sound", True), found.found
    found = looked(role(denied))
    assert (found.weight, "no keys are to be had" in found.found) == ("fatal", True), found.found


def test_the_promoters_keys_are_looked_at_too() -> None:
    found = looked(role(fresh), role(denied))
    assert found.weight == "fatal"
    assert found.found.startswith("the promoter's assume-role: ")
