//! Rows of an Excel sheet as JSON objects.

use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{Cell, Data, DataRef, DataType, ExcelDateTime, Reader, Sheets, Xls, Xlsb, Xlsx};
use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use super::csv::{Header, put_json_text};
use super::cursor::Offset;
use super::fault::Fault;
use super::lines::TooLarge;
use super::reading::Rows;
use super::sink::Sink;

/// Rows that wait between the thread that unpacks the sheet and the batch.
const ROWS_WAITING: usize = 64;

/// Columns that a sheet can have.
const COLUMNS_MAX: u32 = 16_384;

struct Row {
    ordinal: u64,
    defect: Option<Reason>,
    payload: Vec<u8>,
}

/// The rows of a sheet: texts, numbers and booleans as such, dates as ISO 8601 text. The ordinal of a record is its row
/// number below the header; empty rows count but are no records.
pub(super) struct ExcelRows {
    rows: Receiver<Result<Row, Fault>>,
    waiting: Option<Result<Row, Fault>>,
    file: String,
    row: u64,
}

impl ExcelRows {
    /// Opens a workbook; its library can only be read from start to end, which a thread of its own does.
    pub(super) fn open(path: PathBuf, sheet: Option<String>) -> Result<Self, Fault> {
        let file = path.display().to_string();
        let (sender, rows) = sync_channel(ROWS_WAITING);
        std::thread::Builder::new().name("excel".into()).spawn(move || {
            // Damaged files can make the library panic; that is one file's error, no more.
            let read = catch_unwind(AssertUnwindSafe(|| read_sheet(&path, sheet, &sender)));
            let fault = match read {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Content("is a damaged Excel file".into()),
            };
            // Nobody listens any more when the source was dropped.
            let _ = sender.send(Err(fault));
        })?;
        Ok(Self { rows, waiting: None, file, row: 0 })
    }

    fn peek(&mut self) -> Option<&Result<Row, Fault>> {
        if self.waiting.is_none() {
            self.waiting = self.rows.recv().ok();
        }
        self.waiting.as_ref()
    }
}

impl Rows for ExcelRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        loop {
            self.peek();
            let row = match self.waiting.take() {
                None => return Ok(false),
                Some(Ok(row)) => row,
                Some(Err(fault)) => return Err(fault),
            };
            let taken = if row.payload.len() > RECORD_BYTES_MAX {
                let large = TooLarge::of(0, &row.payload).payload(&self.file, row.payload.len() as u64);
                sink.offer(row.ordinal, Some(Reason::RecordTooLarge), &large)?
            } else {
                sink.offer(row.ordinal, row.defect, &row.payload)?
            };
            if !taken {
                self.waiting = Some(Ok(row));
                return Ok(true);
            }
            self.row = row.ordinal;
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.peek().is_none())
    }

    fn place(&mut self) -> Offset {
        Offset { offset: 0, row: self.row, hash: 0, terminated: true, dialect: None }
    }
}

fn content(error: impl std::fmt::Display) -> Fault {
    Fault::Content(format!("is not readable as Excel: {error}"))
}

fn read_sheet(path: &Path, sheet: Option<String>, out: &SyncSender<Result<Row, Fault>>) -> Result<(), Fault> {
    let mut workbook = calamine::open_workbook_auto(path).map_err(content)?;
    let names = workbook.sheet_names();
    let name = match sheet {
        Some(name) if names.contains(&name) => name,
        Some(name) => return Err(Fault::Config(format!("has no sheet {name:?}; it has {}", names.join(", ")))),
        None => names.into_iter().next().ok_or_else(|| Fault::Content("has no sheet".into()))?,
    };
    let mut rows = SheetRows::new(out);
    match &mut workbook {
        Sheets::Xlsx(book) => read_xlsx(book, &name, &mut rows)?,
        Sheets::Xlsb(book) => read_xlsb(book, &name, &mut rows)?,
        Sheets::Xls(book) => read_xls(book, &name, &mut rows)?,
        Sheets::Ods(_) => return Err(Fault::Config("is an OpenDocument sheet; save it as xlsx or csv".into())),
    }
    rows.finish()
}

fn read_xlsx(book: &mut Xlsx<impl Read + Seek>, sheet: &str, rows: &mut SheetRows) -> Result<(), Fault> {
    // Cell by cell: a sheet's range would be as large as its farthest cell.
    let mut cells = book.worksheet_cells_reader(sheet).map_err(content)?;
    while let Some(cell) = cells.next_cell().map_err(content)? {
        rows.take(&cell)?;
    }
    Ok(())
}

fn read_xlsb(book: &mut Xlsb<impl Read + Seek>, sheet: &str, rows: &mut SheetRows) -> Result<(), Fault> {
    let mut cells = book.worksheet_cells_reader(sheet).map_err(content)?;
    while let Some(cell) = cells.next_cell().map_err(content)? {
        rows.take(&cell)?;
    }
    Ok(())
}

fn read_xls(book: &mut Xls<impl Read + Seek>, sheet: &str, rows: &mut SheetRows) -> Result<(), Fault> {
    let range = book.worksheet_range(sheet).map_err(content)?;
    let (top, left) = range.start().unwrap_or_default();
    for (row, column, value) in range.used_cells() {
        let at = (top + row as u32, left + column as u32);
        rows.take(&Cell::new(at, borrowed(value)))?;
    }
    Ok(())
}

