//! What diagnostics mean, in words.

use oo_judge::estimators::diagnostics::Report;

/// A propensity as small as this is a guard against division by zero and no probability.
pub const FLOOR: f64 = 1e-6;

/// Less of the target's mass without support is not worth a word.
const SUPPORT: f64 = 1e-4;

/// Share of the rows that the effective ones should make.
const EFFECTIVE: f64 = 0.1;

/// Effective rows below which no normal interval is to be trusted.
const FEW: f64 = 100.0;

/// Above this index the variance of the weights is in doubt.
const TAIL: f64 = 0.5;

/// How many failed checks are told.
const MOST: usize = 3;

/// Share of what the target would do that the log cannot show; exact where the logger's probabilities are known,
/// otherwise that of actions which were never logged.
pub fn unsupported(report: &Report) -> f64 {
    // An empty sum is −0, which nobody wants to read.
    report.off_support.or(report.never_logged).unwrap_or(0.0) + 0.0
}

/// What stands out, the gravest first.
pub fn warnings(report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    let missing = unsupported(report);
    if missing >= SUPPORT {
        out.push(format!(
            "the log holds no support for {} of what this policy would do: no estimator can answer for that part",
            percent(missing)
        ));
    }
    if report.max_weight == 0.0 {
        out.push("this policy would have done nothing of what was logged: only a reward model speaks here".into());
        return out;
    }
    let floor = report.floor;
    if floor.propensity <= FLOOR * 1.000_001 {
        out.push(format!(
            "the smallest propensity is {:e}, in {} rows: that is a floor that somebody put there and not the probability \
             of an action, and weights made of it mean nothing",
            floor.propensity, floor.rows
        ));
    }
    if let Some(share) = report.disagreeing.filter(|share| *share > 0.0) {
        out.push(format!(
            "in {} of the rows the propensity is not the logging policy's probability of the logged action",
            percent(share)
        ));
    }
    let alarms = report.alarms();
    for check in alarms.iter().take(MOST) {
        out.push(format!(
            "the propensities do not fit the log: {} is {} and should be {} (p = {:.1e} among {} checks); they are not \
             those of the policy that logged, or it never takes some action",
            check.what,
            number(check.got),
            number(check.expected),
            check.adjusted,
            report.checks.len()
        ));
    }
    if alarms.len() > MOST {
        out.push(format!("{} more checks of the propensities fail", alarms.len() - MOST));
    }
    let effective = report.effective_rows;
    if effective < EFFECTIVE * report.rows as f64 {
        out.push(format!(
            "the effective sample size is {effective:.0} of {} rows: weighted estimates stand on few of them",
            report.rows
        ));
    } else if effective < FEW {
        out.push(format!(
            "the log is worth {effective:.0} rows only: too few for normal intervals"
        ));
    }
    if let Some(index) = report.tail_index.filter(|k| *k > TAIL) {
        out.push(format!(
            "the largest weights fall off so slowly (tail index {index:.2}; up to {TAIL} is fine) that their variance is in \
             doubt: trust estimators that clip or shrink weights, and cressie-read intervals, before normal ones"
        ));
    }
    out
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 1.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// Four digits, whatever the size.
fn number(x: f64) -> String {
    if x == 0.0 || (1e-3..1e6).contains(&x.abs()) {
        format!("{x:.4}")
    } else {
        format!("{x:.3e}")
    }
}
