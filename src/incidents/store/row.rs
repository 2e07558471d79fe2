//! Converts incidents to rows and back.

use rusqlite::types::Type;
use rusqlite::{Row, ToSql};

use crate::incidents::access::{Access, AccessDenial, AccessPath};
use crate::incidents::call_site::{CallSite, CodePlace};
use crate::incidents::incident::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource,
};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Rung, Unit};

/// The longest executable path that is kept, in bytes: `PATH_MAX`.
pub const MAX_EXE: usize = 4096;
/// The longest thread name that is kept, in bytes: the kernel's `TASK_COMM_LEN`.
pub const MAX_COMM: usize = 16;
/// The longest LSM label that is kept, in bytes.
pub const MAX_SUBJECT: usize = 4096;
/// The longest call name, uid or date that is kept, in bytes; only logs write these as words.
pub const MAX_WORD: usize = 256;

/// The columns, in the order of [`Columns::values`] and [`read_incident`].
pub(super) const COLUMNS: &str = "manager, unit, event, arch, call_number, call_name, action, exe, evidence, count, \
    first_ms, first_text, last_ms, last_text, pid, comm, uid, ip, subject, parent_pid, parent_comm, source, errno, \
    access, path, detail, login, call_code, caller_code";

/// The value in the key that means "no error": errors are positive.
const NO_ERRNO: i32 = -1;

/// The place of each column in [`COLUMNS`].
mod column {
    pub(super) const MANAGER: usize = 0;
    pub(super) const UNIT: usize = 1;
    pub(super) const EVENT: usize = 2;
    pub(super) const ARCH: usize = 3;
    pub(super) const CALL_NUMBER: usize = 4;
    pub(super) const CALL_NAME: usize = 5;
    pub(super) const ACTION: usize = 6;
    pub(super) const EXE: usize = 7;
    pub(super) const EVIDENCE: usize = 8;
    pub(super) const COUNT: usize = 9;
    pub(super) const FIRST_MS: usize = 10;
    pub(super) const FIRST_TEXT: usize = 11;
    pub(super) const LAST_MS: usize = 12;
    pub(super) const LAST_TEXT: usize = 13;
    pub(super) const PID: usize = 14;
    pub(super) const COMM: usize = 15;
    pub(super) const UID: usize = 16;
    pub(super) const IP: usize = 17;
    pub(super) const SUBJECT: usize = 18;
    pub(super) const PARENT_PID: usize = 19;
    pub(super) const PARENT_COMM: usize = 20;
    pub(super) const SOURCE: usize = 21;
    pub(super) const ERRNO: usize = 22;
    pub(super) const ACCESS: usize = 23;
    pub(super) const PATH: usize = 24;
    pub(super) const DETAIL: usize = 25;
    pub(super) const LOGIN: usize = 26;
    pub(super) const CALL_CODE: usize = 27;
    pub(super) const CALLER_CODE: usize = 28;
}

/// The number of columns.
pub(super) const WIDTH: usize = column::CALLER_CODE + 1;

