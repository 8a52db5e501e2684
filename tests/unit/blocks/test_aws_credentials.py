"""The credentials are prefect-aws's own, also for who imports that package afterwards."""

import subprocess
import sys

LINES = """
import sys
import blocks.store
from blocks import aws_credentials as ours
print([name for name in sys.modules if name.startswith(("prefect_aws.workers", "prefect_aws.s3", "aiobotocore"))])
import prefect_aws
print(all(getattr(prefect_aws, name) is getattr(ours, name) for name in ours.__all__), bool(prefect_aws.S3Bucket))
"""


def test_the_credentials_are_those_of_the_package_without_the_rest_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", LINES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True True"]
