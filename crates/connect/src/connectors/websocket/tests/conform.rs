//! The suite that every connector passes, against a server that says and hears numbers.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use async_trait::async_trait;
use futures_util::SinkExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::server::{Server, accept, next_data};
use super::{quick, rows, sink, spec};
use crate::conform::{self, SinkCase, SourceCase};
use crate::{Blueprint, Guarantee, Sink};

/// The external system of the present check.
struct ExternalSystem {
    server: Server,
    /// What the newest connection shall say.
    say: Arc<Mutex<mpsc::UnboundedSender<u64>>>,
    /// What all connections have heard.
    heard: Arc<Mutex<Vec<u64>>>,
    /// Cuts the newest connection.
    cut: Arc<Mutex<CancellationToken>>,
}

impl ExternalSystem {
    async fn new() -> Self {
        let say = Arc::new(Mutex::new(mpsc::unbounded_channel().0));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let (says, hears, cuts) = (say.clone(), heard.clone(), cut.clone());
        let server = Server::start(move |_, stream| {
            // Before the handshake: who is connected is heard and listened to.
            let (sender, numbers) = mpsc::unbounded_channel();
            *says.lock().expect("no panic") = sender;
            let cut = CancellationToken::new();
            *cuts.lock().expect("no panic") = cut.clone();
            let hears = hears.clone();
            async move {
                tokio::select! {
                    () = talk(stream, numbers, hears) => {}
                    () = cut.cancelled() => {}
                }
            }
        })
        .await;
        Self {
            server,
            say,
            heard,
            cut,
        }
    }
}

async fn talk(
    stream: TcpStream,
    mut numbers: mpsc::UnboundedReceiver<u64>,
    hears: Arc<Mutex<Vec<u64>>>,
) {
    let (mut socket, ..) = accept(stream).await;
    loop {
        tokio::select! {
            Some(number) = numbers.recv() => {
                if socket.send(Message::text(number.to_string())).await.is_err() {
                    return;
                }
            }
            message = next_data(&mut socket) => match message {
                Some(message) => {
                    let number = message.to_string().parse().expect("a number");
                    hears.lock().expect("no panic").push(number);
                }
                None => return,
            }
        }
    }
}

/// The external system of the check that runs now.
#[derive(Default)]
struct Case(tokio::sync::Mutex<Option<ExternalSystem>>);

impl Case {
    async fn renew(&self) -> String {
        let system = ExternalSystem::new().await;
        let url = system.server.url();
        *self.0.lock().await = Some(system);
        url
    }

    async fn with<T>(&self, look: impl FnOnce(&ExternalSystem) -> T) -> T {
        look(self.0.lock().await.as_ref().expect("fresh comes first"))
    }

    async fn cut(&self) -> bool {
        self.with(|system| system.cut.lock().expect("no panic").cancel())
            .await;
        true
    }
}

#[async_trait]
impl SourceCase for Case {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        spec(&quick(&self.renew().await))
    }

    async fn produce(&self, mut rows: Range<u64>) {
        self.with(|system| {
            let say = system.say.lock().expect("no panic");
            rows.try_for_each(|number| say.send(number))
                .expect("a connection");
        })
        .await;
    }

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        let lines = rows.column(0).as_string::<i32>().iter().flatten();
        lines.map(|line| line.parse().expect("a number")).collect()
    }

    async fn cut(&self) -> bool {
        self.cut().await
    }
}

#[async_trait]
impl SinkCase for Case {
    async fn fresh(&self) -> Box<dyn Sink> {
        Box::new(sink(&quick(&self.renew().await)))
    }

    async fn again(&self) -> Box<dyn Sink> {
        let url = self.with(|system| system.server.url()).await;
        Box::new(sink(&quick(&url)))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn rows(&self, numbers: Range<u64>) -> RecordBatch {
        let lines: Vec<_> = numbers.map(|number| number.to_string()).collect();
        rows(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn received(&self) -> Vec<u64> {
        self.with(|system| system.heard.lock().expect("no panic").clone())
            .await
    }

    async fn cut(&self) -> bool {
        self.cut().await
    }
}

#[tokio::test]
async fn the_source_conforms() {
    conform::source(&Case::default()).await;
}

#[tokio::test]
async fn the_sink_conforms() {
    conform::sink(&Case::default()).await;
}
