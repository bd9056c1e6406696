#!/bin/bash
# health.sh [PATH]     ends with 0 if the process of this container answers PATH, by default /healthz; /readyz for one that
#                      takes traffic by it. It speaks plain HTTP: with TLS in the server itself, give the container a check of its own.
exec 3<>/dev/tcp/127.0.0.1/7400 || exit 1
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${1:-/healthz}" >&3
read -r -t 4 version status rest <&3 && [ "$status" = 200 ]
