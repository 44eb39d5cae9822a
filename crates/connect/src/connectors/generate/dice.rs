//! Random numbers that are a function of a seed, a row and a column, and of nothing that came before.
//!
//! Every value of a generated row is thrown with its own dice, made of the seed, the row's number and
//! the column's. So a row is the same in whatever order rows are made, on whatever machine, and
//! a source continues from a cursor by counting on. The mixing is that of SplitMix64 (Steele, Lea,
//! Flood: Fast Splittable Pseudorandom Number Generators, 2014).

/// A few random numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Dice {
    /// The dice for one value: the row's number and a number for the column.
    pub fn new(seed: u64, row: u64, column: u64) -> Self {
        let seed = mix(seed.wrapping_add(GAMMA));
        Self(mix(seed ^ mix(row.wrapping_mul(GAMMA).wrapping_add(column))))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number in `0 .. below`; 0 if `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }

    /// A number in `0.0 .. 1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn one_of<T: Copy, const N: usize>(&mut self, choices: &[T; N]) -> T {
        const { assert!(N > 0) };
        choices[self.below(N as u64) as usize]
    }

    /// Appends `length` lower case letters.
    pub fn letters(&mut self, length: u64, into: &mut String) {
        into.extend((0..length).map(|_| char::from(b'a' + self.below(26) as u8)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_the_same_numbers() {
        let throw = |seed, row, column| Dice::new(seed, row, column).next();
        assert_eq!(throw(1, 2, 3), throw(1, 2, 3));
        let others = [
            throw(2, 2, 3),
            throw(1, 3, 3),
            throw(1, 2, 4),
            throw(1, 3, 2),
        ];
        assert!(!others.contains(&throw(1, 2, 3)));
    }

    #[test]
    fn every_face_comes_about_as_often() {
        let mut faces = [0; 6];
        for row in 0..60_000 {
            faces[Dice::new(7, row, 0).below(6) as usize] += 1;
        }
        assert!(
            faces.iter().all(|n| (9_500..10_500).contains(n)),
            "{faces:?}"
        );
        let mean = (0..10_000)
            .map(|row| Dice::new(7, row, 0).unit())
            .sum::<f64>()
            / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert_eq!(Dice::new(7, 0, 0).below(0), 0);
    }
}
