//! A server for `pipeline.sql` and `combined.sql`: sends trades in the format of Binance, and prints what it
//! receives.
//!
//! A connection to `/ws/...` receives the trades of `trades.ndjson`, one to `/stream?...` those of
//! `combined.ndjson`, one message each; each message to `/events` is printed as a line. It runs until Ctrl-C.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const TRADES: &str = include_str!("trades.ndjson");
const COMBINED: &str = include_str!("combined.ndjson");

#[allow(dead_code)] // Also a module of the tests.
fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:9443").await?;
        println!("serving {}; now run:", listener.local_addr()?);
        println!("  cargo run -- run examples/websocket/pipeline.sql");
        let (events, mut received) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, Duration::from_millis(200), events));
        while let Some(event) = received.recv().await {
            println!("{event}");
        }
        Ok(())
    })
}

/// Serves every connection: sends a trade every `pace`, and forwards received messages to `events`.
pub async fn serve(listener: TcpListener, pace: Duration, events: mpsc::UnboundedSender<String>) {
    let events = Arc::new(events);
    while let Ok((stream, _)) = listener.accept().await {
        let events = events.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, pace, &events).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn answer(
    stream: TcpStream,
    pace: Duration,
    events: &mpsc::UnboundedSender<String>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut path = String::new();
    // The size of the error is the library's choice.
    #[allow(clippy::result_large_err)]
    let look = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, look).await?;
    let trades = match path.as_str() {
        "/stream" => COMBINED,
        path if path.starts_with("/ws/") => TRADES,
        _ => "",
    };
    for trade in trades.lines() {
        socket.send(Message::text(trade)).await?;
        tokio::time::sleep(pace).await;
    }
    // Reads until the client closes, which also answers its pings.
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            events.send(text.to_string())?;
        }
    }
    Ok(())
}
