//! Rows of the store: any incident is read as it was written, and any values in a row are read or refused.
#![expect(clippy::unwrap_used, reason = "without a database in memory there is nothing to check")]

use super::Pieces;
use crate::audit::Action;
use crate::incidents::store::{MAX_COMM, MAX_EXE, MAX_SUBJECT, MAX_WORD, read_back, read_values};
use crate::incidents::{
    CallSite, CodePlace, Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Sample, SightingSource,
};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Unit};
use rusqlite::Connection;
use rusqlite::types::Value;

thread_local! {
    static DATABASE: Connection = Connection::open_in_memory().unwrap();
}

/// Writes and reads an incident, and reads a row of arbitrary values.
pub(super) fn check(input: &[u8]) {
    let incident = build_incident(&mut Pieces(input));
    DATABASE.with(|database| {
        let read = read_back(database, &incident).unwrap();
        assert_eq!(read, cut(incident), "an incident is read as it was written");
        if let Ok(read) = read_values(database, |column| build_value(input, column)) {
            let again = read_back(database, &read).unwrap();
            assert_eq!(again, cut(read), "what a row holds is written as it was read");
        }
    });
}

fn build_incident(pieces: &mut Pieces<'_>) -> Incident {
    let kind = pieces.byte();
    let unit = lossy(pieces.text()).parse().ok().map(|name| Unit {
        manager: if kind & 1 == 0 { Manager::System } else { Manager::User(truncate(pieces.number())) },
        name,
    });
    let name = lossy(pieces.text());
    let id = if kind & 2 == 0 { CallId::Number(truncate(pieces.number())) } else { CallId::Name(name.into()) };
    let action = Action::from_code(truncate(pieces.number()));
    let event = if kind & 4 == 0 {
        IncidentEvent::Denial(Denial { call: Call { arch: Arch(truncate(pieces.number())), id }, action })
    } else {
        IncidentEvent::UnrecordedDeath
    };
    let errno = i32::from(pieces.byte());
    let source = [SightingSource::Audit, SightingSource::Rehearsal, SightingSource::Log, SightingSource::Tap { errno }]
        [usize::from(kind >> 3) % 4];
    let parent = (kind & 32 != 0).then(|| Parent { pid: truncate(pieces.number()), comm: pieces.text().to_vec() });
    Incident {
        key: IncidentKey { unit, event, exe: pieces.text().to_vec(), source },
        rung: None,
        count: pieces.number() >> 1,
        first: build_moment(pieces),
        last: build_moment(pieces),
        sample: Sample {
            pid: truncate(pieces.number()),
            comm: pieces.text().to_vec(),
            uid: lossy(pieces.text()).into(),
            login: (kind & 64 != 0).then_some(u32::from(kind)),
            ip: pieces.number(),
            call_site: (kind & 128 != 0).then(|| Box::new(build_call_site(pieces))),
            subject: pieces.text().to_vec(),
            parent,
        },
    }
}

fn build_call_site(pieces: &mut Pieces<'_>) -> CallSite {
    let code = CodePlace {
        offset: pieces.number(),
        build_id: pieces.text().iter().copied().take(32).collect(),
        file: (pieces.number(), pieces.number()),
        path: pieces.text().iter().copied().take(512).collect(),
        function: Vec::new(),
    };
    CallSite { caller: code.offset.is_multiple_of(2).then(|| code.clone()), code, further: Vec::new() }
}

fn build_moment(pieces: &mut Pieces<'_>) -> Moment {
    match pieces.byte() % 3 {
        0 => Moment::At(pieces.number().cast_signed()),
        1 => Moment::Text(lossy(pieces.text()).into()),
        _ => Moment::Unknown,
    }
}

/// Returns the value of a column: the text at its place in the input, as one of the types of `SQLite`.
fn build_value(input: &[u8], column: usize) -> Value {
    let text = input.split(|byte| *byte == b'\n').nth(column).unwrap_or_default();
    match text.split_first() {
        None => Value::Null,
        Some((b'i', digits)) => Value::Integer(lossy(digits).parse().unwrap_or_default()),
        Some((b'r', digits)) => Value::Real(lossy(digits).parse().unwrap_or_default()),
        Some((b'b', bytes)) => Value::Blob(bytes.to_vec()),
        Some((_, bytes)) => Value::Text(lossy(bytes)),
    }
}

/// Cuts the texts of an incident to the limits of a row.
fn cut(mut incident: Incident) -> Incident {
    let cut_word = |word: &str| Box::from(&word[..word.floor_char_boundary(MAX_WORD)]);
    incident.key.exe.truncate(MAX_EXE);
    if let IncidentEvent::Denial(Denial { call: Call { id: CallId::Name(name), .. }, .. }) = &mut incident.key.event {
        *name = cut_word(name);
    }
    for moment in [&mut incident.first, &mut incident.last] {
        if let Moment::Text(text) = moment {
            *text = cut_word(text);
        }
    }
    let sample = &mut incident.sample;
    sample.comm.truncate(MAX_COMM);
    sample.subject.truncate(MAX_SUBJECT);
    sample.uid = cut_word(&sample.uid);
    if let Some(parent) = &mut sample.parent {
        parent.comm.truncate(MAX_COMM);
    }
    incident
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn truncate(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}
