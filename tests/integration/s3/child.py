"""Send and prove an incident, as a run does from its seal on: `child.py BLOCK ENDPOINT BUCKET PREFIX`.

A process of its own: it may be killed. The keys come by KEY and SECRET.
"""

import os
import sys

from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3.store import S3Store
from blocks.workload import Workload
from tasks.custody.evidence import part_sizes
from tests.support.deliveries import proven, run_on, sent

MIB = 1 << 20
part_sizes.ABOVE, part_sizes.PART = 6 * MIB, 5 * MIB  # type: ignore[misc]  # as the tests have it
block, endpoint, bucket, prefix = sys.argv[1:]
keys = AwsCredentials(aws_access_key_id=os.environ["KEY"], aws_secret_access_key=SecretStr(os.environ["SECRET"]))
store = S3Store(bucket, prefix, credentials=keys, endpoint=endpoint, region="us-east-1")
with run_on(Workload.model_validate_json(block), store) as (context, seals):
    sent(context, seals)
    assert proven(context, seals).is_complete
