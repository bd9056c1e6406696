//! Why a record was quarantined: stable codes that programs may rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The step of the line at which a record was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineStage {
    /// The connector could not make a record of the bytes.
    Read,
    /// The payload is not what its format allows.
    Parse,
    /// The payload does not fit the mapping.
    Map,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal $code:literal @ $stage:ident),* $(,)?) => {
        /// A stable reason code. Its number stands on the wire and never changes; a new reason takes the next one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name = $number),* }

        impl Reason {
            /// Every reason, in the order of the line.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The code, as programs see it.
            pub const fn code(self) -> &'static str { match self { $(Self::$name => $code),* } }
            /// Where on the line it is found.
            pub const fn stage(self) -> QuarantineStage { match self { $(Self::$name => QuarantineStage::$stage),* } }
        }
    };
}

reasons! {
    /// Larger than 16 MiB; only the beginning is kept, the source pointer names the rest.
    RecordTooLarge = 0 "record_too_large" @ Read,
    /// The bytes are not valid in the file's encoding.
    InvalidEncoding = 1 "invalid_encoding" @ Read,
    /// A row has more cells than the header has columns.
    RowTooLong = 2 "row_too_long" @ Read,
    /// A row could not be taken apart (an unclosed quote, a broken cell).
    MalformedRow = 3 "malformed_row" @ Read,
    /// A row of text has a NUL byte: most databases and readers of text refuse it, or stop there.
    NulByte = 19 "nul_byte" @ Read,
    /// Not valid JSON.
    MalformedJson = 4 "malformed_json" @ Parse,
    /// Valid JSON, but not an object.
    NotAnObject = 5 "not_an_object" @ Parse,
    /// Nested deeper than 128 levels.
    TooDeep = 6 "too_deep" @ Parse,
    /// More new paths than 10,000 or 1 MiB in one record, or more than 100,000 paths or 8 MiB of names in the stream.
    TooManyFields = 7 "too_many_fields" @ Parse,
    /// A field name is longer than 1,024 bytes.
    FieldNameTooLong = 8 "field_name_too_long" @ Parse,
    /// A field's name with those of all objects around it is longer than 4,096 bytes.
    PathTooLong = 18 "path_too_long" @ Parse,
    /// The same field twice in one object.
    DuplicateField = 9 "duplicate_field" @ Parse,
    /// The stream was not opened, so nobody knows what its records are.
    StreamNotOpened = 10 "stream_not_opened" @ Map,
    /// The record has no key.
    KeyMissing = 11 "key_missing" @ Map,
    /// The key is no text, number or boolean, or is longer than 4,096 bytes.
    KeyUnreadable = 12 "key_unreadable" @ Map,
    /// The stream has versions, this record has none.
    VersionMissing = 13 "version_missing" @ Map,
    /// The version is not of the type that the stream was opened with.
    VersionUnreadable = 14 "version_unreadable" @ Map,
    /// A required field is absent or null.
    RequiredMissing = 15 "required_missing" @ Map,
    /// A value cannot be turned into its field's type without loss.
    CastFailed = 16 "cast_failed" @ Map,
    /// The field that tells deletes has a value that is neither yes nor no.
    DeletedUnreadable = 17 "deleted_unreadable" @ Map,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Reason {
    /// The reason with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.to_wire() == number)
    }
    /// The number on the wire.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_from_its_number_and_its_code() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_wire(reason.to_wire()), Some(*reason));
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.code()));
        }
    }

    #[test]
    fn reasons_have_the_numbers_and_codes_that_they_always_had() {
        let line = |r: &Reason| format!("{} {} {:?}\n", r.to_wire(), r.code(), r.stage());
        let mut all = Reason::ALL.to_vec();
        all.sort_by_key(|r| r.to_wire());
        let lines: String = all.iter().map(line).collect();
        assert_eq!(lines, include_str!("../golden/reasons.txt"));
    }
}
