#!/bin/bash
# health.sh [PORT]: ends with 0 if the server of this container answers /healthz. It speaks plain HTTP: with TLS in the server
# itself, give the container a check of its own.
exec 3<>"/dev/tcp/127.0.0.1/${1:-7400}" || exit 1
printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 version status rest <&3 && [ "$status" = 200 ]
