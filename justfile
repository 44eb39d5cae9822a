# What there is to run. `just` lists it.

default:
    @just --list

# Every test.
test:
    cargo test --workspace

# All that must hold before a change lands.
ci:
    .ci/run

# The example on live data of this machine.
hello:
    cargo run --release -- run examples/hello/pipeline.sql

# Speed, each beside its rival in the same run; see docs/benchmarks.md.
bench:
    cargo bench -p headwater-ring --bench ring
    cargo bench -p headwater-log --bench append
    cargo bench -p headwater-connect --bench json
    cargo bench -p headwater
    sh benches/idle.sh

# Streaming equals batch, for as many random cases as given.
differential cases="20000":
    HEADWATER_DIFF_CASES={{cases}} cargo test --release -p headwater --test differential -- --nocapture

# A database on a disk that lies, crashed at every operation.
disk:
    HEADWATER_DISK_ALL=1 cargo test -p headwater --test disk -- --nocapture

# Whether memory, threads and files stay as they are at half the top rate.
soak seconds="600":
    HEADWATER_SOAK_SECONDS={{seconds}} cargo bench -p headwater --bench soak

# Every interleaving of the ring.
loom:
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p headwater-ring --test loom

# The ring under miri; needs a nightly toolchain.
miri:
    cargo +nightly miri test -p headwater-ring --test stress

# Killed at random moments, so many times, a pipeline loses nothing and writes nothing twice.
crash rounds="200":
    HEADWATER_CRASH_ROUNDS={{rounds}} cargo test -p headwater-server --test crash -- --nocapture

# Known vulnerabilities in what we build with; fetches a database.
advisories:
    cargo deny check advisories

# The binary as it is handed out.
dist:
    cargo build --profile dist
