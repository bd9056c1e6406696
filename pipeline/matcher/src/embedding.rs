//! Word vectors: distilled from a sentence model, one of 64 bytes for each common word (`data/README.md` says how).

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Numbers of a vector.
pub const DIMENSIONS: usize = 64;

/// A direction in the space of meanings.
pub type Vector = [f32; DIMENSIONS];

/// The shipped words: what they mean and how often they are used.
#[derive(Debug)]
pub struct Embeddings {
    words: BTreeMap<&'static str, (usize, f32)>,
    bytes: &'static [u8],
}

impl Embeddings {
    /// The shipped table.
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Embeddings> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            let mut words = BTreeMap::new();
            for (row, line) in include_str!("../data/vocabulary.txt").lines().enumerate() {
                if let Some((word, zipf)) = line.split_once(' ') {
                    words.insert(word, (row, zipf.parse::<f32>().unwrap_or(0.0) / 100.0));
                }
            }
            Self { words, bytes: include_bytes!("../data/embeddings.i8") }
        })
    }

    /// How often a word is used: the logarithm (base 10) of its uses in a billion words.
    pub fn zipf(&self, word: &str) -> Option<f32> {
        self.words.get(word).map(|(_, zipf)| *zipf)
    }

    /// The vector of a word, of length one.
    pub fn vector(&self, word: &str) -> Option<Vector> {
        let (row, _) = self.words.get(word)?;
        let bytes = self.bytes.get(row * DIMENSIONS..(row + 1) * DIMENSIONS)?;
        let mut vector = [0.0; DIMENSIONS];
        for (number, byte) in vector.iter_mut().zip(bytes) {
            *number = f32::from(i8::from_ne_bytes([*byte]));
        }
        Some(unit(vector))
    }

    /// What a word adds to the meaning of a phrase: rare words say more.
    pub fn weight(&self, word: &str) -> f32 {
        const SMOOTHING: f32 = 1e-3;
        let share = self.zipf(word).map_or(0.0, |zipf| 10f32.powf(zipf - 9.0));
        SMOOTHING / (SMOOTHING + share)
    }
}

/// The vector with length one; zero stays zero.
pub fn unit(mut vector: Vector) -> Vector {
    let length = dot(&vector, &vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
    vector
}

/// How far two vectors of length one point the same way.
pub fn dot(one: &Vector, other: &Vector) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_like_meaning_are_nearer_than_others() {
        let table = Embeddings::shipped();
        let cosine = |a, b| dot(&table.vector(a).expect("a common word"), &table.vector(b).expect("a common word"));
        assert!(cosine("price", "cost") > cosine("price", "street") + 0.2);
        assert!(cosine("doctor", "physician") > cosine("doctor", "invoice") + 0.2);
        assert!(table.vector("zzqx").is_none());
    }
}
