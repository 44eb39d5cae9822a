//! "Did you mean": the nearest of the words that are allowed at a position.
//!
//! Nearness is the Damerau-Levenshtein distance without regard to case: a swapped, missing, extra
//! or wrong letter each count one. The accepted distance grows with the length of the word, so that
//! `TOP` is not taken for `HOP`, but `CRAETE` is for `CREATE`.

/// The nearest candidate, if one is near and is not `word` itself.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let upper = word.to_uppercase();
    let distance_max = match upper.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    candidates
        .iter()
        .map(|&candidate| (distance(&upper, candidate), candidate))
        .filter(|&(distance, _)| distance <= distance_max && distance > 0)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The hint for `word` if a candidate is near.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("Did you mean {candidate}?"))
}

fn distance(upper: &str, candidate: &str) -> usize {
    strsim::damerau_levenshtein(upper, &candidate.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[&str] = &["CREATE", "SELECT", "HOP", "TUMBLE", "SOURCE"];

    #[test]
    fn a_swapped_missing_or_extra_letter_is_near() {
        assert_eq!(nearest("CRAETE", WORDS), Some("CREATE"));
        assert_eq!(nearest("selct", WORDS), Some("SELECT"));
        assert_eq!(nearest("Sourcee", WORDS), Some("SOURCE"));
        assert_eq!(nearest("TUMBEL", WORDS), Some("TUMBLE"));
    }

    #[test]
    fn a_far_word_an_equal_word_and_a_short_word_have_no_nearest() {
        assert_eq!(nearest("DELETE", WORDS), None);
        assert_eq!(nearest("create", WORDS), None);
        assert_eq!(nearest("OP", WORDS), None);
        assert_eq!(nearest(&"x".repeat(1_000), WORDS), None);
    }
}
