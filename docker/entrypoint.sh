#!/bin/sh
# entrypoint.sh COMMAND...: becomes `autonomos COMMAND...`. Processes of one cluster share a master key, and each looks for it
# in its data folder: the file that MASTER_KEY_FILE names is put there first.
set -eu
if [ -n "${MASTER_KEY_FILE:-}" ] && [ ! -e "$AUTONOMOS_DATA_DIR/master.key" ]; then
  install -m 600 "$MASTER_KEY_FILE" "$AUTONOMOS_DATA_DIR/master.key"
fi
exec autonomos "$@"
