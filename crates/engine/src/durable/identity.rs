//! Which folder a log belongs to, and which log it is.
//!
//! A folder and each log have an id, drawn when they are created. The manifest names its folder and the ids
//! of its logs; the file `identity` in the folder of a log names both, the source and its columns; and the
//! checksums in the log cover its id. So a log of another folder, or of a source of the same name that was
//! dropped, is never taken for this one.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use arrow::datatypes::{Field, Schema};
use headwater_log::Disk;
use serde::{Deserialize, Serialize};

use super::files::{checked, read_file, replace_file, with_checksum};
use crate::dataflow::type_name;

/// The name of the file beside the segments of a log.
const NAME: &str = "identity";

/// The version of that file.
const FORMAT: u32 = 1;

/// A random number by which a folder or a log is known; as text 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

impl Id {
    /// An id that nothing else has. The standard library draws it as it does the seeds of its hash maps.
    pub fn fresh() -> Self {
        // 0 is that of a log without one.
        Self(RandomState::new().hash_one("id").max(1))
    }

    pub fn of(number: u64) -> Self {
        Self(number)
    }

    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(from)?;
        let number = u64::from_str_radix(&digits, 16);
        number.map(Self).map_err(serde::de::Error::custom)
    }
}

/// The file `identity` of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdentity {
    pub(super) format: u32,
    /// The folder that it belongs to.
    pub folder: Id,
    /// The id of the log itself.
    pub log: Id,
    /// The source whose rows it holds.
    pub source: String,
    /// The number of the last checkpoint before it was created.
    pub since: u64,
    pub columns: Vec<LogColumn>,
}

/// A column of the rows in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogColumn {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("it is missing")]
    Missing,
    #[error("it is damaged: its checksum does not match")]
    Checksum,
    #[error("it cannot be read: {0}")]
    Disk(io::Error),
    #[error("a later version of Headwater wrote it (format {found}); open the folder with that")]
    Newer { found: u32 },
}

impl LogIdentity {
    pub fn new(folder: Id, source: &str, since: u64, columns: &Schema) -> Self {
        Self {
            format: FORMAT,
            folder,
            log: Id::fresh(),
            source: source.to_owned(),
            since,
            columns: columns
                .fields()
                .iter()
                .map(|field| LogColumn::of(field))
                .collect(),
        }
    }

    /// Reads that of the log in this folder.
    pub fn read(disk: &dyn Disk, log: &Path) -> Result<Self, IdentityError> {
        let bytes = match read_file(disk, &log.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing);
            }
            bytes => bytes.map_err(IdentityError::Disk)?,
        };
        let json = checked(&bytes).ok_or(IdentityError::Checksum)?;
        #[derive(Deserialize)]
        struct IdentityFormat {
            format: u32,
        }
        let version = serde_json::from_slice(json).map(|it: IdentityFormat| it.format);
        match version {
            Ok(found) if found > FORMAT => Err(IdentityError::Newer { found }),
            _ => serde_json::from_slice(json).map_err(|_| IdentityError::Checksum),
        }
    }

    /// Writes it into the folder of the log, durable when this returns.
    pub fn write(&self, disk: &dyn Disk, log: &Path) -> io::Result<()> {
        disk.create_dir(log)?;
        replace_file(disk, log, NAME, with_checksum(self)?)
    }

    /// How `columns` differ from those of the log; `None` if they do not.
    pub fn difference(&self, columns: &Schema) -> Option<String> {
        let declared: Vec<_> = columns
            .fields()
            .iter()
            .map(|field| LogColumn::of(field))
            .collect();
        let pairs = self.columns.iter().zip(&declared);
        if let Some((held, said)) = pairs.into_iter().find(|(held, said)| held != said) {
            return Some(format!("its column {held} is declared as {said}"));
        }
        match (
            self.columns.get(declared.len()),
            declared.get(self.columns.len()),
        ) {
            (Some(held), _) => Some(format!("its column {held} is not declared")),
            (None, Some(said)) => Some(format!("it has no column {said}")),
            (None, None) => None,
        }
    }
}

impl LogColumn {
    fn of(field: &Field) -> Self {
        Self {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            nullable: field.is_nullable(),
        }
    }
}

impl fmt::Display for LogColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.nullable { "" } else { " NOT NULL" };
        write!(f, "{:?} {}{null}", self.name, self.data_type)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::datatypes::{DataType, Field, Schema};
    use headwater_log::lying::LyingDisk;

    use super::*;

    fn columns(types: &[DataType]) -> Schema {
        let fields = types.iter().enumerate();
        let fields =
            fields.map(|(n, data_type)| Field::new(format!("c{n}"), data_type.clone(), false));
        Schema::new(fields.collect::<Vec<_>>())
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_every_flipped_bit_is_noticed() {
        let (disk, log) = (LyingDisk::new(1), Path::new("/log"));
        assert!(matches!(
            LogIdentity::read(&disk, log),
            Err(IdentityError::Missing)
        ));
        let written = LogIdentity::new(Id::fresh(), "s", 3, &columns(&[DataType::Int64]));
        written.write(&disk, log).unwrap();
        assert_eq!(LogIdentity::read(&disk, log).unwrap(), written);
        let path = log.join(NAME);
        for bit in 0..disk.contents(&path).unwrap().len() as u64 * 8 {
            let damaged = disk.fork();
            damaged.flip(&path, bit / 8, (bit % 8) as u8);
            // Hexadecimal digits of either case are the same checksum.
            let read = LogIdentity::read(&damaged, log).ok();
            assert!(read.is_none() || read == Some(written.clone()), "bit {bit}");
        }
    }

    #[test]
    fn columns_that_differ_are_named() {
        let held = LogIdentity::new(
            Id::fresh(),
            "s",
            0,
            &columns(&[DataType::Int64, DataType::Utf8]),
        );
        assert_eq!(
            held.difference(&columns(&[DataType::Int64, DataType::Utf8])),
            None
        );
        for (declared, named) in [
            (vec![DataType::Int64], "\"c1\" Utf8"),
            (vec![DataType::Int32, DataType::Utf8], "\"c0\" Int32"),
            (
                vec![DataType::Int64, DataType::Utf8, DataType::Date32],
                "\"c2\" Date32",
            ),
        ] {
            let difference = held.difference(&columns(&declared)).unwrap();
            assert!(difference.contains(named), "{difference}");
        }
    }
}
