#!/bin/sh
# fetch.sh SERVER: fetches what a server of the tests consists of, checks it, and prints the folder it lies in.
# The jars come from Maven Central, by SERVER/pom.xml, once; SERVER/SHA256SUMS says what they have to be. A download that fails
# is tried again, and of several that are wanted at once one follows the other: they share Maven's own folder.
set -eu
server=$1
here=$(cd "$(dirname "$0")/$server" && pwd)
version=$(sed -n 's:^  <version>\(.*\)</version>$:\1:p' "$here/pom.xml")
services=${AUTONOMOS_SERVICES:-$HOME/.cache/autonomos/services}
folder=$services/$server-$version
mkdir -p "$folder"
exec 9>"$services/lock"
flock 9

whole() {
  [ -d "$folder/lib" ] || return 1
  [ "$(find "$folder/lib" -name '*.jar' | wc -l)" = "$(wc -l <"$here/SHA256SUMS")" ] || return 1
  (cd "$folder/lib" && sha256sum --quiet --strict --check "$here/SHA256SUMS") >&2
}

download() {
  rm -rf "$folder/lib"
  mvn --quiet --batch-mode --file "$here/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder/lib" >&2
}

if ! whole; then
  command -v mvn >/dev/null || { echo "Maven is not installed (apt-get install maven)" >&2; exit 1; }
  download || { sleep 5; download; } || { sleep 30; download; }
  whole || { echo "the jars of $server $version are not the ones of $here/SHA256SUMS: nothing is started" >&2; exit 1; }
fi
echo "$folder/lib"
