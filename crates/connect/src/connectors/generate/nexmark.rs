//! The three streams of the Nexmark benchmark: people who sell, auctions, and bids.
//!
//! Of every 50 events the first is a new person, the next 3 are new auctions, the other 46 are bids. Half
//! of the bids go to a hot auction, three quarters of the bidders and sellers are hot people; the others
//! are among the last 100 auctions and the last 1,000 people. This is the model of the Nexmark generator
//! of Apache Beam (Tucker, Tufte, Papadimos, Maier: NEXMark, a Benchmark for Queries over Data Streams),
//! with numbers of our own.
//!
//! A row of a table is the n-th event of its kind, and every field is a function of the seed and the
//! event's number. So the three tables of one seed fit together, in whatever order they are read.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::dice::Dice;
use super::rows::numbers;
use super::{Clockwork, Maker, NexmarkTable};
use crate::options::nearest;
use crate::{Error, Result};

/// Events in one round, and of each kind in it, in their order.
pub(super) const ROUND: u64 = 50;
const AUCTIONS: u64 = 3;
const BIDS: u64 = 46;

const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
/// The distance between two hot auctions or people.
const HOT_STEP: u64 = 100;
const LAST_AUCTIONS: u64 = 100;
const LAST_PEOPLE: u64 = 1_000;

const FIRST_NAMES: [&str; 11] = [
    "Ada",
    "Blaise",
    "Claude",
    "Dorothy",
    "Edsger",
    "Frances",
    "Grace",
    "Haskell",
    "Ivan",
    "John",
    "Katherine",
];
const LAST_NAMES: [&str; 9] = [
    "Bell", "Curry", "Hopper", "Knuth", "Lovelace", "Pascal", "Shannon", "Turing", "Wirth",
];
/// A city and its state.
const CITIES: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Redmond", "WA"),
    ("Seattle", "WA"),
    ("Kent", "WA"),
    ("Cheyenne", "WY"),
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// How a field is made.
#[derive(Clone, Copy)]
enum Make {
    Number(fn(&NexmarkEvent) -> u64),
    Text(fn(&NexmarkEvent, &mut String)),
    Time(fn(&NexmarkEvent) -> i64),
}

/// One field of a table.
type NexmarkColumn = (&'static str, Make);

const PERSON: &[NexmarkColumn] = &[
    ("id", Make::Number(|event| FIRST_ID + event.last_person())),
    ("name", Make::Text(person_name)),
    ("email_address", Make::Text(email_address)),
    ("credit_card", Make::Text(credit_card)),
    (
        "city",
        Make::Text(|event, text| text.push_str(event.dice(4).one_of(&CITIES).0)),
    ),
    (
        "state",
        Make::Text(|event, text| text.push_str(event.dice(4).one_of(&CITIES).1)),
    ),
    ("date_time", Make::Time(|event| event.time_us)),
    (
        "extra",
        Make::Text(|event, text| event.dice(5).letters(60, text)),
    ),
];

const AUCTION: &[NexmarkColumn] = &[
    ("id", Make::Number(|event| FIRST_ID + event.last_auction())),
    (
        "item_name",
        Make::Text(|event, text| event.letters(1, 20, text)),
    ),
    (
        "description",
        Make::Text(|event, text| event.letters(2, 100, text)),
    ),
    ("initial_bid", Make::Number(|event| event.price(3))),
    (
        "reserve",
        Make::Number(|event| event.price(3) + event.price(4)),
    ),
    ("date_time", Make::Time(|event| event.time_us)),
    ("expires", Make::Time(expires)),
    ("seller", Make::Number(|event| event.person(0))),
    (
        "category",
        Make::Number(|event| FIRST_CATEGORY + event.dice(6).below(5)),
    ),
    (
        "extra",
        Make::Text(|event, text| event.dice(7).letters(60, text)),
    ),
];

const BID: &[NexmarkColumn] = &[
    ("auction", Make::Number(bid_auction)),
    ("bidder", Make::Number(|event| event.person(1))),
    ("price", Make::Number(|event| event.price(2))),
    ("channel", Make::Text(channel)),
    ("url", Make::Text(url)),
    ("date_time", Make::Time(|event| event.time_us)),
    (
        "extra",
        Make::Text(|event, text| event.dice(4).letters(20, text)),
    ),
];

fn columns(table: NexmarkTable) -> &'static [NexmarkColumn] {
    match table {
        NexmarkTable::Person => PERSON,
        NexmarkTable::Auction => AUCTION,
        NexmarkTable::Bid => BID,
    }
}

