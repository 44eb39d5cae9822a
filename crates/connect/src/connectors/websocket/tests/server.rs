//! A websocket server on loopback that does exactly what a test tells it, good or bad.
//!
//! A test gives a closure that plays one connection; it gets the number of the connection (from 0)
//! and the raw TCP stream, and may shake hands properly ([`accept`]), answer in plain HTTP
//! ([`answer`]), shake hands and then write any bytes ([`accept_raw`]), or do nothing at all. What a
//! test wants to know of it, it sends through a channel of its own. Nothing here sleeps.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// A running server; it ends with the test.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Plays every connection with `play`, each in its own task.
    pub async fn start<F, P>(play: F) -> Self
    where
        F: Fn(usize, TcpStream) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        Self::on(listener, play)
    }

    /// The same on a socket that was bound before.
    pub fn on<F, P>(listener: TcpListener, play: F) -> Self
    where
        F: Fn(usize, TcpStream) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("a bound socket");
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(play(number, stream));
            }
        });
        Self { address, task }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/feed", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Shakes hands and tells the path and headers of the request; agrees to the first subprotocol.
pub async fn accept<S>(stream: S) -> (WebSocketStream<S>, String, HeaderMap)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let seen = Arc::new(Mutex::new(None));
    let told = seen.clone();
    #[expect(
        clippy::result_large_err,
        reason = "the signature is that of the library"
    )]
    let look =
        move |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            if let Some(asked) = request.headers().get("Sec-WebSocket-Protocol") {
                let first = asked
                    .to_str()
                    .unwrap_or_default()
                    .split(',')
                    .next()
                    .unwrap_or_default();
                let first = HeaderValue::from_str(first).expect("it came in a header");
                response
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", first);
            }
            let seen = (request.uri().to_string(), request.headers().clone());
            *told.lock().expect("no panic") = Some(seen);
            Ok(response)
        };
    let socket = tokio_tungstenite::accept_hdr_async(stream, look)
        .await
        .expect("a handshake");
    let (path, headers) = seen.lock().expect("no panic").take().expect("a request");
    (socket, path, headers)
}

/// Shakes hands, then leaves the protocol: what is written is up to the test.
pub async fn accept_raw(stream: TcpStream) -> TcpStream {
    accept(stream).await.0.into_inner()
}

/// Reads the request and answers it in plain HTTP.
pub async fn answer(mut stream: TcpStream, response: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    stream
        .write_all(response.as_bytes())
        .await
        .expect("a client that listens");
    stream.shutdown().await.ok();
    until_closed(stream).await;
}

/// Reads and forgets until the client has closed.
pub async fn until_closed(mut stream: TcpStream) {
    let mut forgotten = [0; 4096];
    while let Ok(1..) = stream.read(&mut forgotten).await {}
}

/// Reads frames until the Close, and returns it; answers pings and the Close.
pub async fn read_close<S>(socket: &mut WebSocketStream<S>) -> Option<CloseFrame>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut close = None;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(frame) = message {
            close = frame;
        }
    }
    close
}

/// The next text or binary message.
pub async fn next_data<S>(socket: &mut WebSocketStream<S>) -> Option<Message>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            return Some(message);
        }
    }
    None
}

pub fn text(text: &str) -> Message {
    Message::text(text)
}

/// Sends one message, then keeps the connection until the client closes it.
pub async fn serve(stream: TcpStream, message: Message) {
    let (mut socket, ..) = accept(stream).await;
    socket.send(message).await.expect("a client that listens");
    read_close(&mut socket).await;
}
