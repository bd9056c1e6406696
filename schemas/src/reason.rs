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
    ($($(#[$doc:meta])* $name:ident = $code:literal @ $stage:ident),* $(,)?) => {
        /// A stable reason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $($(#[$doc])* $name),* }

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
    RecordTooLarge = "record_too_large" @ Read,
    /// The bytes are not valid in the file's encoding.
    InvalidEncoding = "invalid_encoding" @ Read,
    /// A row has more cells than the header has columns.
    RowTooLong = "row_too_long" @ Read,
    /// A row could not be taken apart (an unclosed quote, a broken cell).
    MalformedRow = "malformed_row" @ Read,
    /// Not valid JSON.
    MalformedJson = "malformed_json" @ Parse,
    /// Valid JSON, but not an object.
    NotAnObject = "not_an_object" @ Parse,
    /// Nested deeper than 128 levels.
    TooDeep = "too_deep" @ Parse,
    /// More than 10,000 distinct paths in one record, or 100,000 in the stream.
    TooManyFields = "too_many_fields" @ Parse,
    /// A field name is longer than 1,024 bytes.
    FieldNameTooLong = "field_name_too_long" @ Parse,
    /// The same field twice in one object.
    DuplicateField = "duplicate_field" @ Parse,
    /// The stream was not opened, so nobody knows what its records are.
    StreamNotOpened = "stream_not_opened" @ Map,
    /// The record has no key.
    KeyMissing = "key_missing" @ Map,
    /// The key is no text, number or boolean, or is longer than 4,096 bytes.
    KeyUnreadable = "key_unreadable" @ Map,
    /// The stream has versions, this record has none.
    VersionMissing = "version_missing" @ Map,
    /// The version is not of the type that the stream was opened with.
    VersionUnreadable = "version_unreadable" @ Map,
    /// A required field is absent or null.
    RequiredMissing = "required_missing" @ Map,
    /// A value cannot be turned into its field's type without loss.
    CastFailed = "cast_failed" @ Map,
    /// The field that tells deletes has a value that is neither yes nor no.
    DeletedUnreadable = "deleted_unreadable" @ Map,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Reason {
    /// The reason with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
    /// The number on the wire: the place in [`Reason::ALL`], so new reasons go to the end of their own batch version.
    pub fn to_wire(self) -> u8 {
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
}