/// The columns of an incident, borrowed and cut to the limits.
pub(super) struct Columns<'a> {
    manager: String,
    unit: &'a str,
    event: &'static str,
    arch: u32,
    call_number: i64,
    call_name: &'a [u8],
    action: String,
    exe: &'a [u8],
    evidence: &'static str,
    count: i64,
    first: (Option<i64>, Option<&'a [u8]>),
    last: (Option<i64>, Option<&'a [u8]>),
    pid: u32,
    comm: &'a [u8],
    uid: &'a [u8],
    ip: i64,
    subject: &'a [u8],
    parent: (Option<u32>, Option<&'a [u8]>),
    source: &'static str,
    errno: i32,
    access: &'static str,
    path: &'a [u8],
    detail: String,
    login: Option<u32>,
    call_code: Option<Vec<u8>>,
    caller_code: Option<Vec<u8>>,
}

impl<'a> Columns<'a> {
    /// Returns the columns of an incident.
    pub(super) fn from_incident(incident: &'a Incident) -> Self {
        let Incident { key, rung, count, first, last, sample } = incident;
        let mut columns = Self {
            manager: key.unit.as_ref().map(|unit| unit.manager.to_string()).unwrap_or_default(),
            unit: key.unit.as_ref().map_or("", |unit| unit.name.as_str()),
            event: key.event.as_str(),
            arch: 0,
            call_number: -1,
            call_name: b"",
            action: String::new(),
            exe: cut(&key.exe, MAX_EXE),
            evidence: rung.map_or("", Rung::as_str),
            count: i64::try_from(*count).unwrap_or(i64::MAX),
            first: moment_columns(first),
            last: moment_columns(last),
            pid: sample.pid,
            comm: cut(&sample.comm, MAX_COMM),
            uid: cut_word(&sample.uid),
            ip: sample.ip.cast_signed(),
            subject: cut(&sample.subject, MAX_SUBJECT),
            parent: sample.parent.as_ref().map(|parent| (parent.pid, cut(&parent.comm, MAX_COMM))).unzip(),
            source: key.source.as_str(),
            errno: key.source.errno().unwrap_or(NO_ERRNO),
            access: "",
            path: b"",
            detail: String::new(),
            login: sample.login,
            call_code: sample.call_site.as_ref().map(|site| site.code.to_words()),
            caller_code: sample.call_site.as_ref().and_then(|site| site.caller.as_ref()).map(CodePlace::to_words),
        };
        match &key.event {
            IncidentEvent::Denial(Denial { action, .. }) => columns.action = action.to_string(),
            IncidentEvent::Access(AccessDenial { errno, access, .. }) => {
                columns.errno = *errno;
                columns.access = access.kind();
                columns.path = access.path().map(AccessPath::as_bytes).unwrap_or_default();
                columns.detail = access.detail();
            }
            IncidentEvent::UnrecordedDeath => {}
        }
        if let Some(call) = incident.call() {
            columns.arch = call.arch.0;
            match &call.id {
                CallId::Number(number) => columns.call_number = i64::from(*number),
                CallId::Name(name) => columns.call_name = cut_word(name),
            }
        }
        columns
    }

    /// Returns the values, in the order of [`COLUMNS`].
    pub(super) fn values(&self) -> [&dyn ToSql; WIDTH] {
        [
            &self.manager,
            &self.unit,
            &self.event,
            &self.arch,
            &self.call_number,
            &self.call_name,
            &self.action,
            &self.exe,
            &self.evidence,
            &self.count,
            &self.first.0,
            &self.first.1,
            &self.last.0,
            &self.last.1,
            &self.pid,
            &self.comm,
            &self.uid,
            &self.ip,
            &self.subject,
            &self.parent.0,
            &self.parent.1,
            &self.source,
            &self.errno,
            &self.access,
            &self.path,
            &self.detail,
            &self.login,
            &self.call_code,
            &self.caller_code,
        ]
    }
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

/// Cuts a word to [`MAX_WORD`] without splitting a character.
fn cut_word(text: &str) -> &[u8] {
    let end = (0..=MAX_WORD.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or(text).as_bytes()
}

fn moment_columns(moment: &Moment) -> (Option<i64>, Option<&[u8]>) {
    match moment {
        Moment::At(millis) => (Some(*millis), None),
        Moment::Text(text) => (None, Some(cut_word(text))),
        Moment::Unknown => (None, None),
    }
}

/// Reads the incident of a row whose columns start with [`COLUMNS`].
pub(super) fn read_incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let errno: i32 = row.get(column::ERRNO)?;
    let event = match &*text(row, column::EVENT)? {
        "denial" => {
            let action = text(row, column::ACTION)?.parse().map_err(|_| unexpected_value(column::ACTION))?;
            IncidentEvent::Denial(Denial { call: read_call(row)?, action })
        }
        "access-denial" => {
            let path: Vec<u8> = row.get(column::PATH)?;
            let access = Access::from_parts(&text(row, column::ACCESS)?, &path, &text(row, column::DETAIL)?);
            let access = access.ok_or_else(|| unexpected_value(column::ACCESS))?;
            IncidentEvent::Access(AccessDenial { call: read_call(row)?, errno, access })
        }
        "unrecorded-death" => IncidentEvent::UnrecordedDeath,
        _ => return Err(unexpected_value(column::EVENT)),
    };
    let rung = match &*text(row, column::EVIDENCE)? {
        "" => None,
        word => Some(word.parse().map_err(|_| unexpected_value(column::EVIDENCE))?),
    };
    let count: i64 = row.get(column::COUNT)?;
    let source = text(row, column::SOURCE)?;
    let source = SightingSource::parse(&source, Some(errno).filter(|errno| *errno != NO_ERRNO), &event);
    let source = source.ok_or_else(|| unexpected_value(column::SOURCE))?;
    Ok(Incident {
        key: IncidentKey {
            unit: read_unit(row, column::MANAGER, column::UNIT)?,
            event,
            exe: row.get(column::EXE)?,
            source,
        },
        rung,
        count: u64::try_from(count).map_err(|_| unexpected_value(column::COUNT))?,
        first: read_moment(row, column::FIRST_MS, column::FIRST_TEXT)?,
        last: read_moment(row, column::LAST_MS, column::LAST_TEXT)?,
        sample: Sample {
            pid: row.get(column::PID)?,
            comm: row.get(column::COMM)?,
            uid: read_words(row, column::UID)?,
            login: row.get(column::LOGIN)?,
            ip: row.get::<_, i64>(column::IP)?.cast_unsigned(),
            call_site: read_call_site(row)?,
            subject: row.get(column::SUBJECT)?,
            parent: match (row.get(column::PARENT_PID)?, row.get(column::PARENT_COMM)?) {
                (Some(pid), Some(comm)) => Some(Parent { pid, comm }),
                _ => None,
            },
        },
    })
}

fn read_call_site(row: &Row<'_>) -> rusqlite::Result<Option<Box<CallSite>>> {
    let place = |column: usize| {
        let words: Option<Vec<u8>> = row.get(column)?;
        words.map(|words| CodePlace::parse(&words).ok_or_else(|| unexpected_value(column))).transpose()
    };
    let (code, caller) = (place(column::CALL_CODE)?, place(column::CALLER_CODE)?);
    Ok(code.map(|code| Box::new(CallSite { code, caller, ..CallSite::default() })))
}

fn read_call(row: &Row<'_>) -> rusqlite::Result<Call> {
    let number: i64 = row.get(column::CALL_NUMBER)?;
    let id = match u32::try_from(number) {
        Ok(number) => CallId::Number(number),
        Err(_) => CallId::Name(read_words(row, column::CALL_NAME)?),
    };
    Ok(Call { arch: Arch(row.get(column::ARCH)?), id })
}

/// Reads the unit of two columns.
pub(super) fn read_unit(row: &Row<'_>, manager: usize, name: usize) -> rusqlite::Result<Option<Unit>> {
    let word = text(row, manager)?;
    if word.is_empty() {
        return Ok(None);
    }
    let manager: Manager = word.parse().map_err(|_| unexpected_value(manager))?;
    let name = text(row, name)?.parse().map_err(|_| unexpected_value(name))?;
    Ok(Some(Unit { manager, name }))
}

fn read_moment(row: &Row<'_>, millis: usize, words: usize) -> rusqlite::Result<Moment> {
    Ok(match (row.get(millis)?, row.get::<_, Option<Vec<u8>>>(words)?) {
        (Some(millis), _) => Moment::At(millis),
        (None, Some(_)) => Moment::Text(read_words(row, words)?),
        (None, None) => Moment::Unknown,
    })
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    row.get(column)
}

fn read_words(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<str>> {
    String::from_utf8(row.get(column)?).map(Into::into).map_err(|_| unexpected_value(column))
}

/// Returns the error for a value that harden-why never writes.
fn unexpected_value(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "a value harden-why never writes".into())
}

/// Reads an incident from a row that holds what the store writes for it.
///
/// # Errors
/// The row cannot be read.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_back(database: &rusqlite::Connection, incident: &Incident) -> rusqlite::Result<Incident> {
    let columns = Columns::from_incident(incident);
    let values = columns.values();
    database.prepare(&select_values())?.query_row(&values[..], read_incident)
}

/// Reads an incident from a row of arbitrary values, by column.
///
/// # Errors
/// harden-why never writes such a row.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_values(
    database: &rusqlite::Connection,
    value: impl Fn(usize) -> rusqlite::types::Value,
) -> rusqlite::Result<Incident> {
    let values = rusqlite::params_from_iter((0..WIDTH).map(value));
    database.prepare(&select_values())?.query_row(values, read_incident)
}

#[cfg(any(test, fuzzing))]
fn select_values() -> String {
    format!("SELECT {}", vec!["?"; WIDTH].join(", "))
}