fn borrowed(value: &Data) -> DataRef<'_> {
    match value {
        Data::Int(number) => DataRef::Int(*number),
        Data::Float(number) => DataRef::Float(*number),
        Data::String(text) => DataRef::SharedString(text),
        Data::Bool(flag) => DataRef::Bool(*flag),
        Data::DateTime(time) => DataRef::DateTime(*time),
        Data::DateTimeIso(text) => DataRef::DateTimeIso(text.clone()),
        Data::DurationIso(text) => DataRef::DurationIso(text.clone()),
        Data::Error(error) => DataRef::Error(error.clone()),
        Data::Empty => DataRef::Empty,
    }
}

/// Makes rows of cells that come row by row.
struct SheetRows<'a> {
    out: &'a SyncSender<Result<Row, Fault>>,
    /// The row of the header, once it is known.
    header: Option<(u32, Header)>,
    row: u32,
    /// Each cell of the row: its column and its value as JSON.
    cells: Vec<(u32, Vec<u8>)>,
}

impl<'a> SheetRows<'a> {
    fn new(out: &'a SyncSender<Result<Row, Fault>>) -> Self {
        Self { out, header: None, row: 0, cells: Vec::new() }
    }

    fn take(&mut self, cell: &Cell<DataRef<'_>>) -> Result<(), Fault> {
        let (row, column) = cell.get_position();
        if cell.get_value().is_empty() || column >= COLUMNS_MAX {
            return Ok(());
        }
        if row < self.row {
            return Err(Fault::Content("its rows are not in order".into()));
        }
        if row != self.row {
            self.end_row()?;
            self.row = row;
        }
        if self.cells.last().is_some_and(|(last, _)| *last >= column) {
            return Err(Fault::Content(format!("the cells of row {} are not in order", row + 1)));
        }
        let mut json = Vec::new();
        put_value(cell.get_value(), &mut json);
        self.cells.push((column, json));
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), Fault> {
        if self.cells.is_empty() {
            return Ok(());
        }
        let cells = std::mem::take(&mut self.cells);
        let Some((top, header)) = &self.header else {
            self.header = Some((self.row, header_of(&cells)?));
            return Ok(());
        };
        let ordinal = u64::from(self.row - top);
        let columns = header.pieces.len();
        let row = if cells.last().is_some_and(|(column, _)| *column as usize >= columns) {
            Row { ordinal, defect: Some(Reason::RowTooLong), payload: array(&cells) }
        } else {
            Row { ordinal, defect: None, payload: object(&cells, header) }
        };
        // The source was dropped: nobody needs the rest.
        self.out.send(Ok(row)).map_err(|_| Fault::Content("is not needed any more".into()))
    }

    fn finish(mut self) -> Result<(), Fault> {
        self.end_row()
    }
}

fn object(cells: &[(u32, Vec<u8>)], header: &Header) -> Vec<u8> {
    let mut json = Vec::new();
    let mut cells = cells.iter().peekable();
    for (column, piece) in header.pieces.iter().enumerate() {
        json.extend_from_slice(piece);
        match cells.next_if(|cell| cell.0 as usize == column) {
            Some((_, value)) => json.extend_from_slice(value),
            None => json.extend_from_slice(b"null"),
        }
    }
    json.push(b'}');
    json
}

/// A row that has no columns to be an object of: its cells.
fn array(cells: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let values: Vec<&[u8]> = cells.iter().map(|(_, value)| value.as_slice()).collect();
    let mut json = vec![b'['];
    json.extend_from_slice(&values.join(&b','));
    json.push(b']');
    json
}

fn header_of(cells: &[(u32, Vec<u8>)]) -> Result<Header, Fault> {
    let columns = cells.last().map_or(0, |(column, _)| column + 1);
    let mut names: Vec<String> = (1..=columns).map(|column| format!("column_{column}")).collect();
    for (column, json) in cells {
        let name = match serde_json::from_slice(json) {
            Ok(serde_json::Value::String(text)) => text.trim().to_string(),
            _ => String::from_utf8_lossy(json).into_owned(),
        };
        if let Some(slot) = names.get_mut(*column as usize)
            && !name.is_empty()
        {
            *slot = name;
        }
    }
    Header::named(&names)
}

fn put_value(value: &DataRef<'_>, out: &mut Vec<u8>) {
    match value {
        DataRef::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        DataRef::Float(number) => put_number(*number, out),
        DataRef::String(text) => put_text(text, out),
        DataRef::SharedString(text) => put_text(text, out),
        DataRef::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        DataRef::DateTime(time) => put_time(time, out),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => put_text(text, out),
        DataRef::Error(error) => put_text(&error.to_string(), out),
        DataRef::Empty => out.extend_from_slice(b"null"),
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    if text.is_empty() { out.extend_from_slice(b"null") } else { put_json_text(text, out) }
}

/// Excel keeps every number as a float; a whole one is written without a fraction.
fn put_number(number: f64, out: &mut Vec<u8>) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !number.is_finite() {
        out.extend_from_slice(b"null");
    } else if number.fract() == 0.0 && number.abs() < EXACT {
        out.extend_from_slice((number as i64).to_string().as_bytes());
    } else {
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

/// A day without a time of day is a date; a duration is a number of days, as Excel keeps it.
fn put_time(time: &ExcelDateTime, out: &mut Vec<u8>) {
    if time.is_duration() {
        return put_number(time.as_f64(), out);
    }
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second, milli) != (0, 0, 0, 0) {
        text.push_str(&format!("T{hour:02}:{minute:02}:{second:02}"));
        if milli != 0 {
            text.push_str(&format!(".{milli:03}"));
        }
    }
    put_json_text(&text, out);
}
