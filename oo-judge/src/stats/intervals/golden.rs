//! VowpalWabbit/estimators, commit 8ce3871, on a log of 10,000 rows with 10 actions and weights up to 203
//! (`tests/golden/logged-weights.csv.gz`: the propensity and the target's probability of the logged action, and the
//! reward). Ranges are the defaults there: weights in [0, ∞), rewards in [0, 1]; α = 0.05.

use super::*;
use crate::stats::ValueSequence;
use std::io::Read;

const ANY: Interval = Interval::new(0.0, f64::INFINITY);
const UNIT: Interval = Interval::new(0.0, 1.0);

fn log() -> (Vec<f64>, Vec<f64>) {
    let packed = &include_bytes!("../../../tests/golden/logged-weights.csv.gz")[..];
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<f64> = line.split(',').map(|c| c.parse().unwrap()).collect();
        (cells[1] / cells[0], cells[2])
    });
    let (weight, reward): (Vec<f64>, Vec<f64>) = rows.unzip();
    assert_eq!(weight.len(), 10_000);
    (weight, reward)
}

fn close(got: Interval, low: f64, high: f64) {
    assert!(
        (got.low - low).abs() < 1e-9 && (got.high - high).abs() < 1e-9,
        "{got:?}, expected {low} to {high}"
    );
}

#[test]
fn intervals_and_values_agree() {
    let (weight, reward) = log();
    let num: Vec<f64> = weight.iter().zip(&reward).map(|(w, r)| w * r).collect();
    let n = num.len();
    let (zeros, ones) = (vec![0.0; n], vec![1.0; n]);
    let ips = Rows {
        base: &zeros,
        num: &num,
        den: &ones,
    };
    let e = delta(ips, None, 0.95, Quantile::Normal);
    assert!((e.value - 0.528_939_492_404_988_9).abs() < 1e-12);
    let normal = Interval::new(e.low.unwrap(), e.high.unwrap());
    close(normal, 0.458_570_896_817_914_85, 0.599_308_087_992_063);
    let snips = delta(Rows { den: &weight, ..ips }, None, 0.95, Quantile::Normal);
    assert!((snips.value - 0.556_602_082_918_340_9).abs() < 1e-12);

    let cp = weighted_clopper_pearson(&weight, &reward, UNIT, 0.95).unwrap();
    close(cp, 0.381_662_172_351_012_85, 0.672_619_156_599_01);
    let cr = cressie_read(&weight, &reward, ANY, UNIT, 0.95).unwrap();
    close(cr, 0.458_572_934_237_506_56, 0.631_773_666_064_300_5);
    for value in [
        cressie_read_estimate(&weight, &reward, ANY).unwrap(),
        likelihood_estimate(&weight, &reward, ANY).unwrap(),
    ] {
        assert!((value - 0.545_881_895_955_759).abs() < 1e-12, "{value}");
    }
}

#[test]
fn the_confidence_sequence_agrees() {
    let (weight, reward) = log();
    let mut loose = ValueSequence::with_loose_forecasts(UNIT, 0.95);
    let mut sound = ValueSequence::new(crate::stats::Bet::Mixture, UNIT, 0.95);
    for (&w, &r) in weight.iter().zip(&reward) {
        assert!(loose.push(w, r) && sound.push(w, r));
    }
    close(
        loose.clone().interval(),
        0.374_344_816_029_525_3,
        0.693_728_370_461_686_4,
    );
    // Forecasts above 1 are rare: cutting them off moves little.
    let (sound, loose) = (sound.interval(), loose.interval());
    assert!((sound.low - loose.low).abs() < 1e-6 && (sound.high - loose.high).abs() < 1e-6);
    assert!(sound.high < loose.high, "but something: {sound:?}");
}
