//! The highest score: the first of several, or all of them.

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

/// Adds `weight` to the entry of `probs` with the highest score, in equal parts where several are exactly as high.
pub fn share(scores: &[f64], weight: f64, probs: &mut [f64]) {
    let high = scores[argmax(scores)];
    let winners = scores.iter().filter(|&&s| s == high).count();
    for (p, &s) in probs.iter_mut().zip(scores) {
        if s == high {
            *p += weight / winners as f64;
        }
    }
}

/// Divides by the sum, which is 1 but for rounding: a sole candidate then has probability 1 to the last bit.
pub fn round_off(probs: &mut [f64]) {
    let sum: f64 = probs.iter().sum();
    probs.iter_mut().for_each(|p| *p /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share() {
        let mut probs = [0.1, 0.0, 0.0, 0.3];
        share(&[1.0, 2.0, 2.0, 0.0], 0.6, &mut probs);
        assert_eq!(probs, [0.1, 0.3, 0.3, 0.3]);
        assert_eq!(argmax(&[1.0, 2.0, 2.0]), 1);
    }
}
