//! Rows of an Excel sheet as JSON objects.

mod guard;

use std::io::{BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{Cell, DataRef, DataType, ExcelDateTime, Reader, Xlsb, Xlsx};
use schemas::input::DeclaredField;
use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use self::guard::Workbook;
use super::csv::{Header, put_json_text};
use super::fault::Fault;
use super::handle::Part;
use super::lines::TooLarge;
use super::reading::Rows;
use super::sink::Sink;

/// Bytes of rows that are handed over at once. Two such handfuls wait between the thread that unpacks the sheet and the
/// batch; a row that is larger is a handful of its own.
const HANDFUL_BYTES: usize = 256 << 10;

/// Columns that a sheet can have.
const COLUMNS_MAX: u32 = 16_384;

struct Row {
    ordinal: u64,
    defect: Option<Reason>,
    payload: Vec<u8>,
}

/// What the thread that unpacks the sheet hands over.
enum Handful {
    Header(Option<Vec<DeclaredField>>),
    Rows(Vec<Row>),
    Fault(Fault),
}

/// The rows of a sheet: texts, numbers and booleans as such, dates as ISO 8601 text. The ordinal of a record is its row
/// number below the header; empty rows count but are no records.
pub(super) struct ExcelRows {
    rows: Receiver<Handful>,
    waiting: std::vec::IntoIter<Row>,
    /// A row that the last batch had no room for.
    next: Option<Row>,
    fault: Option<Fault>,
    file: String,
    declared: Option<Vec<DeclaredField>>,
}

impl ExcelRows {
    /// Opens a workbook; its library can only be read from start to end, which a thread of its own does.
    pub(super) fn open(bytes: BufReader<Part>, file: String, sheet: Option<String>) -> Result<Self, Fault> {
        let (sender, rows) = sync_channel(1);
        let name = file.clone();
        std::thread::Builder::new().name("excel".into()).spawn(move || {
            // Damaged files can make the library panic; that is one file's error, no more.
            let read = catch_unwind(AssertUnwindSafe(|| read_sheet(bytes, name, sheet, &sender)));
            let fault = match read {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Content("is a damaged Excel file".into()),
            };
            // Nobody listens any more when the source was dropped.
            let _ = sender.send(Handful::Fault(fault));
        })?;
        Ok(Self { rows, waiting: Vec::new().into_iter(), next: None, fault: None, file, declared: None })
    }

    /// Makes sure that the next row is there, if there is one.
    fn peek(&mut self) -> Option<&Row> {
        while self.next.is_none() && self.fault.is_none() {
            self.next = self.waiting.next();
            if self.next.is_none() {
                match self.rows.recv() {
                    Ok(Handful::Header(declared)) => self.declared = declared,
                    Ok(Handful::Rows(rows)) => self.waiting = rows.into_iter(),
                    Ok(Handful::Fault(fault)) => self.fault = Some(fault),
                    Err(_) => break,
                }
            }
        }
        self.next.as_ref()
    }
}

impl Rows for ExcelRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        while self.peek().is_some() {
            let Some(row) = self.next.take() else {
                break;
            };
            let taken = if row.payload.len() > RECORD_BYTES_MAX {
                let large = TooLarge::of(0, &row.payload).payload(&self.file, row.payload.len() as u64);
                sink.offer(row.ordinal, Some(Reason::RecordTooLarge), &large)?
            } else {
                sink.offer(row.ordinal, row.defect, &row.payload)?
            };
            if !taken {
                self.next = Some(row);
                return Ok(true);
            }
        }
        self.fault.take().map_or(Ok(false), Err)
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.peek().is_none() && self.fault.is_none())
    }

    fn declared(&self) -> Option<&[DeclaredField]> {
        self.declared.as_deref()
    }
}

fn content(error: impl std::fmt::Display) -> Fault {
    Fault::Content(format!("is not readable as Excel: {error}"))
}

fn read_sheet(
    bytes: BufReader<Part>,
    file: String,
    sheet: Option<String>,
    out: &SyncSender<Handful>,
) -> Result<(), Fault> {
    let mut rows = SheetRows::new(file, out);
    match guard::check(bytes.get_ref().clone())? {
        Workbook::Xlsx => {
            let mut book = Xlsx::new(bytes).map_err(content)?;
            let name = sheet_name(book.sheet_names(), sheet)?;
            read_xlsx(&mut book, &name, &mut rows)?;
        }
        Workbook::Xlsb => {
            let mut book = Xlsb::new(bytes).map_err(content)?;
            let name = sheet_name(book.sheet_names(), sheet)?;
            read_xlsb(&mut book, &name, &mut rows)?;
        }
    }
    rows.finish()
}

