#!/bin/sh
# What `headwater run` costs while nothing arrives, and how soon the first row is there.
#
# The source is a command that says nothing (`sleep`), with a windowed query behind it. CPU is what
# the kernel has counted for the process in SECONDS (default 30), after 2 seconds to settle; memory is
# what is resident at the end. The first row is that of `echo`, from the start of the binary until
# the line is in the pipe: the median of 9 starts. The rival is `tail -f /dev/null`, which does nothing
# either, and for the first row `sh -c echo`.
#
# Run: sh benches/idle.sh [SECONDS]     HEADWATER=path/to/headwater to use another binary

set -eu
cd "$(dirname "$0")/.."
seconds=${1:-30}
headwater=${HEADWATER:-${CARGO_TARGET_DIR:-target}/release/headwater}
[ -x "$headwater" ] || cargo build --release -p headwater-server
folder=$(mktemp -d)
children=
trap 'kill $children 2>/dev/null || true; rm -rf "$folder"' EXIT

cat > "$folder/silent.sql" <<'SQL'
CREATE SOURCE silent (line VARCHAR NOT NULL, _arrival TIMESTAMP NOT NULL, WATERMARK FOR _arrival AS _arrival)
WITH (connector = 'process', command = 'sleep 1000000');
CREATE STREAM counted AS SELECT window_start, COUNT(*) AS n FROM silent
GROUP BY TUMBLE(_arrival, INTERVAL '1 second');
SQL
cat > "$folder/first.sql" <<'SQL'
CREATE SOURCE said (line VARCHAR NOT NULL) WITH (connector = 'process', command = 'echo first', mode = 'once');
CREATE STREAM heard AS SELECT line FROM said WHERE line = 'first';
SQL

# Hundredths of a second that process $1 has used.
ticks() { cut -d')' -f2 "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# Watches process $1, called $2.
watch() {
    sleep 2
    before=$(ticks "$1")
    sleep "$seconds"
    used=$(($(ticks "$1") - before))
    resident=$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/$1/status")
    awk -v name="$2" -v used="$used" -v s="$seconds" -v mib="$resident" 'BEGIN {
        printf "  %-28s %6.3f %% of a core over %d s, %.1f MiB resident\n", name, used / s, s, mib }'
}

# Milliseconds until the first line of a command, the median of 9 starts.
first() {
    name=$1
    shift
    for _ in 1 2 3 4 5 6 7 8 9; do
        before=$(date +%s%N)
        "$@" 2>/dev/null | head -n 1 > "$folder/line"
        [ -s "$folder/line" ] || { echo "no row came" >&2; exit 1; }
        echo $((($(date +%s%N) - before) / 1000))
    done | sort -n | awk -v name="$name" 'NR == 5 { printf "  %-28s %6.1f ms\n", name, $1 / 1000 }'
}

echo "idle (goal: under 0.5 % of a core)"
"$headwater" run "$folder/silent.sql" > /dev/null &
ours=$!
tail -f /dev/null &
theirs=$!
children="$ours $theirs"
watch "$ours" "headwater, silent source"
watch "$theirs" "tail -f /dev/null"
echo "from the start of the binary to the end of a pipeline of one row"
first "headwater run" "$headwater" run "$folder/first.sql"
first "sh -c echo" sh -c 'echo first'
