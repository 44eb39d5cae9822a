//! What the byte ring does: wrap, overtaking, waiting, closing, and many readers at once.
//!
//! The model is the plain `Vec` of all bytes ever written: what a reader gets must lie in it at the reader's position,
//! and the bytes that it reports as missed must make up the difference.
#![cfg(not(loom))]

mod support;

use std::io::Write;
use std::time::Duration;

use headwater_ring::{ByteRead, ByteRing, ConfigError};
use proptest::prelude::*;
use support::watch;

fn ring(capacity: usize) -> ByteRing {
    ByteRing::new(capacity).unwrap()
}

#[test]
fn a_ring_of_no_bytes_is_refused() {
    assert_eq!(ByteRing::new(0).unwrap_err(), ConfigError::NoBytes);
}

#[test]
fn a_reader_begins_with_the_oldest_or_with_now() {
    let mut ring = ring(4);
    ring.write_all(b"abcdef").unwrap();
    let (mut oldest, mut now) = (ring.reader(), ring.reader_from_now());
    let mut buffer = [0; 8];
    assert_eq!(oldest.try_read(&mut buffer), ByteRead::Bytes(4));
    assert_eq!(&buffer[..4], b"cdef");
    assert_eq!(now.try_read(&mut buffer), ByteRead::Empty);
    ring.write_all(b"g").unwrap();
    assert_eq!(now.try_read(&mut buffer), ByteRead::Bytes(1));
    assert_eq!((buffer[0], now.position()), (b'g', 7));
}

#[test]
fn a_slow_reader_learns_how_much_it_missed() {
    let mut ring = ring(4);
    let mut reader = ring.reader();
    ring.write_all(b"abcdefg").unwrap();
    let mut buffer = [0; 3];
    assert_eq!(
        reader.try_read(&mut buffer),
        ByteRead::Overtaken { missed: 3 }
    );
    assert_eq!(reader.try_read(&mut buffer), ByteRead::Bytes(3));
    assert_eq!(&buffer, b"def");
}

#[test]
fn the_tail_is_what_was_written_last() {
    let mut ring = ring(4);
    assert_eq!(ring.tail(3), b"");
    ring.write_all(b"ab").unwrap();
    assert_eq!(ring.tail(9), b"ab");
    ring.write_all(b"cdef").unwrap();
    assert_eq!(ring.tail(9), b"cdef");
    assert_eq!(ring.tail(2), b"ef");
    assert_eq!((ring.total_written(), ring.capacity()), (6, 4));
}

#[test]
fn after_a_close_readers_get_the_rest_and_writers_an_error() {
    let mut ring = ring(4);
    let mut reader = ring.reader();
    ring.write_all(b"ab").unwrap();
    ring.close();
    assert_eq!(
        ring.write(b"c").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
    let mut buffer = [0; 8];
    assert_eq!(reader.read(&mut buffer, None), ByteRead::Bytes(2));
    assert_eq!(reader.read(&mut buffer, None), ByteRead::Closed);
}

#[test]
fn a_wait_ends_with_bytes_with_the_close_or_in_time() {
    let _watchdog = watch("no reader was woken by bytes and by the close");
    let ring = ring(4);
    let mut buffer = [0; 8];
    assert_eq!(
        ring.reader()
            .read(&mut buffer, Some(Duration::from_millis(1))),
        ByteRead::Empty
    );
    let mut reader = ring.reader();
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 8];
        (
            reader.read(&mut buffer, None),
            reader.read(&mut buffer, None),
        )
    });
    (&ring).write_all(b"x").unwrap();
    ring.close();
    assert_eq!(
        reading.join().unwrap(),
        (ByteRead::Bytes(1), ByteRead::Closed)
    );
}

#[test]
fn readers_that_race_a_writer_see_every_byte_or_learn_how_many_they_missed() {
    let _watchdog = watch("the readers had not seen the close");
    let total: u64 = if cfg!(miri) { 2_000 } else { 200_000 };
    let ring = ring(1000);
    let reading: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = ring.reader();
            std::thread::spawn(move || {
                let (mut buffer, mut position) = ([0; 77], 0u64);
                loop {
                    match reader.read(&mut buffer, None) {
                        ByteRead::Bytes(count) => {
                            for byte in &buffer[..count] {
                                assert_eq!(*byte, (position % 251) as u8);
                                position += 1;
                            }
                        }
                        ByteRead::Overtaken { missed } => position += missed,
                        ByteRead::Empty => panic!("a wait without a limit timed out"),
                        ByteRead::Closed => return position,
                    }
                }
            })
        })
        .collect();
    let bytes: Vec<u8> = (0..total).map(|n| (n % 251) as u8).collect();
    bytes
        .chunks(97)
        .for_each(|chunk| (&ring).write_all(chunk).unwrap());
    ring.close();
    reading
        .into_iter()
        .for_each(|thread| assert_eq!(thread.join().unwrap(), total));
}

proptest! {
    #[test]
    fn it_holds_the_end_of_what_was_written(
        capacity in 1usize..40,
        writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
        tail in 0usize..50,
    ) {
        let mut ring = ring(capacity);
        let mut reader = ring.reader();
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        for write in writes {
            ring.write_all(&write).unwrap();
            all.extend_from_slice(&write);
            prop_assert_eq!(ring.tail(tail), &all[all.len() - tail.min(capacity).min(all.len())..]);
            let before = reader.position();
            match reader.try_read(&mut buffer) {
                ByteRead::Bytes(count) => prop_assert_eq!(&buffer[..count], &all[before as usize..][..count]),
                ByteRead::Overtaken { missed } => prop_assert_eq!(before + missed, (all.len() - capacity) as u64),
                ByteRead::Empty => prop_assert_eq!(before, all.len() as u64),
                ByteRead::Closed => prop_assert!(false, "nobody closed it"),
            }
        }
    }
}
