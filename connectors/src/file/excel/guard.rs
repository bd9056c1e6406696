//! Looks through a workbook before its library reads it. The library keeps shared texts and styles in memory and makes room
//! as the file says, and a few kilobytes of a file can unfold into any number of gigabytes; running out of memory ends the
//! process, which nothing can catch. So the archive is unpacked once in passing, with the parsers that the library uses,
//! and held against what a real workbook has.

use std::io::{self, BufRead, BufReader, Read};

use quick_xml::Reader as XmlReader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::super::fault::Fault;
use super::super::handle::Part;

/// What all that the library keeps may take in memory.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// What the whole archive may be unpacked.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;

/// What one cell, or anything else that is held at once, may be.
const CELL_BYTES_MAX: u64 = 16 << 20;

/// What an element takes in memory besides its bytes, at most.
const ELEMENT_BYTES: u64 = 128;

/// Files in an archive.
const ENTRIES_MAX: usize = 100_000;

/// The kind of a workbook that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workbook {
    /// Of XML parts.
    Xlsx,
    /// Of binary parts.
    Xlsb,
}

/// Finds out the kind, or why the workbook cannot be read.
pub(super) fn check(mut file: Part) -> Result<Workbook, Fault> {
    let mut magic = [0; 4];
    let mut head = file.clone();
    let has_magic = head.read_exact(&mut magic).is_ok();
    if has_magic && magic == [0xd0, 0xcf, 0x11, 0xe0] {
        return Err(Fault::Config("is an old (.xls) or an encrypted workbook; save it as .xlsx or .csv".into()));
    }
    let mut archive = ZipArchive::new(BufReader::new(&mut file)).map_err(super::content)?;
    if archive.len() > ENTRIES_MAX {
        return Err(too_much());
    }
    let names: Vec<String> = (0..archive.len())
        .map(|index| archive.by_index_raw(index).ok().map_or_else(String::new, |entry| entry_name(&entry)))
        .collect();
    if names.iter().any(|name| name == "mimetype") {
        return Err(Fault::Config("is an OpenDocument sheet; save it as .xlsx or .csv".into()));
    }
    let binary = names.iter().any(|name| name == "xl/workbook.bin");
    let kept = if binary { kept_of_xlsb() } else { kept_of_xlsx(&mut archive)? };
    let mut budget = Budget { kept: 0, unpacked: 0 };
    for (index, name) in names.iter().enumerate() {
        // What cannot be unpacked the library cannot unpack either.
        let Ok(entry) = archive.by_index(index) else {
            continue;
        };
        let is_kept = kept.contains(name);
        if binary && !name.ends_with(".rels") {
            budget.check_records(entry, is_kept)?;
        } else {
            budget.check_xml(entry, is_kept)?;
        }
    }
    Ok(if binary { Workbook::Xlsb } else { Workbook::Xlsx })
}

fn entry_name(entry: &zip::read::ZipFile<'_, impl Read>) -> String {
    entry.name().map(|name| name.replace('\\', "/").to_ascii_lowercase()).unwrap_or_default()
}

fn too_much() -> Fault {
    Fault::Content("unpacks to more than a workbook can have, or to more than fits into memory; save it as .csv".into())
}

/// The parts of which the library keeps what they say, in lower case.
fn kept_of_xlsb() -> Vec<String> {
    ["xl/workbook.bin", "xl/styles.bin", "xl/sharedstrings.bin", "xl/_rels/workbook.bin.rels"]
        .map(String::from)
        .to_vec()
}

/// The same, where the package says itself where its workbook is.
fn kept_of_xlsx(archive: &mut ZipArchive<BufReader<&mut Part>>) -> Result<Vec<String>, Fault> {
    let mut kept = vec!["_rels/.rels".to_string()];
    let mut targets = vec!["xl/workbook.xml".to_string()];
    if let Ok(relations) = archive.by_name("_rels/.rels") {
        targets.extend(targets_of(Limited::new(relations))?);
    }
    for target in targets {
        let target = target.trim_start_matches('/').to_ascii_lowercase();
        let (folder, name) = target.rfind('/').map_or(("", target.as_str()), |at| target.split_at(at + 1));
        let parts = [name, &format!("_rels/{name}.rels"), "sharedstrings.xml", "styles.xml", "theme/theme1.xml"];
        kept.extend(parts.iter().map(|part| format!("{folder}{part}")));
    }
    Ok(kept)
}

fn targets_of(relations: impl BufRead) -> Result<Vec<String>, Fault> {
    let (mut xml, mut buffer, mut targets) = (xml_reader(relations), Vec::new(), Vec::new());
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer) {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                let values = values_of(&element, "Target");
                targets.extend(
                    values.map(|value| unescape(value).map_or_else(|_| value.into(), |text| text.into_owned())),
                );
            }
            Ok(Event::Eof) | Err(_) => return Ok(targets),
            Ok(_) => {}
        }
        if targets.len() > 1000 {
            return Err(too_much());
        }
    }
}

