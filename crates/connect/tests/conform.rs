//! Every connector passes the suite of `headwater_connect::conform`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use headwater_connect::conform::{self, SourceCase};
use headwater_connect::options::Given;
use headwater_connect::{Blueprint, Connectors};

/// Makes its rows by itself, as fast as they are taken.
struct Generate;

#[async_trait]
impl SourceCase for Generate {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let options = [Given::new("rows_per_second", 0)];
        let spec = Connectors::builtin().source("generate", &options, Some(Arc::new(columns)), &[]);
        Arc::new(spec.unwrap_or_else(|rejection| panic!("{rejection}")))
    }

    async fn produce(&self, _: Range<u64>) {}

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        let column = rows.column(0).as_primitive::<Int64Type>();
        column
            .values()
            .iter()
            .map(|&number| number as u64)
            .collect()
    }
}

#[tokio::test]
async fn generate() {
    conform::source(&Generate).await;
}
