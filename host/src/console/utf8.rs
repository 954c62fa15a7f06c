//! Where a run of bytes may be cut without cutting a character.

/// How many bytes at the end begin a character that is not whole yet: 0 to 3. Bytes that can never become a valid
/// character do not count.
pub(super) fn incomplete_suffix(bytes: &[u8]) -> usize {
    let longest = bytes.len().min(3);
    for back in 1..=longest {
        let at = bytes.len() - back;
        let lead = bytes[at];
        if lead & 0xc0 == 0x80 {
            continue;
        }
        let whole = match lead {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        if whole <= back {
            return 0;
        }
        let second_fits = bytes.get(at + 1).is_none_or(|second| match lead {
            0xe0 => (0xa0..=0xbf).contains(second),
            0xed => (0x80..=0x9f).contains(second),
            0xf0 => (0x90..=0xbf).contains(second),
            0xf4 => (0x80..=0x8f).contains(second),
            _ => true,
        });
        return if second_fits { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_begin_of_a_character_is_held() {
        let check =
            |bytes: &[u8], held: usize| assert_eq!(incomplete_suffix(bytes), held, "{bytes:x?}");
        check(b"", 0);
        check(b"abc", 0);
        check("aé".as_bytes(), 0);
        check(b"a\xc3", 1);
        check(b"\xe2\x82", 2);
        check(b"\xf0\x9f\x98", 3);
        check("😀".as_bytes(), 0);
        check(b"\x82\xac", 0);
        check(b"\xc0", 0);
        check(b"\xf5\x80", 0);
        check(b"\xe0\x80", 0);
        check(b"\xed\xa0", 0);
        check(b"\xf0\x80\x80", 0);
        check(b"\xf4\x90", 0);
        check(b"\x80\x80\x80\x80", 0);
    }

    proptest! {
        #[test]
        fn a_cut_never_falls_inside_a_character(text in "\\PC{0,40}", at in 0usize..200) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let held = incomplete_suffix(&bytes[..at]);
            prop_assert!(text.is_char_boundary(at - held));
            prop_assert!(held == 0 || !text.is_char_boundary(at));
        }
    }
}
