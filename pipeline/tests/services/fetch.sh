#!/bin/sh
# fetch.sh SERVER: fetches what a server of the tests consists of, checks it, and prints the folder it lies in.
# The jars come from Maven Central, by SERVER/pom.xml, once; SERVER/SHA256SUMS says what they have to be.
set -eu
server=$1
here=$(cd "$(dirname "$0")/$server" && pwd)
version=$(sed -n 's:^  <version>\(.*\)</version>$:\1:p' "$here/pom.xml")
folder=${AUTONOMOS_SERVICES:-$HOME/.cache/autonomos/services}/$server-$version
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9

whole() {
  [ -d "$folder/lib" ] || return 1
  [ "$(find "$folder/lib" -name '*.jar' | wc -l)" = "$(wc -l <"$here/SHA256SUMS")" ] || return 1
  (cd "$folder/lib" && sha256sum --quiet --strict --check "$here/SHA256SUMS") >&2
}

if ! whole; then
  command -v mvn >/dev/null || { echo "Maven is not installed (apt-get install maven)" >&2; exit 1; }
  rm -rf "$folder/lib"
  mvn --quiet --batch-mode --file "$here/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder/lib" >&2
  whole || { echo "the jars of $server $version are not the ones of $here/SHA256SUMS: nothing is started" >&2; exit 1; }
fi
echo "$folder/lib"
