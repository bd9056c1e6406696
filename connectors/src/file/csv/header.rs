//! The header row: the names of the columns, as they stand in the JSON of every row.

use std::collections::HashSet;

use schemas::input::{DECLARED_FIELDS_MAX, DeclaredField};
use schemas::mapping::Path;

use super::super::fault::Fault;
use super::super::input::Input;
use super::dialect::Dialect;
use super::row::{Cells, put_json_text};
use super::split::{Row, RowFinder};

/// Columns of a file; more are surely no header.
const COLUMNS_MAX: usize = 100_000;

/// The columns of a file.
#[derive(Debug)]
pub(in super::super) struct Header {
    /// For each column what goes before its value: `{"name":` or `,"name":`.
    pub pieces: Vec<Box<[u8]>>,
    /// What the file says of its rows with it.
    pub declared: Option<Vec<DeclaredField>>,
}

impl Header {
    /// Takes the header off the input; `None` where the file has none (yet).
    pub(super) fn read(input: &mut Input, dialect: &mut Dialect, follow: bool) -> Result<Option<Self>, Fault> {
        loop {
            let span = match RowFinder::default().find(input, dialect, follow)? {
                Row::End => return Ok(None),
                Row::Whole(span) => span,
                Row::TooLong => return Err(Fault::Content("the header row is longer than 16 MiB".into())),
                Row::Broken(_) | Row::Unclosed(..) => {
                    return Err(Fault::Content("the header row cannot be taken apart: a quote is not closed".into()));
                }
            };
            let raw = dialect.without_line_end(&input.bytes()[..span.len]);
            if raw.is_empty() {
                input.consume(span.taken);
                continue;
            }
            let text = if input.is_lossy(raw) { None } else { dialect.decode(raw) };
            let text = text.ok_or_else(|| {
                Fault::Content("the header row is not valid in the file's encoding; give --encoding".into())
            })?;
            if memchr::memchr(0, raw).is_some() {
                return Err(Fault::Content(
                    "the header row has a NUL byte: the file is damaged, or in another encoding; then give --encoding"
                        .into(),
                ));
            }
            let header = Self::of(&text, dialect)?;
            input.consume(span.taken);
            return Ok(Some(header));
        }
    }

    /// The header of these names; an empty one is named by its place.
    pub(in super::super) fn named(names: &[String]) -> Result<Self, Fault> {
        let mut seen = HashSet::with_capacity(names.len());
        let mut pieces = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if !seen.insert(name) {
                return Err(Fault::Content(format!("the header names the column {name:?} twice; rename one of them")));
            }
            let mut piece = vec![if index == 0 { b'{' } else { b',' }];
            put_json_text(name, &mut piece);
            piece.push(b':');
            pieces.push(piece.into_boxed_slice());
        }
        Ok(Self { pieces, declared: declared(names) })
    }

    fn of(text: &str, dialect: &Dialect) -> Result<Self, Fault> {
        let mut names = Vec::new();
        for cell in Cells::new(text, dialect) {
            let cell = cell.map_err(|_| Fault::Content("the header row has a broken cell".into()))?;
            if names.len() == COLUMNS_MAX {
                return Err(Fault::Content(format!(
                    "the header has more than {COLUMNS_MAX} columns; is the delimiter or the line end another one?"
                )));
            }
            let name = cell.trim();
            names.push(if name.is_empty() { format!("column_{}", names.len() + 1) } else { name.to_string() });
        }
        Self::named(&names)
    }
}

/// The columns as a schema; nothing where they are too many, or one has no path.
fn declared(names: &[String]) -> Option<Vec<DeclaredField>> {
    let field = |name: &String| Some(DeclaredField { path: Path::member(name).ok()?.as_str().to_owned(), class: None });
    if names.len() > DECLARED_FIELDS_MAX { None } else { names.iter().map(field).collect() }
}
