//! How alike two short texts look.

/// Longer texts are cut here: what follows does not tell names apart.
pub const CHARS_MAX: usize = 96;

/// Jaro-Winkler similarity, 0 to 1.
pub fn jaro_winkler(one: &[u8], other: &[u8]) -> f32 {
    let jaro = jaro(one, other);
    let prefix = one.iter().zip(other).take(4).take_while(|(a, b)| a == b).count();
    jaro + prefix as f32 * 0.1 * (1.0 - jaro)
}

fn jaro(one: &[u8], other: &[u8]) -> f32 {
    let (one, other) = (cut(one), cut(other));
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    let reach = (one.len().max(other.len()) / 2).saturating_sub(1);
    let mut taken = [false; CHARS_MAX];
    let mut matched = [0u8; CHARS_MAX];
    let mut count = 0;
    for (at, byte) in one.iter().enumerate() {
        let from = at.saturating_sub(reach);
        let to = (at + reach + 1).min(other.len());
        if let Some(found) = (from..to).find(|&i| !taken[i] && other[i] == *byte) {
            taken[found] = true;
            matched[count] = *byte;
            count += 1;
        }
    }
    if count == 0 {
        return 0.0;
    }
    let second = other.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(byte, _)| byte);
    let transposed = matched[..count].iter().zip(second).filter(|(a, b)| a != b).count() as f32 / 2.0;
    let m = count as f32;
    (m / one.len() as f32 + m / other.len() as f32 + (m - transposed) / m) / 3.0
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(CHARS_MAX)]
}

/// The text's trigrams with its ends marked, sorted and each once.
pub fn trigrams(text: &str) -> Vec<[u8; 3]> {
    let mut bytes = vec![b'^'];
    bytes.extend(cut(text.as_bytes()));
    bytes.push(b'$');
    let mut all: Vec<[u8; 3]> = bytes.windows(3).map(|w| [w[0], w[1], w[2]]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Twice what two sorted sets share, over their sizes.
pub fn dice<T: Ord>(one: &[T], other: &[T]) -> f32 {
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    2.0 * shared(one, other) as f32 / (one.len() + other.len()) as f32
}

/// What two sorted sets share, over what either has.
pub fn jaccard<T: Ord>(one: &[T], other: &[T]) -> f32 {
    let both = shared(one, other);
    let either = one.len() + other.len() - both;
    if either == 0 { 0.0 } else { both as f32 / either as f32 }
}

/// How many elements two sorted sets share.
pub fn shared<T: Ord>(one: &[T], other: &[T]) -> usize {
    let (mut a, mut b, mut both) = (0, 0, 0);
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => a += 1,
            std::cmp::Ordering::Greater => b += 1,
            std::cmp::Ordering::Equal => {
                both += 1;
                a += 1;
                b += 1;
            }
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_one_for_equal_texts_and_zero_for_strangers() {
        assert!((jaro_winkler(b"created_at", b"created_at") - 1.0).abs() < 1e-6);
        assert!(jaro_winkler(b"abc", b"xyz") == 0.0 && jaro_winkler(b"", b"xyz") == 0.0);
        assert!((jaro_winkler(b"martha", b"marhta") - 0.9611).abs() < 1e-3);
        assert!(dice(&trigrams("status"), &trigrams("statuses")) > 0.6);
        assert!((jaccard(&[1, 2, 3], &[2, 3, 4]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn long_texts_are_cut() {
        let long = vec![b'a'; 5000];
        assert!((jaro_winkler(&long, &long) - 1.0).abs() < 1e-6);
    }
}
