#!/bin/sh
# run.sh FOLDER COMMAND...: runs a server for as long as its standard input is open, then ends it at once and removes its
# folder, unless it was told to `keep` it. Whoever started it holds the other end, so that it is gone with them however
# they go, and finds in server.pid whether the server lives.
folder=$1
shift
cd "$folder" || exit 1
"$@" >>server.log 2>&1 </dev/null &
server=$!
echo "$server" >server.pid
said=$(cat)
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
cd / && [ "$said" = keep ] || rm -rf "$folder"
