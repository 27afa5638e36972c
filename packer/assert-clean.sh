#!/usr/bin/env bash
# Fails the bake when something of it is left that every machine of the image would share.
set -euo pipefail

complain() {
  echo "not clean: $1" >&2
  exit 1
}

compgen -G "/etc/ssh/ssh_host_*" >/dev/null && complain "SSH host keys"
[[ -s /etc/machine-id ]] && complain "/etc/machine-id is not empty"
[[ -n $(find /root /home -name authorized_keys -o -name .bash_history -o -name credentials -path "*/.aws/*") ]] &&
  complain "keys, credentials or a shell's history"
[[ -n $(find / -xdev -type d -path "*/.cache/pip") ]] && complain "a pip cache"
[[ -n $(find /var/log -type f -size +64k) ]] && complain "logs"
sync
echo "nothing of the bake is left"
