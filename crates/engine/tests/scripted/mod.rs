//! A connector that executes the orders of the test: it emits rows, fails, panics, blocks, ends.
//!
//! `CREATE SOURCE a WITH (connector = 'scripted', script = 'x')` executes the orders of
//! `Script::new("x")`; those that a run has not executed wait for the next run. Names of scripts are
//! unique within one test program, so each test uses names of its own.

#![allow(dead_code)] // Each test program uses some of it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use headwater::arrow::array::{Int64Array, RecordBatch};
use headwater::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater::connect::options::{ByteSize, Checked, OptionSet, Options};
use headwater::connect::{
    self, Connector, Connectors, Cursor, End, Error, Gap, Lifecycle, Output, Retry, Source,
    SourceArgs, SourceKind,
};
use headwater::{Builder, Db};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
enum Order {
    Row(i64),
    Gap,
    Fail,
    GiveUp,
    Panic,
    Block,
    Finish,
}

type Orders = Arc<tokio::sync::Mutex<UnboundedReceiver<Order>>>;

/// The cursor that each run began with.
type Begun = Arc<Mutex<Vec<Option<i64>>>>;

static SCRIPTS: LazyLock<Mutex<HashMap<String, (Orders, Begun)>>> = LazyLock::new(Mutex::default);

/// Sends orders to the sources of this script.
pub struct Script {
    orders: UnboundedSender<Order>,
    begun: Begun,
}

impl Script {
    pub fn new(name: &str) -> Self {
        let (orders, taken) = unbounded_channel();
        let begun = Begun::default();
        let taken = Arc::new(tokio::sync::Mutex::new(taken));
        let script = (taken, Arc::clone(&begun));
        SCRIPTS.lock().unwrap().insert(name.to_owned(), script);
        Self { orders, begun }
    }

    /// Emits one row, and the cursor after it.
    pub fn row(&self, n: i64) {
        self.order(Order::Row(n));
    }

    /// Reports that rows may have been missed.
    pub fn gap(&self) {
        self.order(Order::Gap);
    }

    /// Fails with an error that a retry can fix.
    pub fn fail(&self) {
        self.order(Order::Fail);
    }

    /// Fails for good.
    pub fn give_up(&self) {
        self.order(Order::GiveUp);
    }

    pub fn panic(&self) {
        self.order(Order::Panic);
    }

    /// Blocks for ever, and ignores the stop signal.
    pub fn block(&self) {
        self.order(Order::Block);
    }

    /// The input ends.
    pub fn finish(&self) {
        self.order(Order::Finish);
    }

    /// The cursor that each run so far began with.
    pub fn begun(&self) -> Vec<Option<i64>> {
        self.begun.lock().unwrap().clone()
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("scripts are kept");
    }
}

/// A database that knows the connector `scripted`.
pub fn builder() -> Builder {
    let mut connectors = Connectors::builtin();
    connectors.register(SCRIPTED).unwrap();
    Db::builder().connectors(connectors)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScriptedOptions {
    /// The script whose orders are executed.
    script: String,
}

impl Options for ScriptedOptions {}

const SCRIPTED: Connector = Connector {
    name: "scripted",
    summary: "what the test orders",
    source: Some(SourceKind {
        options: OptionSet::of::<ScriptedOptions>(),
        formats: &[],
        max_frame: ByteSize(0),
        columns: |_: &Checked, _| Ok(Some(columns())),
        create: |args: SourceArgs<'_>| {
            let options: ScriptedOptions = args.options.get()?;
            let scripts = SCRIPTS.lock().unwrap();
            let (orders, begun) = scripts.get(&options.script).expect("a script of this name");
            Ok(Box::new(Scripted {
                orders: Arc::clone(orders),
                begun: Arc::clone(begun),
                cursor: args.cursor,
            }))
        },
    }),
    sink: None,
};

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

struct Scripted {
    orders: Orders,
    begun: Begun,
    cursor: Option<Cursor>,
}

#[async_trait]
impl Source for Scripted {
    async fn validate(&self) -> connect::Result<()> {
        Ok(())
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> connect::Result<End> {
        let cursor = self.cursor.take().and_then(|Cursor(at)| at.as_i64());
        self.begun.lock().unwrap().push(cursor);
        let mut orders = self.orders.lock().await;
        let to = "the test".to_owned();
        out.lifecycle(Lifecycle::Connected { to }).await?;
        loop {
            let order = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                order = orders.recv() => order,
            };
            match order {
                Some(Order::Row(n)) => {
                    let column = Arc::new(Int64Array::from(vec![n]));
                    out.rows(RecordBatch::try_new(columns(), vec![column]).unwrap())
                        .await?;
                    out.cursor(Cursor(n.into())).await?;
                }
                Some(Order::Gap) => {
                    out.gap(Gap {
                        reason: "the test looked away".to_owned(),
                        from: Some("1".to_owned()),
                        to: None,
                    })
                    .await?;
                }
                Some(Order::Fail) => {
                    return Err(Error::Unreachable {
                        target: "the test".to_owned(),
                        reason: "it says no".to_owned(),
                        retry: Retry::Backoff,
                    });
                }
                Some(Order::GiveUp) => return Err(Error::Options("the test gives up".into())),
                Some(Order::Panic) => panic!("the test panics"),
                Some(Order::Block) => std::future::pending().await,
                Some(Order::Finish) | None => return Ok(End::Finished),
            }
        }
    }

    fn supports_incremental(&self) -> bool {
        true
    }
}
