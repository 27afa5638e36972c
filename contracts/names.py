"""Names of things in AWS and on the appliance."""

PARAMETER_PREFIX = "/classreflect/whisper/config"
"""Settings of the appliance in Parameter Store, one parameter each, named like the environment variable."""
WANTED_PARAMETER = "/classreflect/whisper/processor/wanted"
"""Parameter that names the release every appliance should run (`whisper_processor.releases.Wanted` in JSON)."""
IMAGE_PARAMETER = "/classreflect/whisper/image-id"
"""Parameter in which `make ami` records the image to launch."""
DATABASE_SECRET = "classreflect/database/credentials"  # noqa: S105 - the secret's name
PROCESSOR_LOG_GROUP = "/classreflect/whisper/processor"

SERVICE = "whisper-processor"
"""The worker's systemd unit on the appliance."""
PRODUCT = "classreflect-whisper"
"""The dashboard's and the machines' name, and the beginning of alarms' and images' names, in the templates too."""
DRAIN_HOOK = "drain"
"""The fleet's lifecycle hook: an instance that is to end waits for its worker to complete it."""
DRAIN_HOOK_SECONDS = 300
"""How long the hook waits at most."""
