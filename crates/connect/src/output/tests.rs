//! What a lane gets from what a source emits: order, cuts, cursors, bounds.

use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::scripted::{handle, next, rest, show, start};
use crate::{End, SourceHandle};

const MOMENT: Duration = Duration::from_millis(1);

fn cursor(at: i64) -> Cursor {
    Cursor(at.into())
}

async fn all(source: &SourceHandle) -> Vec<String> {
    let mut items = start(source);
    rest(&mut items).await
}

#[tokio::test(start_paused = true)]
async fn frames_wait_for_company_until_the_source_waits() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            out.frame(b"bad").await?;
            out.frame(b"c").await?;
            tokio::time::sleep(MOMENT).await;
            out.frame(b"d").await?;
            Ok(End::Finished)
        })
    });
    assert_eq!(all(&source).await, ["a c <bad>", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_covers_its_delivery_and_no_row_more() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            out.cursor(cursor(1)).await?;
            out.frame(b"b").await?;
            out.cursor(cursor(2)).await?;
            out.frame(b"c").await?;
            tokio::time::sleep(MOMENT).await;
            out.cursor(cursor(3)).await?;
            out.frame(b"d").await?;
            Ok(End::Finished)
        })
    });
    assert_eq!(all(&source).await, ["a b @2", "c", "@3", "d"]);
}

#[tokio::test(start_paused = true)]
async fn everything_keeps_its_order() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            out.gap(Gap {
                reason: "lost".into(),
                from: None,
                to: None,
            })
            .await?;
            out.frame(b"b").await?;
            out.bad(Bad {
                bytes: b"x".into(),
                reason: "torn".into(),
            })
            .await?;
            out.frame(b"c").await?;
            out.origin(Some("there".into())).await?;
            out.frame(b"d").await?;
            out.origin(Some("there".into())).await?;
            out.frame(b"e").await?;
            Ok(End::Finished)
        })
    });
    assert_eq!(
        all(&source).await,
        ["a", "gap: lost", "b", "c <x>", "d e from there"]
    );
}

#[tokio::test(start_paused = true)]
async fn rows_and_their_cursor_are_one_delivery() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            let schema = crate::formats::tests::text_schema("line");
            let column = arrow::array::StringArray::from(vec!["a", "b"]);
            let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
            for at in 0..2 {
                out.rows(batch.clone()).await?;
                out.cursor(cursor(at)).await?;
            }
            Ok(End::Finished)
        })
    });
    assert_eq!(all(&source).await, ["a b @0", "a b @1"]);
}

#[tokio::test(start_paused = true)]
async fn other_columns_than_declared_are_refused() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            let schema = crate::formats::tests::text_schema("other");
            out.rows(RecordBatch::new_empty(schema)).await?;
            Ok(End::Finished)
        })
    });
    assert!(all(&source).await.is_empty());
    let reason = source.status().reason.unwrap();
    assert_eq!(
        &*reason,
        "the source emitted columns (other Utf8), declared are (line Utf8 NOT NULL)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_is_a_bad_row() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            out.frame(&[b'x'; 101]).await?;
            let mut frames = Frames::default();
            frames.push(b"b");
            frames.push(&[b'y'; 101]);
            frames.push(&[b'z'; 100]);
            out.frames(&mut frames).await?;
            assert!(frames.is_empty());
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    while let Some(Item::Rows(delivery)) = next(&mut items).await {
        good.extend(
            crate::scripted::lines(&delivery)
                .into_iter()
                .filter(|l| !l.starts_with('<')),
        );
        bad.extend(delivery.bad);
    }
    assert_eq!(good, ["a", "b", &"z".repeat(100)]);
    assert_eq!(bad.len(), 2);
    assert_eq!(bad[0].bytes.len(), 101);
    assert_eq!(
        bad[0].reason,
        "the frame has 101 bytes, the largest taken has 100"
    );
    assert_eq!(
        overlong(&[0; 100_000], 100_000, 10).bytes.len(),
        crate::BAD_COPY_MAX
    );
}