/// The number of events of this kind in a round.
pub(super) fn share(table: NexmarkTable) -> u64 {
    match table {
        NexmarkTable::Person => 1,
        NexmarkTable::Auction => AUCTIONS,
        NexmarkTable::Bid => BIDS,
    }
}

/// The number of the event that is row `row` of its table.
fn event_number(table: NexmarkTable, row: u64) -> u64 {
    let before = match table {
        NexmarkTable::Person => 0,
        NexmarkTable::Auction => 1,
        NexmarkTable::Bid => 1 + AUCTIONS,
    };
    let share = share(table);
    (row / share) * ROUND + before + row % share
}

/// One event. Every field of its row is a function of this.
struct NexmarkEvent {
    seed: u64,
    number: u64,
    time_us: i64,
}

impl NexmarkEvent {
    fn dice(&self, field: u64) -> Dice {
        Dice::new(self.seed, self.number, field)
    }

    /// The number of people by now, less one.
    fn last_person(&self) -> u64 {
        self.number / ROUND
    }

    /// The number of auctions by now, less one; 0 while there is none.
    fn last_auction(&self) -> u64 {
        let in_round = (self.number % ROUND).min(AUCTIONS);
        ((self.number / ROUND) * AUCTIONS + in_round).saturating_sub(1)
    }

    /// Between 100 and 100 million, cheap ones as often as dear ones.
    fn price(&self, field: u64) -> u64 {
        (10f64.powf(self.dice(field).unit() * 6.0) * 100.0).round() as u64
    }

    /// A person: three times of four the hot one, which is number `hot` of its hundred.
    fn person(&self, hot: u64) -> u64 {
        let mut dice = self.dice(8);
        let last = self.last_person();
        let person = match dice.below(4) {
            0 => last - dice.below(last.min(LAST_PEOPLE - 1) + 1),
            _ => (last / HOT_STEP * HOT_STEP + hot).min(last),
        };
        FIRST_ID + person
    }

    /// Appends `about` letters, up to a fifth more or less.
    fn letters(&self, field: u64, about: u64, text: &mut String) {
        let mut dice = self.dice(field);
        let length = about - about / 5 + dice.below(about * 2 / 5 + 1);
        dice.letters(length, text);
    }
}

fn bid_auction(event: &NexmarkEvent) -> u64 {
    let mut dice = event.dice(0);
    let last = event.last_auction();
    let auction = match dice.below(2) {
        0 => last / HOT_STEP * HOT_STEP,
        _ => last - dice.below(last.min(LAST_AUCTIONS - 1) + 1),
    };
    FIRST_ID + auction
}

fn person_name(event: &NexmarkEvent, text: &mut String) {
    let mut dice = event.dice(1);
    text.push_str(dice.one_of(&FIRST_NAMES));
    text.push(' ');
    text.push_str(dice.one_of(&LAST_NAMES));
}

fn email_address(event: &NexmarkEvent, text: &mut String) {
    let mut dice = event.dice(2);
    dice.letters(7, text);
    text.push('@');
    dice.letters(5, text);
    text.push_str(".com");
}

fn credit_card(event: &NexmarkEvent, text: &mut String) {
    let mut dice = event.dice(3);
    for group in 0..4 {
        let blank = if group == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{blank}{:04}", dice.below(10_000));
    }
}

fn expires(event: &NexmarkEvent) -> i64 {
    event.time_us + 1_000_000 + event.dice(5).below(100_000_000) as i64
}

