#!/bin/bash
# health.sh            ends with 0 if the server of this container answers /healthz. It speaks plain HTTP: with TLS in the server
#                      itself, give the container a check of its own.
# health.sh PORT...    for a process without doors: if it has a connection to each of these ports, its servers'.
if [ $# -gt 0 ]; then
  for port in "$@"; do
    # A line of these files ends its remote address with the port, and 01 is an open connection.
    grep -qiE ":$(printf '%04X' "$port") 01 " /proc/net/tcp /proc/net/tcp6 || exit 1
  done
  exit 0
fi
exec 3<>/dev/tcp/127.0.0.1/7400 || exit 1
printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 version status rest <&3 && [ "$status" = 200 ]
