//! Payloads that a server compresses by itself, each binary message on its own.
//!
//! `deflate` is two formats in the wild: with a zlib wrapper (what the name means in HTTP) and raw.
//! The two header bytes tell them apart. Text messages are never compressed, and pass as they are.
//!
//! A small payload can inflate to terabytes, so reading stops at a limit. What cannot be inflated
//! is a bad frame, never the end of the connection; the caller tells it.

use std::io::Read;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the server compresses the payload of each binary message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The format of RFC 1952.
    Gzip,
    /// RFC 1951, with or without the zlib wrapper of RFC 1950.
    Deflate,
    /// The format of RFC 8878.
    Zstd,
}

/// Inflates payloads one after the other, into memory that it keeps.
#[derive(Debug, Clone)]
pub(super) struct Inflater {
    compression: Compression,
    out: Vec<u8>,
}

/// Memory that is kept from one payload to the next, bytes.
const KEPT_MAX: usize = 1 << 20;

impl Inflater {
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            out: Vec::new(),
        }
    }

    /// The bytes that were compressed, at most `limit`; or why that cannot be told, as a sentence for a person.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], String> {
        self.out.clear();
        self.out.shrink_to(KEPT_MAX);
        let name = match self.compression {
            Compression::Gzip => "gzip",
            Compression::Deflate => "deflate",
            Compression::Zstd => "zstd",
        };
        self.read(payload, limit)
            .map_err(|error| format!("the payload is not valid {name}: {error}"))?;
        if self.out.len() > limit {
            return Err(format!(
                "the {name} payload of {} bytes inflates to more than the limit of {limit} bytes",
                payload.len()
            ));
        }
        Ok(&self.out)
    }

    /// Reads one byte beyond the limit at most.
    fn read(&mut self, payload: &[u8], limit: usize) -> std::io::Result<usize> {
        let (out, most) = (&mut self.out, (limit as u64).saturating_add(1));
        match self.compression {
            Compression::Gzip => flate2::read::MultiGzDecoder::new(payload)
                .take(most)
                .read_to_end(out),
            Compression::Deflate if has_zlib_header(payload) => {
                flate2::read::ZlibDecoder::new(payload)
                    .take(most)
                    .read_to_end(out)
            }
            Compression::Deflate => flate2::read::DeflateDecoder::new(payload)
                .take(most)
                .read_to_end(out),
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(payload)?
                .take(most)
                .read_to_end(out),
        }
    }
}

/// RFC 1950: method 8, and the first two bytes are a multiple of 31.
fn has_zlib_header(payload: &[u8]) -> bool {
    matches!(payload, [cmf, flg, ..]
        if cmf & 0x0f == 8 && u16::from_be_bytes([*cmf, *flg]) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(bytes, 1).expect("a Vec takes everything")
    }

    type Case = (Compression, fn(&[u8]) -> Vec<u8>);
    const CASES: [Case; 4] = [
        (Compression::Gzip, gzip),
        (Compression::Deflate, zlib),
        (Compression::Deflate, raw_deflate),
        (Compression::Zstd, zstd),
    ];

    #[test]
    fn each_format_round_trips_and_keeps_to_the_limit() {
        let plain = br#"{"e":"trade","p":"50000.00"}"#.repeat(40);
        for (compression, compress) in CASES {
            let packed = compress(&plain);
            let exact = plain.len();
            let mut inflater = Inflater::new(compression);
            assert_eq!(inflater.inflate(&packed, exact), Ok(&plain[..]));
            let refused = inflater.inflate(&packed, exact - 1).map(<[u8]>::len);
            let reason = refused.expect_err("one byte too much");
            assert!(
                reason.contains(&format!("limit of {} bytes", exact - 1)),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_cut_payload_is_an_error_and_the_next_one_is_fine() {
        for (compression, compress) in CASES {
            let packed = compress(b"one two three one two three");
            let mut inflater = Inflater::new(compression);
            let cut = inflater
                .inflate(&packed[..packed.len() - 3], 1000)
                .map(<[u8]>::len);
            assert!(
                cut.expect_err("cut").contains("not valid"),
                "{compression:?}"
            );
            assert_eq!(
                inflater.inflate(&packed, 1000),
                Ok(&b"one two three one two three"[..])
            );
        }
    }

    #[test]
    fn a_payload_that_inflates_to_much_leaves_little_behind() {
        for (compression, compress) in CASES {
            let bomb = compress(&vec![0; 4 << 20]);
            let mut inflater = Inflater::new(compression);
            inflater.inflate(&bomb, 2 << 20).expect_err("too much");
            inflater.inflate(&compress(b"x"), 9).expect("a small one");
            let kept = inflater.out.capacity();
            assert!(kept <= KEPT_MAX, "{compression:?}: {kept} bytes are kept");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            for (compression, _) in CASES {
                Inflater::new(compression).inflate(&noise, 4096).map(<[u8]>::len).ok();
            }
        }
    }
}
