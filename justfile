# The commands of the project. `just` lists them.

default:
    @just --list

# Runs every test.
test:
    cargo test --workspace

# Everything that must pass before a change is merged.
ci:
    .ci/run

# The hello example: live data of this machine.
hello:
    cargo run --release -- run examples/hello/pipeline.sql

# All benchmarks, each with a rival in the same run; see docs/benchmarks.md.
bench:
    cargo bench -p headwater-ring --bench ring
    cargo bench -p headwater-log --bench append
    cargo bench -p headwater-connect --bench json
    cargo bench -p headwater
    sh benches/idle.sh

# Compares streaming results with those of DataFusion and PostgreSQL, for this number of random cases.
differential cases="20000":
    HEADWATER_DIFF_CASES={{cases}} .ci/postgres cargo test --release -p headwater --test differential -- --ignored --nocapture

# Crashes a database at every operation of a disk that loses unsynced writes.
disk:
    HEADWATER_DISK_ALL=1 cargo test -p headwater --test disk -- --nocapture

# Damages a data folder at random, this number of times, and checks that nothing is silently wrong.
damage damages="1000":
    HEADWATER_DAMAGES={{damages}} cargo test -p headwater --test disk random -- --nocapture

# Checks that memory, threads and files do not grow at half the top rate.
soak seconds="600":
    HEADWATER_SOAK_SECONDS={{seconds}} cargo bench -p headwater --bench soak

# Tests every interleaving of the ring.
loom:
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p headwater-ring --test loom

# Tests the ring under miri; needs a nightly toolchain.
miri:
    cargo +nightly miri test -p headwater-ring --test stress

# Kills a pipeline at random moments, this number of times, and checks that no row is lost or duplicated.
crash rounds="200":
    HEADWATER_CRASH_ROUNDS={{rounds}} cargo test -p headwater-server --test crash -- --nocapture

# Checks the dependencies for known vulnerabilities; downloads the advisory database.
advisories:
    cargo deny check advisories

# Builds the binary for release.
dist:
    cargo build --profile dist
