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

/// Logs of 1 to 150 rows, among them ones without reward, without weight, with nothing but reward, with more weight than
/// rows; each with rewards in [0, 1] and in [−1, 2], weights in [0, ∞) and in [0, 12] (`tests/golden/small-logs.csv`).
#[test]
fn small_and_odd_logs_agree() {
    let text = include_str!("../../../tests/golden/small-logs.csv");
    let numbers = |text: &str, by: char| -> Vec<f64> { text.split(by).map(|x| x.parse().unwrap()).collect() };
    let mut compared = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(';').collect();
        let limits: Vec<f64> = cells[1..4].iter().map(|c| c.parse().unwrap()).collect();
        let (range, weights) = (Interval::new(limits[0], limits[1]), Interval::new(0.0, limits[2]));
        let rows = cells[4].split(' ').map(|row| numbers(row, ':'));
        let (weight, reward): (Vec<f64>, Vec<f64>) = rows.map(|row| (row[0], row[1])).unzip();
        let num: Vec<f64> = weight.iter().zip(&reward).map(|(w, r)| w * r).collect();
        let ips = Rows {
            base: &vec![0.0; num.len()],
            num: &num,
            den: &vec![1.0; num.len()],
        };
        let normal = delta(ips, None, 0.95, Quantile::Normal);
        let mut sequence = ValueSequence::with_loose_forecasts(range, 0.95);
        assert!(weight.iter().zip(&reward).all(|(w, r)| sequence.push(*w, *r)));
        let ends =
            |i: Option<Interval>| i.map_or_else(|| vec![f64::NEG_INFINITY, f64::INFINITY], |i| vec![i.low, i.high]);
        let got = [
            ends(normal.low.zip(normal.high).map(|(low, high)| Interval::new(low, high))),
            ends(weighted_clopper_pearson(&weight, &reward, range, 0.95)),
            ends(cressie_read(&weight, &reward, weights, range, 0.95)),
            vec![cressie_read_estimate(&weight, &reward, weights).unwrap()],
            vec![likelihood_estimate(&weight, &reward, weights).unwrap()],
            ends(Some(sequence.interval())),
        ];
        for (method, (got, expected)) in got.iter().zip(&cells[5..]).enumerate() {
            for (got, expected) in got.iter().zip(numbers(expected, ',')) {
                let near = *got == expected || (got - expected).abs() < 1e-7;
                assert!(
                    near,
                    "{}, {range:?}, {weights:?}, method {method}: {got}, not {expected}",
                    cells[0]
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 34 * 10);
}
