"""prefect-aws's credentials alone: its package also imports a worker and five blocks, which takes half a second."""

import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

__all__ = ["AwsCredentials", "MinIOCredentials"]

if TYPE_CHECKING or "prefect_aws" in sys.modules:
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials
elif spec := find_spec("prefect_aws"):
    sys.modules["prefect_aws"] = module_from_spec(spec)  # its folder, with nothing of it run
    try:
        from prefect_aws.credentials import AwsCredentials, MinIOCredentials
    finally:
        del sys.modules["prefect_aws"]  # whoever imports it later gets the whole
