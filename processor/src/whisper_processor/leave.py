"""`python -m whisper_processor.leave`: take this machine out of its fleet after a crash loop.

The machine then powers off. A machine without a fleet is stopped. A fleet would replace it with another machine,
which would crash as well; so the desired capacity is decremented, and the autoscaler waits before it tries again.
"""

from __future__ import annotations

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from whisper_processor.aws.instance import Fleet, Metadata

_CONFIG = Config(connect_timeout=5, read_timeout=5, retries={"max_attempts": 2})


def main() -> int:
    metadata = Metadata()
    group = metadata.group()
    if group is None:
        return 0
    try:
        client = boto3.session.Session(region_name=metadata.region).client("autoscaling", config=_CONFIG)
        Fleet(client, group).leave(metadata.instance_id)
    except (BotoCoreError, ClientError, HTTPError) as error:
        sys.stderr.write(f"this machine did not leave {group}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