/// With a lane that takes nothing a source gets as far as one batch sent, one held by the driver,
/// one queued and one gathered.
#[tokio::test(start_paused = true)]
async fn a_lane_that_stalls_stops_the_source_and_loses_nothing() {
    let emitted = Arc::new(Mutex::new(0));
    let count = emitted.clone();
    let source = handle(move |_, out, _| {
        let count = count.clone();
        Box::pin(async move {
            for row in 0..100_000 {
                out.frame(format!("{row}").as_bytes()).await?;
                *count.lock().unwrap() = row;
            }
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*emitted.lock().unwrap(), 4 * 8_192 - 1);
    let got: Vec<String> = rest(&mut items).await;
    let rows = got.iter().flat_map(|batch| batch.split(' '));
    assert!(rows.eq((0..100_000).map(|row| row.to_string())));
    assert!(got.len() < 20, "{} deliveries", got.len());
}

#[tokio::test(start_paused = true)]
async fn a_slow_lane_makes_larger_batches() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            for row in 0..10 {
                out.frame(format!("{row}").as_bytes()).await?;
                tokio::time::sleep(MOMENT).await;
            }
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rest(&mut items).await, ["0", "1", "2 3 4 5 6 7 8 9"]);
}

#[tokio::test(start_paused = true)]
async fn the_tap_sees_every_frame() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tapped = seen.clone();
    let tap: Tap = Arc::new(move |bytes| tapped.lock().unwrap().push(bytes.to_vec()));
    let mut source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            let mut frames = Frames::default();
            frames.push(b"b");
            frames.push(b"c");
            out.frames(&mut frames).await?;
            out.frame(&[b'x'; 200]).await?;
            Ok(End::Finished)
        })
    });
    source.care.tap = Some(tap);
    all(&source).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen[..3], [b"a", b"b", b"c"]);
    assert_eq!(seen[3].len(), 200);
}

#[tokio::test(start_paused = true)]
async fn arrival_is_when_the_first_frame_came() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            out.frame(b"a").await?;
            out.frame(b"b").await?;
            tokio::time::sleep(MOMENT).await;
            out.frame(b"c").await?;
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    let mut arrivals = Vec::new();
    while let Some(item) = next(&mut items).await {
        let Item::Rows(delivery) = &item else {
            panic!("{}", show(&item))
        };
        arrivals.push(delivery.arrival_us);
    }
    assert!(arrivals[0] < arrivals[1]);
}

/// Something a source may do.
#[derive(Debug, Clone, Copy)]
enum Act {
    Frame,
    Frames(u8),
    BadFrame,
    Bad,
    Rows(u8),
    Cursor,
    Gap,
    Origin(bool),
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Frame),
        2 => (0u8..5).prop_map(Act::Frames),
        1 => Just(Act::BadFrame),
        1 => Just(Act::Bad),
        1 => (0u8..3).prop_map(Act::Rows),
        3 => Just(Act::Cursor),
        1 => Just(Act::Gap),
        1 => any::<bool>().prop_map(Act::Origin),
        2 => Just(Act::Wait),
    ]
}

/// What there should be: texts in order, and how many were emitted before each cursor.
#[derive(Debug, Default, PartialEq)]
struct Account {
    rows: Vec<String>,
    bad: Vec<String>,
    /// Rows and bad frames before each gap.
    gaps: Vec<usize>,
    /// By cursor: rows and bad frames before it.
    cursors: Vec<usize>,
    origins: Vec<bool>,
}

impl Account {
    fn count(&self) -> usize {
        self.rows.len() + self.bad.len()
    }
}

