//! The pages in which tracefs hands out events (`trace_pipe_raw`, `Documentation/trace/ring-buffer-design.rst`).

/// `RINGBUF_TYPE_PADDING` and what follows it.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;

/// In the length of a page: events before it were overwritten (`RB_MISSED_EVENTS`); and the length itself.
const MISSED: u64 = 1 << 31;
const LENGTH: u64 = 0xf_ffff;

/// The head of a page on a 64-bit machine: the time, the length.
const HEAD: usize = 16;

/// An event, not understood yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// When, by the instance's clock.
    pub(crate) at: u64,
    /// Its fields.
    pub(crate) fields: &'a [u8],
}

/// A page.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// When it begins.
    pub(crate) began: u64,
    /// Events before it were overwritten.
    pub(crate) missed: bool,
    at: u64,
    rest: &'a [u8],
}

impl<'a> Page<'a> {
    /// What was read at once; `None` where that is no page.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let began = u64::from_ne_bytes(*bytes.first_chunk()?);
        let length = u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
        let rest = bytes.get(HEAD..)?;
        let end = usize::try_from(length & LENGTH).ok()?.min(rest.len());
        Some(Self { began, missed: length & MISSED != 0, at: began, rest: rest.get(..end)? })
    }
}

impl<'a> Iterator for Page<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        loop {
            let head = word(self.rest, 0)?;
            // Two bit fields, in the order of the machine.
            let (kind, delta) = if cfg!(target_endian = "little") {
                (head & 0x1f, head >> 5)
            } else {
                (head >> 27, head & 0x07ff_ffff)
            };
            let long = || Some(u64::from(delta) | u64::from(word(self.rest, 4)?) << 27);
            let (begin, end) = match kind {
                PADDING if delta == 0 => return None,
                PADDING => {
                    self.skip(4 + word(self.rest, 4)? as usize);
                    continue;
                }
                TIME_EXTEND => {
                    self.at = self.at.wrapping_add(long()?);
                    self.skip(8);
                    continue;
                }
                TIME_STAMP => {
                    // The upper bits of the time do not change while we look.
                    self.at = long()? | self.at & !((1 << 59) - 1);
                    self.skip(8);
                    continue;
                }
                0 => (8, 4 + word(self.rest, 4)? as usize),
                words => (4, 4 + 4 * words as usize),
            };
            self.at = self.at.wrapping_add(delta.into());
            let fields = self.rest.get(begin..end)?;
            self.skip(end);
            return Some(Event { at: self.at, fields });
        }
    }
}

impl Page<'_> {
    fn skip(&mut self, bytes: usize) {
        // What is not as long as it says ends the page.
        self.rest = self.rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Where a field is in an event, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    offset: usize,
    size: usize,
}

impl Field {
    /// Finds one by its name in the `format` of an event.
    pub(crate) fn find(format: &str, name: &str) -> Option<Self> {
        let line = format.lines().find_map(|line| {
            let rest = line.trim_start().strip_prefix("field:")?;
            let (declared, rest) = rest.split_once(';')?;
            let own = declared.rsplit([' ', '*']).next()?.split('[').next()?;
            (own == name).then_some(rest)
        })?;
        let number = |key: &str| line.split(';').find_map(|part| part.trim().strip_prefix(key)?.parse().ok());
        Some(Self { offset: number("offset:")?, size: number("size:")? })
    }

    /// A whole number of two, four or eight bytes.
    pub(crate) fn number(self, fields: &[u8]) -> Option<i64> {
        let bytes = fields.get(self.offset..self.offset.checked_add(self.size)?)?;
        Some(match self.size {
            2 => u16::from_ne_bytes(bytes.try_into().ok()?).into(),
            4 => i32::from_ne_bytes(bytes.try_into().ok()?).into(),
            8 => i64::from_ne_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    }

    /// Where it ends: of the `data` of a page, how long a page is.
    pub(crate) fn end(self) -> usize {
        self.offset.saturating_add(self.size)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(kind: u32, delta: u32) -> [u8; 4] {
        let head = if cfg!(target_endian = "little") { delta << 5 | kind } else { kind << 27 | delta };
        head.to_ne_bytes()
    }

    fn page(length_flags: u64, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u64 | length_flags;
        [&1000_u64.to_ne_bytes()[..], &length.to_ne_bytes(), body, &[0; 64]].concat()
    }

    #[test]
    fn events_have_their_times() {
        let body = [
            &head(1, 5)[..],
            b"abcd",
            &head(TIME_EXTEND, 1),
            &1_u32.to_ne_bytes(),
            &head(0, 2),
            &12_u32.to_ne_bytes(),
            b"12345678",
            &head(PADDING, 1),
            &8_u32.to_ne_bytes(),
            b"gone",
            &head(2, 0),
            b"abcdefgh",
        ]
        .concat();
        let bytes = page(0, &body);
        let found = Page::parse(&bytes).unwrap();
        assert!(!found.missed);
        let later = 1000 + 5 + (1 << 27) + 1 + 2;
        let events: Vec<_> = found.map(|event| (event.at, event.fields)).collect();
        assert_eq!(events, [(1005, &b"abcd"[..]), (later, b"12345678"), (later, b"abcdefgh")]);
        assert!(Page::parse(&page(MISSED | 1 << 30, &body)).unwrap().missed);
    }

    #[test]
    fn fields_are_found_by_name() {
        let format = "name: sys_exit\nID: 21\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                      \tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\tfield:char parent_comm[16];\toffset:16;\tsize:16;\tsigned:0;\n";
        assert_eq!(Field::find(format, "id"), Some(Field { offset: 8, size: 8 }));
        assert_eq!(Field::find(format, "parent_comm").map(Field::end), Some(32));
        assert_eq!(Field::find(format, "i"), None);
        let event = [&[0; 8][..], &(-7_i64).to_ne_bytes()].concat();
        assert_eq!(Field { offset: 8, size: 8 }.number(&event), Some(-7));
        assert_eq!(Field { offset: 9, size: 8 }.number(&event), None);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes: Vec<u8>) {
            let events = Page::parse(&bytes).map_or(0, Iterator::count);
            prop_assert!(events <= bytes.len());
        }
    }
}
