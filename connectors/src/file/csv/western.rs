//! Text that is no UTF-8 and whose encoding nobody names is taken for windows-1252, which gives every byte a character.
//! What would be no text that anybody writes is told here, lest it comes in as mojibake.

/// Bytes that stand for no character in windows-1252.
const UNASSIGNED: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// Its signs that hardly any text has, but the first bytes of Japanese and Chinese characters are.
const RARE: [u8; 5] = [0x82, 0x83, 0x88, 0x8b, 0x98];

/// Its signs that stand together also in Western text: quotes, dashes, dots, signs of currencies and trade marks.
const SIGNS: [u8; 14] = [0x80, 0x84, 0x85, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x99, 0xa0, 0xab, 0xbb];

/// Western letters beyond ASCII stand alone or by twos; so many in a row are another script.
const RUN: usize = 3;

/// Suspicious bytes that say nothing yet.
const SUSPICIOUS_MIN: usize = 3;

/// Whether the bytes make text in windows-1252. They do not if most of those beyond ASCII have no character, a rare one, or
/// stand in a row with others: so do the letters of every other script, in one byte each or in several.
pub(super) fn is_likely(bytes: &[u8]) -> bool {
    let (mut all, mut suspicious) = (0, 0);
    for run in bytes.split(u8::is_ascii).filter(|run| !run.is_empty()) {
        all += run.len();
        let is_script = run.len() >= RUN && !run.iter().all(|byte| SIGNS.contains(byte));
        let is_odd = |byte: &&u8| UNASSIGNED.contains(byte) || RARE.contains(byte);
        suspicious += if is_script { run.len() } else { run.iter().filter(is_odd).count() };
    }
    suspicious < SUSPICIOUS_MIN || suspicious * 2 <= all
}

/// Whether each of the bytes has a character.
pub(super) fn is_assigned(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| UNASSIGNED.contains(byte))
}

#[cfg(test)]
mod tests {
    use encoding_rs::{BIG5, EUC_KR, Encoding, GBK, SHIFT_JIS, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253};

    use super::*;

    fn is_likely_in(encoding: &'static Encoding, text: &str) -> bool {
        is_likely(&encoding.encode(text).0)
    }

    #[test]
    fn western_text_is_likely() {
        for text in [
            "id,name\n1,Größe\n2,Straße",
            "Créée à l’été, «cœur» — “…”",
            "———,•••,…………",
            "Ångström;Øresund;Þórður",
            "price,€ 5,£ 7",
            "¿Señor? ¡Sí!",
            "ƒ",
            "",
        ] {
            assert!(is_likely_in(WINDOWS_1252, text), "{text}");
        }
    }

    #[test]
    fn other_scripts_are_not() {
        for (encoding, text) in [
            (SHIFT_JIS, "id,name\n1,日本語\n"),
            (SHIFT_JIS, "番号,名前\n1,テスト\n2,山田"),
            (GBK, "编号,姓名\n1,北京"),
            (BIG5, "客戶名稱,電話,備註\n台灣積體電路製造股份有限公司"),
            (EUC_KR, "번호,이름\n1,서울"),
            (WINDOWS_1251, "имя\nМосква"),
            (WINDOWS_1253, "όνομα\nΑθήνα"),
        ] {
            assert!(!is_likely_in(encoding, text), "{text}");
        }
    }

    #[test]
    fn bytes_without_a_character_are_told() {
        assert!(is_assigned(b"caf\xe9 \x80"));
        assert!(!is_assigned(b"caf\xe9 \x9d"));
    }
}
