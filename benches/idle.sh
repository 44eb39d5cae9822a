#!/bin/sh
# The cost of `headwater run` while no rows arrive, and the time of a pipeline of one row.
#
# The idle source is a command without output (`sleep`), read by a windowed query. CPU is the kernel's
# count for the process over SECONDS (default 30), after 2 seconds to settle; memory is the resident
# size at the end. The one row is that of `echo`; the time is that from the start of the binary to its
# end, the median of 9 starts. The rivals are `tail -f /dev/null`, which is idle too, and `sh -c echo`.
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
CREATE SOURCE echoed (line VARCHAR NOT NULL) WITH (connector = 'process', command = 'echo first', mode = 'once');
CREATE STREAM passed AS SELECT line FROM echoed WHERE line = 'first';
SQL

# CPU time of process $1, hundredths of a second.
ticks() { cut -d')' -f2 "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# Measures process $1 and prints the result under the name $2.
watch() {
    sleep 2
    before=$(ticks "$1")
    sleep "$seconds"
    used=$(($(ticks "$1") - before))
    resident=$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/$1/status")
    awk -v name="$2" -v used="$used" -v s="$seconds" -v mib="$resident" 'BEGIN {
        printf "  %-28s %6.3f %% of a core over %d s, %.1f MiB resident\n", name, used / s, s, mib }'
}

# Milliseconds from the start of a command to its end, the median of 9 starts.
first() {
    name=$1
    shift
    for _ in 1 2 3 4 5 6 7 8 9; do
        before=$(date +%s%N)
        "$@" 2>/dev/null | head -n 1 > "$folder/line"
        [ -s "$folder/line" ] || { echo "no row arrived" >&2; exit 1; }
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
