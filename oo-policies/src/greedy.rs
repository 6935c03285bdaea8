//! The highest score, ties to the lowest index.

/// Position of the largest number; the first one of several. NaN never wins.
pub fn argmax(scores: &[f64]) -> usize {
    let mut best = 0;
    for (i, &s) in scores.iter().enumerate() {
        if s > scores[best] {
            best = i;
        }
    }
    best
}
