//! The offsets of members in the running kernel's structures, from its type information: `/sys/kernel/btf/vmlinux`
//! (`Documentation/bpf/btf.rst`).

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_STRUCT`.
const STRUCT: u32 = 4;
/// The sizes of `struct btf_type` and `struct btf_member`.
const TYPE_SIZE: usize = 12;
const MEMBER_SIZE: usize = 12;

/// The two sections of a file with type information.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Finds the sections of a file in this machine's byte order.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let number = |at: usize| usize::try_from(word(bytes, at)?).ok();
        let body = bytes.get(number(4)?..)?;
        let section = |at| body.get(number(at)?..)?.get(..number(at + 4)?);
        Some(Self { types: section(8)?, strings: section(16)? })
    }

    /// Returns the offsets in bytes of members of a structure; `None` unless the structure has all of them.
    pub(crate) fn offsets<const N: usize>(&self, structure: &str, members: [&str; N]) -> Option<[u32; N]> {
        let mut rest = self.types;
        while let Some((head, body)) = rest.split_at_checked(TYPE_SIZE) {
            let info = word(head, 4)?;
            let (kind, count) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let (body, after) = body.split_at_checked(body_size(kind, count)?)?;
            // Different structures can have the same name: skip those that lack a member.
            if kind == STRUCT && self.is_called(head, structure) {
                let bits = info >> 31 == 0;
                let found = members.map(|name| {
                    let member = body.chunks_exact(MEMBER_SIZE).find(|member| self.is_called(member, name))?;
                    let offset = word(member, 8)?;
                    // Where the structure has bit fields, the upper byte is a size.
                    Some(if bits { offset } else { offset & 0x00ff_ffff } / 8)
                });
                if found.iter().all(Option::is_some) {
                    return Some(found.map(Option::unwrap_or_default));
                }
            }
            rest = after;
        }
        None
    }

    /// Whether a type or member has this name. Its first word is the name's position among the strings.
    fn is_called(&self, what: &[u8], name: &str) -> bool {
        let text = word(what, 0).and_then(|at| self.strings.get(usize::try_from(at).ok()?..));
        text.and_then(|text| text.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Returns how many bytes follow the head of a type of this kind with so many members; `None` for an unknown kind.
fn body_size(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Structure, union, section, 64-bit enumeration.
        4 | 5 | 15 | 19 => 12 * count,
        // Enumeration, prototype.
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with an integer, two structures named `s`, the second with members `a` and `b`, and a last type.
    fn file(last_kind: u32, bit_fields: bool) -> Vec<u8> {
        let strings = b"\0s\0a\0b\0ab\0";
        let types: Vec<u32> = [
            &[0, 1 << 24, 4, 32][..],
            &[1, 4 << 24 | 1, 8, /* ab */ 7, 1, 0],
            &[1, u32::from(bit_fields) << 31 | 4 << 24 | 2, 16, /* a */ 3, 1, 64, /* b */ 5, 1, 0x0500_0060],
            &[0, last_kind << 24, 0],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let (types_len, strings_len) = (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
        let mut bytes = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        bytes.extend([24, 0, types_len, types_len, strings_len].into_iter().flat_map(u32::to_ne_bytes));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_have_the_offsets_of_the_structure_that_has_all() {
        let bytes = file(2, true);
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offsets("s", ["a", "b"]), Some([8, 12]));
        assert_eq!(btf.offsets("s", ["ab"]), Some([0]));
        assert_eq!(btf.offsets("s", ["a", "c"]), None);
        assert_eq!(btf.offsets("t", ["a"]), None);
    }

    #[test]
    fn type_of_unknown_kind_ends_the_search() {
        let bytes = file(31, true);
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offsets("s", ["a"]), Some([8]), "before it");
        assert_eq!(btf.offsets("t", ["a"]), None);
    }

    #[test]
    fn truncated_file_has_no_offsets() {
        let whole = file(2, false);
        for length in 0..whole.len() {
            assert!(Btf::parse(&whole[..length]).and_then(|btf| btf.offsets("t", ["x"])).is_none());
        }
        assert!(Btf::parse(b"\x9f\xeb").is_none() && Btf::parse(b"\xeb\x9f\x01\x00").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(mut bytes: Vec<u8>) {
            let _ = Btf::parse(&bytes).map(|btf| btf.offsets("s", ["a"]));
            if let Some(head) = bytes.first_chunk_mut() {
                *head = MAGIC.to_ne_bytes();
            }
            let _ = Btf::parse(&bytes).map(|btf| btf.offsets("s", ["a"]));
        }
    }

    #[test]
    fn running_kernel_has_the_members_that_programs_read() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            let required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
            assert!(!required, "required: the kernel's own type information");
            return;
        };
        let btf = Btf::parse(&bytes).unwrap();
        let [start, leader, seccomp] =
            btf.offsets("task_struct", ["start_boottime", "group_leader", "seccomp"]).unwrap();
        assert!(start > 0 && leader > 0 && seccomp > 0 && start != leader);
        assert_eq!(btf.offsets("seccomp", ["mode"]), Some([0]));
    }
}
