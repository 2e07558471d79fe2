//! An incident as a row, and back.

use rusqlite::types::Type;
use rusqlite::{Row, ToSql};

use crate::incidents::incident::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource,
};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Rung, Unit};

/// Longest executable path kept, in bytes: `PATH_MAX`.
pub const MAX_EXE: usize = 4096;
/// Longest thread name kept: the kernel's `TASK_COMM_LEN`.
pub const MAX_COMM: usize = 16;
/// Longest LSM label kept.
pub const MAX_SUBJECT: usize = 4096;
/// Longest call name, uid or date kept; only logs have them as words.
pub const MAX_WORD: usize = 256;

/// The columns in the order [`Columns`] and [`read_incident`] take them.
pub(super) const COLUMNS: &str = "manager, unit, event, arch, call_number, call_name, action, exe, evidence, count, \
    first_ms, first_text, last_ms, last_text, pid, comm, uid, ip, subject, parent_pid, parent_comm, source, errno";

/// What stands for no error in the key: no error is negative.
const NO_ERRNO: i32 = -1;

/// How many they are.
pub(super) const WIDTH: usize = 23;

/// An incident within the bounds, borrowed.
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
}

impl<'a> Columns<'a> {
    /// The columns of an incident, cut to the bounds.
    pub(super) fn from_incident(incident: &'a Incident) -> Self {
        let Incident { key, rung, count, first, last, sample } = incident;
        let mut columns = Self {
            manager: key.unit.as_ref().map(|unit| unit.manager.to_string()).unwrap_or_default(),
            unit: key.unit.as_ref().map_or("", |unit| unit.name.as_str()),
            event: "unrecorded-death",
            arch: 0,
            call_number: -1,
            call_name: b"",
            action: String::new(),
            exe: cut(&key.exe, MAX_EXE),
            evidence: rung.map_or("", Rung::as_str),
            count: i64::try_from(*count).unwrap_or(i64::MAX),
            first: moment(first),
            last: moment(last),
            pid: sample.pid,
            comm: cut(&sample.comm, MAX_COMM),
            uid: word(&sample.uid),
            ip: sample.ip.cast_signed(),
            subject: cut(&sample.subject, MAX_SUBJECT),
            parent: sample.parent.as_ref().map(|parent| (parent.pid, cut(&parent.comm, MAX_COMM))).unzip(),
            source: key.source.as_str(),
            errno: key.source.errno().unwrap_or(NO_ERRNO),
        };
        if let IncidentEvent::Denial(Denial { call, action }) = &key.event {
            columns.event = "denial";
            columns.arch = call.arch.0;
            columns.action = action.to_string();
            match &call.id {
                CallId::Number(number) => columns.call_number = i64::from(*number),
                CallId::Name(name) => columns.call_name = word(name),
            }
        }
        columns
    }

    /// The values, in the order of [`COLUMNS`].
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
        ]
    }
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

/// The most of a word that fits without breaking a character.
fn word(text: &str) -> &[u8] {
    let end = (0..=MAX_WORD.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or(text).as_bytes()
}

fn moment(moment: &Moment) -> (Option<i64>, Option<&[u8]>) {
    match moment {
        Moment::At(millis) => (Some(*millis), None),
        Moment::Text(text) => (None, Some(word(text))),
        Moment::Unknown => (None, None),
    }
}

/// The incident of a row whose columns start with [`COLUMNS`].
pub(super) fn read_incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let event = match &*text(row, 2)? {
        "denial" => {
            let number: i64 = row.get(4)?;
            let id = match u32::try_from(number) {
                Ok(number) => CallId::Number(number),
                Err(_) => CallId::Name(words(row, 5)?),
            };
            let action = text(row, 6)?.parse().map_err(|_| strange(6))?;
            IncidentEvent::Denial(Denial { call: Call { arch: Arch(row.get(3)?), id }, action })
        }
        "unrecorded-death" => IncidentEvent::UnrecordedDeath,
        _ => return Err(strange(2)),
    };
    let rung = match &*text(row, 8)? {
        "" => None,
        word => Some(word.parse().map_err(|_| strange(8))?),
    };
    let count: i64 = row.get(9)?;
    let errno = Some(row.get(22)?).filter(|errno| *errno != NO_ERRNO);
    let source = SightingSource::from_word(&text(row, 21)?, errno).ok_or_else(|| strange(21))?;
    Ok(Incident {
        key: IncidentKey { unit: read_unit(row, 0, 1)?, event, exe: row.get(7)?, source },
        rung,
        count: u64::try_from(count).map_err(|_| strange(9))?,
        first: read_moment(row, 10)?,
        last: read_moment(row, 12)?,
        sample: Sample {
            pid: row.get(14)?,
            comm: row.get(15)?,
            uid: words(row, 16)?,
            ip: row.get::<_, i64>(17)?.cast_unsigned(),
            subject: row.get(18)?,
            parent: match (row.get(19)?, row.get(20)?) {
                (Some(pid), Some(comm)) => Some(Parent { pid, comm }),
                _ => None,
            },
        },
    })
}

/// The unit of two columns.
pub(super) fn read_unit(row: &Row<'_>, manager: usize, name: usize) -> rusqlite::Result<Option<Unit>> {
    let word = text(row, manager)?;
    if word.is_empty() {
        return Ok(None);
    }
    let manager: Manager = word.parse().map_err(|_| strange(manager))?;
    let name = text(row, name)?.parse().map_err(|_| strange(name))?;
    Ok(Some(Unit { manager, name }))
}

fn read_moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Moment> {
    Ok(match (row.get(column)?, row.get::<_, Option<Vec<u8>>>(column + 1)?) {
        (Some(millis), _) => Moment::At(millis),
        (None, Some(_)) => Moment::Text(words(row, column + 1)?),
        (None, None) => Moment::Unknown,
    })
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    row.get(column)
}

fn words(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<str>> {
    String::from_utf8(row.get(column)?).map(Into::into).map_err(|_| strange(column))
}

/// A value we never write.
fn strange(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "a value harden-why never writes".into())
}
