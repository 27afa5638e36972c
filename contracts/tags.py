"""Keys of tags on instances and images. Formats of their values: `hold`, `heartbeat`, and `autoscaler.tags`."""

ROLE_TAG = "classreflect:role"
ROLE_PROCESSOR = "whisper-processor"
"""Value of the role tag on every machine that transcribes."""
HOLD_TAG = "classreflect:hold"
HEARTBEAT_TAG = "classreflect:heartbeat"
PROCESSOR_TAG = "classreflect:processor"
"""The release of the worker that runs on the instance."""
AUTOSCALER_TAG = "classreflect:autoscaler"
"""What the autoscaler remembers of the instance from one tick to the next."""
REPLACEMENT_TAG = "classreflect:roll"
"""On an instance that an image replacement has on trial, or that leaves after it. Nobody else starts, stops or
reports on such an instance."""
LAUNCHED_BY_TAG = "classreflect:launched-by"
STACK_TAG = "classreflect:stack"

GROUP_TAG = "aws:autoscaling:groupName"
"""EC2 Auto Scaling's own tag: the group the instance belongs to. An instance without it is a single appliance."""

IMAGE_PROCESSOR_TAG = "classreflect:processor-version"
IMAGE_REVISION_TAG = "classreflect:git-revision"

MAX_VALUE_LENGTH = 256
"""Characters that EC2 allows in a tag's value."""