fn sheet_name(names: Vec<String>, wanted: Option<String>) -> Result<String, Fault> {
    match wanted {
        Some(name) if names.contains(&name) => Ok(name),
        Some(name) => Err(Fault::Config(format!("has no sheet {name:?}; it has {}", names.join(", ")))),
        None => names.into_iter().next().ok_or_else(|| Fault::Content("has no sheet".into())),
    }
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

/// Makes rows of cells that come row by row.
struct SheetRows<'a> {
    file: String,
    out: &'a SyncSender<Handful>,
    handful: Vec<Row>,
    handful_bytes: usize,
    /// The row of the header, once it is known.
    header: Option<(u32, Header)>,
    row: u32,
    last_column: Option<u32>,
    /// Each cell of the row: its column and its value as JSON.
    cells: Vec<(u32, Vec<u8>)>,
    /// Bytes of the row so far. Once they are too many for a record, further cells are only counted: one large text in
    /// every cell of a row would be any number of gigabytes.
    bytes: u64,
}

impl<'a> SheetRows<'a> {
    fn new(file: String, out: &'a SyncSender<Handful>) -> Self {
        let (handful, cells) = (Vec::new(), Vec::new());
        Self { file, out, handful, handful_bytes: 0, header: None, row: 0, last_column: None, cells, bytes: 0 }
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
        if self.last_column.is_some_and(|last| last >= column) {
            return Err(Fault::Content(format!("the cells of row {} are not in order", row + 1)));
        }
        self.last_column = Some(column);
        if self.is_too_large() {
            self.bytes += text_len(cell.get_value());
            return Ok(());
        }
        let mut json = Vec::new();
        put_value(cell.get_value(), &mut json);
        self.bytes += json.len() as u64;
        self.cells.push((column, json));
        Ok(())
    }

    fn is_too_large(&self) -> bool {
        self.bytes > RECORD_BYTES_MAX as u64
    }

    fn end_row(&mut self) -> Result<(), Fault> {
        self.last_column = None;
        if self.cells.is_empty() {
            return Ok(());
        }
        let is_too_large = self.is_too_large();
        let (cells, bytes) = (std::mem::take(&mut self.cells), std::mem::take(&mut self.bytes));
        let Some((top, header)) = &self.header else {
            if is_too_large {
                return Err(Fault::Content("the header row is longer than 16 MiB".into()));
            }
            let header = header_of(&cells)?;
            self.send(Handful::Header(header.declared.clone()))?;
            self.header = Some((self.row, header));
            return Ok(());
        };
        let ordinal = u64::from(self.row - top);
        let columns = header.pieces.len();
        let row = if is_too_large {
            let payload = TooLarge::of(0, &array(&cells)).payload(&self.file, bytes);
            Row { ordinal, defect: Some(Reason::RecordTooLarge), payload }
        } else if cells.last().is_some_and(|(column, _)| *column as usize >= columns) {
            Row { ordinal, defect: Some(Reason::RowTooLong), payload: array(&cells) }
        } else {
            Row { ordinal, defect: None, payload: object(&cells, header) }
        };
        self.handful_bytes += row.payload.len() + size_of::<Row>();
        self.handful.push(row);
        if self.handful_bytes >= HANDFUL_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Fault> {
        self.handful_bytes = 0;
        let handful = std::mem::take(&mut self.handful);
        self.send(Handful::Rows(handful))
    }

    fn send(&self, handful: Handful) -> Result<(), Fault> {
        // The source was dropped: nobody needs the rest.
        self.out.send(handful).map_err(|_| Fault::Content("is not needed any more".into()))
    }

    fn finish(mut self) -> Result<(), Fault> {
        self.end_row()?;
        self.hand_over()
    }
}

/// About how long a value is.
fn text_len(value: &DataRef<'_>) -> u64 {
    match value {
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.len() as u64 + 2,
        DataRef::SharedString(text) => text.len() as u64 + 2,
        _ => 8,
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