/// The hot channel of a bid, or the number of a rare one.
fn channel_of(event: &NexmarkEvent) -> Result<&'static str, u64> {
    let mut dice = event.dice(3);
    match dice.below(2) {
        0 => Ok(dice.one_of(&HOT_CHANNELS)),
        _ => Err(dice.below(CHANNELS)),
    }
}

fn channel(event: &NexmarkEvent, text: &mut String) {
    match channel_of(event) {
        Ok(hot) => text.push_str(hot),
        Err(number) => {
            let _ = write!(text, "channel-{number}");
        }
    }
}

fn url(event: &NexmarkEvent, text: &mut String) {
    text.push_str("https://www.nexmark.example/");
    event.dice(5).letters(5, text);
    text.push_str("/item.htm?query=1");
    if let Err(number) = channel_of(event) {
        let _ = write!(text, "&channel_id={number}");
    }
}

/// Makes the rows of one table.
pub(super) struct Nexmark {
    table: NexmarkTable,
    seed: u64,
    schema: SchemaRef,
    /// For each column of `schema`.
    makes: Vec<Make>,
}

impl Nexmark {
    /// The columns of a table.
    pub fn schema(table: NexmarkTable) -> SchemaRef {
        let fields = columns(table)
            .iter()
            .map(|(name, make)| Field::new(*name, data_type(make), false));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Some columns of a table, in any order, as the types declared.
    pub fn new(table: NexmarkTable, schema: SchemaRef, seed: u64) -> Result<Self> {
        let make = |field: &Arc<Field>| make_for(table, field);
        let makes = schema.fields().iter().map(make).collect::<Result<_>>()?;
        Ok(Self {
            table,
            seed,
            schema,
            makes,
        })
    }

    fn column(
        &self,
        at: usize,
        rows: Range<u64>,
        time: &Clockwork,
    ) -> Result<ArrayRef, ArrowError> {
        let event = |row| {
            let number = event_number(self.table, row);
            NexmarkEvent {
                seed: self.seed,
                number,
                time_us: time.event(number),
            }
        };
        let array = match self.makes[at] {
            Make::Number(make) => numbers::<Int64Type>(rows, |row| make(&event(row)) as i64),
            Make::Time(make) => numbers::<TimestampMicrosecondType>(rows, |row| make(&event(row))),
            Make::Text(make) => {
                let mut column = StringBuilder::new();
                let mut text = String::new();
                for row in rows {
                    text.clear();
                    make(&event(row), &mut text);
                    column.append_value(&text);
                }
                Arc::new(column.finish())
            }
        };
        cast(&array, self.schema.field(at).data_type())
    }
}

impl Maker for Nexmark {
    fn make(&self, rows: Range<u64>, time: &Clockwork) -> Result<RecordBatch, ArrowError> {
        let column = |at| self.column(at, rows.clone(), time);
        let columns = (0..self.makes.len())
            .map(column)
            .collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

fn make_for(table: NexmarkTable, field: &Field) -> Result<Make> {
    let columns = columns(table);
    let refuse = |reason| Error::UnusableColumn {
        column: field.name().clone(),
        reason,
    };
    let found = columns
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(field.name()));
    let Some((_, make)) = found else {
        let names = || columns.iter().map(|(name, _)| *name);
        let names_all = names().collect::<Vec<_>>().join(", ");
        let near = nearest(field.name(), names()).map(|name| format!(", did you mean {name}?"));
        let near = near.unwrap_or_default();
        return Err(refuse(format!(
            "the table {table} of Nexmark has {names_all}{near}"
        )));
    };
    let (from, to) = (data_type(make), field.data_type());
    if can_cast_types(&from, to) && !matches!(to, DataType::Boolean | DataType::Binary) {
        Ok(*make)
    } else {
        Err(refuse(format!("it is of type {from} and cannot be {to}")))
    }
}

fn data_type(make: &Make) -> DataType {
    match make {
        Make::Number(_) => DataType::Int64,
        Make::Text(_) => DataType::Utf8,
        Make::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}