async fn perform(acts: &[Act], out: &mut Output, account: &Mutex<Account>) -> Result<()> {
    let mut origin = false;
    for (at, act) in acts.iter().enumerate() {
        let text = at.to_string();
        let texts = |count: u8| (0..count).map(|_| text.clone()).collect::<Vec<_>>();
        match *act {
            Act::Frame => out.frame(text.as_bytes()).await?,
            Act::Frames(count) => {
                let mut frames = Frames::default();
                texts(count)
                    .iter()
                    .for_each(|text| frames.push(text.as_bytes()));
                out.frames(&mut frames).await?;
            }
            Act::BadFrame => out.frame(b"bad").await?,
            Act::Bad => {
                out.bad(Bad {
                    bytes: b"bad".into(),
                    reason: "torn".into(),
                })
                .await?
            }
            Act::Rows(count) => {
                let column = Arc::new(arrow::array::StringArray::from(texts(count)));
                let schema = crate::formats::tests::text_schema("line");
                out.rows(RecordBatch::try_new(schema, vec![column]).unwrap())
                    .await?;
            }
            Act::Cursor => {
                let number = account.lock().unwrap().cursors.len() as i64;
                out.cursor(cursor(number)).await?;
            }
            Act::Gap => {
                out.gap(Gap {
                    reason: "gap".into(),
                    from: None,
                    to: None,
                })
                .await?
            }
            Act::Origin(there) => {
                out.origin(there.then(|| "there".into())).await?;
                origin = there;
            }
            Act::Wait => tokio::time::sleep(MOMENT).await,
        }
        let mut account = account.lock().unwrap();
        let emitted = match *act {
            Act::Frame => 1,
            Act::Frames(count) | Act::Rows(count) => count,
            _ => 0,
        };
        account.rows.extend(texts(emitted));
        account.origins.extend(vec![origin; emitted.into()]);
        let count = account.count();
        match act {
            Act::BadFrame | Act::Bad => account.bad.push("<bad>".into()),
            Act::Cursor => account.cursors.push(count),
            Act::Gap => account.gaps.push(count),
            _ => {}
        }
    }
    Ok(())
}

/// Checks what came against what was emitted, and the cursors by what came with and before them.
async fn compare(acts: Vec<Act>) {
    let emitted = Arc::new(Mutex::new(Account::default()));
    let account = emitted.clone();
    let source = handle(move |_, out, _| {
        let (acts, account) = (acts.clone(), account.clone());
        Box::pin(async move {
            perform(&acts, out, &account).await?;
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    let (mut came, mut last) = (Account::default(), None);
    while let Some(item) = next(&mut items).await {
        match item {
            Item::Rows(delivery) => {
                let lines = crate::scripted::lines(&delivery);
                let (bad, rows): (Vec<_>, Vec<_>) =
                    lines.into_iter().partition(|line| line.starts_with('<'));
                came.origins
                    .extend(vec![delivery.origin.is_some(); rows.len()]);
                came.rows.extend(rows);
                came.bad.extend(bad);
                if let Some(Cursor(at)) = delivery.cursor {
                    let at = at.as_u64().unwrap() as usize;
                    assert_eq!(
                        emitted.lock().unwrap().cursors[at],
                        came.count(),
                        "cursor {at}"
                    );
                    last = Some(at);
                }
            }
            Item::Gap(_) => came.gaps.push(came.count()),
            Item::Lifecycle(event) => panic!("{event:?}"),
        }
    }
    let mut emitted = emitted.lock().unwrap();
    assert_eq!(
        last.map(|at| at + 1).unwrap_or(0),
        emitted.cursors.len(),
        "the last cursor came"
    );
    emitted.cursors.clear();
    assert_eq!(came, *emitted);
}

proptest! {
    #[test]
    fn whatever_a_source_does_its_account_is_kept(acts in proptest::collection::vec(act(), 0..60)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(compare(acts));
    }
}

/// A source that never waits emits nothing but bad rows, or one behind each frame: what is gathered and queued stays
/// small.
#[tokio::test(start_paused = true)]
async fn bad_rows_are_bounded_as_frames_are() {
    for alternating in [false, true] {
        let (most, seen) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let noted = most.clone();
        let source = handle(move |_, out, _| {
            let noted = noted.clone();
            Box::pin(async move {
                for _ in 0..20_000 {
                    if alternating {
                        out.frame(b"a").await?;
                    }
                    let reason = "it was never good".to_owned();
                    let bytes = vec![0; 1_000];
                    out.bad(Bad { bytes, reason }).await?;
                    let gather = locked(&out.gather);
                    let held = gather.queued() * 1_000 + gather.bad_bytes();
                    drop(gather);
                    let mut most = locked(&noted);
                    *most = held.max(*most);
                }
                Ok(End::Finished)
            })
        });
        let mut items = start(&source);
        while let Some(item) = next(&mut items).await {
            if let Item::Rows(delivery) = item {
                *locked(&seen) += delivery.bad.len();
            }
        }
        assert_eq!(*locked(&seen), 20_000, "none is lost");
        let most = *locked(&most);
        assert!(most <= 2 << 20, "{most} bytes were held");
    }
}
