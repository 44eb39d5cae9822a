//! Connector `websocket`: messages of a websocket server come in as frames, rows go out as messages.
//!
//! ```text
//!   source: Dialer --> Socket --> frames --> Output          sink: rows --> queue --> link --> server
//! ```
//!
//! `connect` opens and closes connections for both directions, `policy` says whether a failure is
//! worth another attempt, `pulse` when a silent server counts as dead. Both directions reconnect by
//! themselves, by the user's `reconnect.*`: the source because it knows the interval it missed, the
//! sink because it keeps what the server has not confirmed. An error that the source returns is
//! fatal, so the wrapper's own backoff never acts on it. The sink returns one when it has given up
//! reconnecting; what then becomes of its rows, and when it is to try again, is said by `error.*`.
//!
//! A server may be hostile: what it makes us queue is bounded in `wire`, what it says is shown without control
//! characters, and a wait that it asks for has a limit.
//!
//! There is no permessage-deflate (the library has none; `compression` is for payloads), and no
//! server role.

mod ack;
mod connect;
mod link;
mod options;
mod payload;
mod policy;
mod pulse;
mod queue;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use crate::options::{ByteSize, Checked, OptionSet};
use crate::{
    Connector, Error, Guarantee, Result, Sink, SinkArgs, SinkKind, Source, SourceArgs, SourceKind,
};

use options::{WebsocketSinkOptions, WebsocketSourceOptions};

pub const CONNECTOR: Connector = Connector {
    name: "websocket",
    summary: "messages from and to a websocket server",
    source: Some(SourceKind {
        options: OptionSet::of::<WebsocketSourceOptions>(),
        formats: FORMATS,
        max_frame: ByteSize::mib(64),
        columns: SourceKind::declared_columns,
        create: create_source,
    }),
    sink: Some(SinkKind {
        options: OptionSet::of::<WebsocketSinkOptions>(),
        formats: FORMATS,
        guarantee,
        reaches,
        create: create_sink,
    }),
};

const FORMATS: &[&str] = &["json", "text", "bytes"];

fn create_source(args: SourceArgs<'_>) -> Result<Box<dyn Source>> {
    let options: WebsocketSourceOptions = args.options.get()?;
    Ok(Box::new(source::WebsocketSource::new(options.settings()?)))
}

/// A queue that drops when it is full makes no promise.
fn guarantee(options: &Checked) -> Guarantee {
    match options.get::<WebsocketSinkOptions>() {
        Ok(options) if options.blocks() => Guarantee::AtLeastOnce,
        _ => Guarantee::AtMostOnce,
    }
}

fn reaches(options: &Checked) -> Option<&'static str> {
    match options.get::<WebsocketSinkOptions>() {
        Ok(options) if options.acknowledged() => Some(
            "the server's program acknowledges rows (ack.match); those it has not acknowledged when a \
             connection is lost are sent again as well",
        ),
        _ => Some(
            "rows reach the server's websocket library, whose pong confirms them perhaps before its program has \
             read them; ack.match lets the program confirm",
        ),
    }
}

fn create_sink(args: SinkArgs<'_>) -> Result<Box<dyn Sink>> {
    let options: WebsocketSinkOptions = args.options.get()?;
    let encoder = args.encoder.ok_or(Error::NoEncoder)?;
    let mut settings = options.settings(args.strategy.is_some())?;
    settings.ack = options.ack(&args.schema, args.format)?;
    Ok(Box::new(sink::WebsocketSink::new(settings, encoder)))
}
