#!/usr/bin/env bash
# Waits until the machine's first boot is over: cloud-init has ended and nobody holds apt's locks.
set -euo pipefail

if command -v cloud-init >/dev/null; then
  # 2 means it ended with a warning, which is no reason not to bake.
  timeout 600 cloud-init status --wait >/dev/null || [[ $? -eq 2 ]]
fi
apt-get --quiet --quiet --option DPkg::Lock::Timeout=600 check
echo "the machine is settled"