fn xml_reader<R: BufRead>(bytes: R) -> XmlReader<R> {
    let mut xml = XmlReader::from_reader(bytes);
    let config = xml.config_mut();
    config.check_end_names = false;
    config.check_comments = false;
    xml
}

/// What was found so far.
struct Budget {
    kept: u64,
    unpacked: u64,
}

impl Budget {
    fn check_xml(&mut self, entry: impl Read, is_kept: bool) -> Result<(), Fault> {
        let mut xml = xml_reader(Limited::new(entry));
        let mut buffer = Vec::new();
        let mut in_cell = false;
        loop {
            buffer.clear();
            let ended = match xml.read_event_into(&mut buffer) {
                Ok(Event::Eof) => true,
                Ok(event) => {
                    in_cell = match &event {
                        Event::Start(start) if start.local_name().as_ref() == "c" => true,
                        Event::End(end) if end.local_name().as_ref() == "c" => false,
                        _ => in_cell,
                    };
                    if is_kept {
                        self.keep(&event)?;
                    }
                    false
                }
                // The library stops here too; the limit is told at once.
                Err(_) if xml.get_ref().is_over => return Err(too_much()),
                Err(_) => true,
            };
            let bytes = xml.get_mut();
            if !in_cell {
                bytes.held = 0;
            }
            self.unpacked += std::mem::take(&mut bytes.taken);
            if self.unpacked > UNPACKED_BYTES_MAX || self.kept > KEPT_BYTES_MAX {
                return Err(too_much());
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn keep(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        self.kept += event.len() as u64;
        if let Event::Start(element) | Event::Empty(element) = event {
            self.kept += ELEMENT_BYTES;
            if element.local_name().as_ref() == "sst" {
                // The library makes room for as many texts as the file says it has.
                self.kept = self.kept.saturating_add(unique_count(element).saturating_mul(size_of::<String>() as u64));
            }
        }
        Ok(())
    }

    /// The records of a binary part: their type, their length, their bytes.
    fn check_records(&mut self, entry: impl Read, is_kept: bool) -> Result<(), Fault> {
        let mut bytes = Limited::new(entry);
        loop {
            let (Some(_), Some(len)) = (varint(&mut bytes, 2), varint(&mut bytes, 4)) else {
                return Ok(());
            };
            if len > CELL_BYTES_MAX {
                return Err(too_much());
            }
            let skipped = io::copy(&mut (&mut bytes).take(len), &mut io::sink()).unwrap_or(0);
            bytes.held = 0;
            self.unpacked += std::mem::take(&mut bytes.taken);
            if is_kept {
                self.kept += 2 * len + ELEMENT_BYTES / 2;
            }
            if self.unpacked > UNPACKED_BYTES_MAX || self.kept > KEPT_BYTES_MAX {
                return Err(too_much());
            }
            if skipped < len {
                return Ok(());
            }
        }
    }
}

fn unique_count(element: &BytesStart<'_>) -> u64 {
    let digits = |value: &str| value.bytes().filter(u8::is_ascii_digit).collect::<Vec<u8>>();
    let number = |value: &str| match std::str::from_utf8(&digits(value)) {
        Ok("") => 0,
        Ok(digits) => digits.parse().unwrap_or(u64::MAX),
        Err(_) => 0,
    };
    values_of(element, "uniqueCount").map(number).max().unwrap_or(0)
}

/// The values of every attribute whose name ends so, in a well-formed element or not: the library's own reading of
/// attributes must not find one that is not found here.
fn values_of<'a>(element: &'a BytesStart<'_>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let tag: &str = element;
    tag.match_indices(name).filter_map(move |(at, _)| {
        let value = tag[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''));
        match quote {
            Some(quote) => value[1..].split(quote).next(),
            None => value.split_ascii_whitespace().next(),
        }
    })
}

/// A number of up to `len` bytes of seven bits, the lowest first.
fn varint(bytes: &mut impl Read, len: u32) -> Option<u64> {
    let mut number = 0;
    for index in 0..len {
        let mut byte = [0];
        bytes.read_exact(&mut byte).ok()?;
        number |= u64::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// Bytes of which only so many may be held at once by the one who reads them.
struct Limited<R> {
    bytes: BufReader<R>,
    /// Bytes taken since somebody let them go.
    held: u64,
    /// Bytes taken since somebody asked.
    taken: u64,
    is_over: bool,
}

impl<R: Read> Limited<R> {
    fn new(bytes: R) -> Self {
        Self { bytes: BufReader::with_capacity(1 << 16, bytes), held: 0, taken: 0, is_over: false }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

impl<R: Read> BufRead for Limited<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held > CELL_BYTES_MAX {
            self.is_over = true;
            return Err(io::Error::other("more than a cell can have"));
        }
        self.bytes.fill_buf()
    }
    fn consume(&mut self, len: usize) {
        self.held += len as u64;
        self.taken += len as u64;
        self.bytes.consume(len);
    }
}
